"""A trial, the settings that identify it, and their hash: its id.

Two trials with the same id would give the same numbers, so the second is not run. The identity leaves out what cannot
change them: the experiment's name, where the data lie (`location_fields` of a task), how and where trials run, how the
bounds were measured, and which grids ask for the trial. Where a plug-in is code of the user's, its source is part of
the identity, and so are the names and shapes of the parameters of a model of the user's, which other code or data that
it reads may change.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from epsgrid import codec, plugins
from epsgrid.errors import UnknownNameError

if TYPE_CHECKING:  # it imports pydantic, which reading records does without
    from epsgrid.spec.model import Spec

_ID_DIGITS = 16
_ABSENT = object()
_PARTS = ("task", "model", "optimizer")


@dataclass(frozen=True)
class Trial:
    """One training run of an experiment: a point of a grid, a contender on a fresh seed, or a setting at a batch size.

    Attributes:
        id: hash of the identity; it does not depend on the grid, so grids share trials.
        learning_rate: the one to train with.
        epsilon: in the optimizer's own ε; None for an optimizer without one.
        seed: of initial weights, batch order, augmentation and dropout.
        grids: the grids that ask for this trial, in the order they were named.
        asked_rate: the learning rate of the spec that it stands for, where `sweep.lr_mode` makes it another; None
            where it is the same.
        batch_size: that of a trial at several batch sizes; 0 for a trial at the spec's own.
        rule: the scaling rule of a trial at several batch sizes, "base" for the setting that was scaled; else "".
        identity: everything that can change the trial's numbers, as plain JSON values, not to be written to. It is
            stored in the trial's own folder alone, so it is empty in what is read from elsewhere.
    """

    id: str
    learning_rate: float
    epsilon: float | None
    seed: int
    grids: tuple[str, ...] = ()
    asked_rate: float | None = None
    batch_size: int = field(default=0, metadata=codec.UNLESS_DEFAULT)
    rule: str = field(default="", metadata=codec.UNLESS_DEFAULT)
    identity: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False, metadata=codec.NEVER)

    @classmethod
    def of(cls, identity: Mapping[str, Any], grids: tuple[str, ...] = (), grid_rate: float | None = None) -> Self:
        """Return the trial of an identity; `grid_rate` is the learning rate of the spec, where it is another one."""
        rate = identity["learning_rate"]
        asked_rate = None if grid_rate == rate else grid_rate
        own_id = trial_id(identity)
        return cls(own_id, rate, identity["epsilon"], identity["seed"], grids, asked_rate, identity=identity)

    @property
    def grid_rate(self) -> float:
        """The learning rate as in the spec, by which trials are grouped."""
        return self.learning_rate if self.asked_rate is None else self.asked_rate


def identity(spec: Spec, parameters: str = "") -> dict[str, Any]:
    """Return what all trials of a spec share and that can change their numbers, as plain JSON values.

    `parameters` are those of a model of the user's; see `epsgrid.trials.building.parameters_of`.
    """
    code = plugins.sources(*plugin_names(spec))
    own = {"training": {"epochs": spec.training.epochs}}
    if spec.model is not None:
        own = {"model": spec.model.identity(), "training": spec.training.identity()}
    return {
        "task": spec.task.identity(),
        "optimizer": spec.optimizer.identity(),
        **own,
        **({"code": code} if code else {}),
        **({"parameters": parameters} if parameters else {}),
    }


def plugin_names(spec: Spec) -> tuple[str, ...]:
    """Return the names of a spec's task, model and optimizer, and of the user's function or script files."""
    return code_names({name: part.model_dump() for name in _PARTS if (part := getattr(spec, name)) is not None})


def code_names(spec: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what `plugin_names` does, of a spec as it is stored."""
    found = tuple(spec[name]["name"] for name in _PARTS if spec.get(name))
    if not spec.get("model"):  # the task trains by itself, and knows what it runs
        with suppress(UnknownNameError):  # its own code is gone
            found += plugins.load("tasks", spec["task"]["name"]).Options.code(spec["task"])
    return found


def model_label(spec: Mapping[str, Any]) -> str:
    """Return the name of the model of a spec as it is stored; for a training of the user's own, what it runs."""
    task = spec["task"]
    return str(spec["model"]["name"] if spec.get("model") else task.get("target") or task.get("run") or task["name"])


def trial_identity(
    common: Mapping[str, Any], data_checksum: str, learning_rate: float, epsilon: float | None, seed: int
) -> dict[str, Any]:
    """Return everything that can change a trial's numbers, as plain JSON values; `common` is its spec's `identity`."""
    return {
        **common,
        "data": data_checksum,
        "learning_rate": float(learning_rate),
        "epsilon": None if epsilon is None else float(epsilon),
        "seed": seed,
    }


def trial_id(identity: Mapping[str, Any]) -> str:
    """Return the id of a trial: 16 hex digits, the same on every platform and for every order of keys.

    >>> trial_id({"seed": 0, "epsilon": 1e-8}) == trial_id({"epsilon": 1e-8, "seed": 0})
    True
    """
    # Floats are written with the fewest digits that read back as the same float, which is the same everywhere.
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()[:_ID_DIGITS]


def differences(there: Mapping[str, Any], asked: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Name each field in which two nested identities differ; none where they are equal.

    >>> differences({"training": {"epochs": 2}, "seed": 0}, {"training": {"epochs": 3}, "seed": 0})
    ['training.epochs: 2 there, 3 asked']
    """
    found = []
    for key in dict.fromkeys((*there, *asked)):
        old, new = there.get(key, _ABSENT), asked.get(key, _ABSENT)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += differences(old, new, f"{prefix}{key}.")
        elif old != new:
            before, after = ("not" if value is _ABSENT else codec.shown(value) for value in (old, new))
            found.append(f"{prefix}{key}: {before} there, {after} asked")
    return found
