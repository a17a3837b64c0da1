"""The options of a task, a model and an optimizer, and what all groups of settings in a spec have in common.

Each plug-in brings its own options class, `Options` in its file, so that their fields differ from spec to spec.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from epsgrid import plugins

PositiveFloat = Annotated[float, Field(gt=0)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]


class Frozen(BaseModel):
    """A group of settings: unknown keys refused, NaN and infinity refused, unchangeable once made.

    The text below a field is its description, which `epsgrid show --reference`, `init` and `schema` print.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True, use_attribute_docstrings=True
    )


class PluginOptions(Frozen):
    """Options of one plug-in; `name` is the stem of its file, or a dotted path `package.module:NAME`.

    `location_fields` say where something lies; they cannot change a trial's numbers and are no part of its identity.
    """

    location_fields: ClassVar[frozenset[str]] = frozenset()

    name: str = Field(min_length=1)
    """One of the names above, or `package.module:NAME` for your own."""

    def identity(self) -> dict[str, Any]:
        """Return the options that can change a trial's numbers, as plain JSON values."""
        return self.model_dump(mode="json", exclude=set(self.location_fields))


class TaskOptions(PluginOptions):
    """Options of a task: which data, which split, how the data are varied.

    `carries_state` says that a model of the task carries a state from batch to batch, so that batches have an order.
    `trains_itself` says that the task is the user's own training, with a model, an optimizer and data of its own.
    """

    carries_state: ClassVar[bool] = False
    trains_itself: ClassVar[bool] = False

    @classmethod
    def settle(cls, document: dict[str, Any], beside: Path) -> None:
        """Write into a spec's plain values what this task need not be told; `beside` is the folder of the spec."""

    @classmethod
    def code(cls, options: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the names by which `epsgrid.plugins.sources` finds the code of the user's that stored options run."""
        return ()


class ModelOptions(PluginOptions):
    """Options of a model.

    `added_fields` came after the model's first version; at their defaults they are no part of a trial's identity, so
    that trials keep their ids.
    """

    added_fields: ClassVar[frozenset[str]] = frozenset()

    def identity(self) -> dict[str, Any]:
        """Return the options that can change a trial's numbers, as plain JSON values."""
        unused = {name for name in self.added_fields if getattr(self, name) == type(self).model_fields[name].default}
        return {name: value for name, value in super().identity().items() if name not in unused}


FILLED_IN = ("inputs", "outputs")
"""Parameters of a callable that the task fills in where the spec does not; see `epsgrid.models`."""

_KINDS = inspect.Parameter


class CallableOptions(ModelOptions):
    """The keywords of a class or function of the user's that makes a model; what is not given it has a default for."""

    model_config = ConfigDict(extra="allow")

    @model_validator(mode="after")
    def _the_callable_takes_them(self) -> CallableOptions:
        make, given = plugins.load("models", self.name), self.model_extra or {}
        if hasattr(make, "state_dict") and not isinstance(make, type):
            raise ValueError(f"{self.name} is a model already; name its class, or a function that returns a new one")
        try:
            parameters = inspect.signature(make).parameters
        except (TypeError, ValueError):  # what is written in C may have none
            return self
        kinds = {name: each.kind for name, each in parameters.items()}
        named = [name for name, kind in kinds.items() if kind in (_KINDS.POSITIONAL_OR_KEYWORD, _KINDS.KEYWORD_ONLY)]
        if (wrong := [key for key in given if key not in named]) and _KINDS.VAR_KEYWORD not in kinds.values():
            valid = plugins.suggestion(wrong[0], tuple(named)) if named else ": it takes nothing"
            raise ValueError(f"{self.name} has no parameter {wrong[0]!r}{valid}")
        for name in named:
            if parameters[name].default is _KINDS.empty and name not in (*given, *FILLED_IN):
                raise ValueError(f"{self.name} needs {name}: write `model: {{name: {self.name}, {name}: …}}`")
        return self


class OptimizerOptions(PluginOptions):
    """Options of an optimizer, without learning rate and ε: those are what a sweep varies."""
