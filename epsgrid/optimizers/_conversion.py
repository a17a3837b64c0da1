"""Placements by the common names of optimizers: this project's, and those of other frameworks."""

from __future__ import annotations

from pydantic import ValidationError

from epsgrid import optimizers, plugins
from epsgrid.errors import SpecError, UnknownNameError
from epsgrid.numerics.placement import FRAMEWORKS, Placement

_ALIASES = {
    "fairseq": "fairseq-adam",
    "keras": "keras-adam",
    "fbgemm": "fbgemm-rowwise-adagrad",
    "optax": "optax-adam",
    "optax-eps-root": "optax-adam-eps-root",
    "tf-keras": "tf-keras-adam",
    "rmsproptf": "timm-rmsproptf",
    "torch": "adam",
    "torchrec-rowwise-adagrad": "fbgemm-rowwise-adagrad",
}
"""A framework's name alone means its Adam."""


SAME_SECOND_MOMENT = frozenset({"adam", "adamw", "eadam", "nadam", "radam"})
"""Optimizers whose v̂ is the same average of squared gradients: the bounds of one are those of another, converted."""


def convertible() -> tuple[str, ...]:
    """Return the names that `placement_of` knows, without aliases: our optimizers that have an ε, then frameworks'."""
    ours = [name for name in plugins.names("optimizers") if optimizers.load(name).DEFAULT_EPSILON]
    return (*ours, *FRAMEWORKS)


def placement_of(name: str, beta2: float | None, step: float) -> Placement:
    """Return where an optimizer adds its ε.

    Args:
        name: one of `convertible`, or an alias; torch's optimizers may be called `torch-NAME` too.
        beta2: decay of v, under whatever name the optimizer has it; None for its default.
        step: the step t ≥ 1 to convert at; infinite for the long run.

    Raises:
        UnknownNameError: no such optimizer; the valid names are listed.
        NoBoundsError: the optimizer has no ε.
        SpecError: `beta2` is out of range for it.
    """
    canonical = _ALIASES.get(name, name).removeprefix("torch-")
    variant = FRAMEWORKS.get(canonical)
    try:
        if variant is not None:
            default_beta2, place = variant
            return place(default_beta2 if beta2 is None else beta2, step)
        if canonical not in plugins.names("optimizers") and canonical not in optimizers.UNSUPPORTED:
            valid = (*convertible(), *_ALIASES)
            raise UnknownNameError(f"unknown optimizer {name!r}{plugins.suggestion(name, valid)}")
        plugin = optimizers.require_epsilon(canonical)
        values = plugin.Options(name=canonical).model_dump()
        if beta2 is not None and "betas" in values:
            values["betas"] = (values["betas"][0], beta2)
        elif beta2 is not None:
            values |= {field: beta2 for field in ("alpha", "rho") if field in values}
        return plugin.placement(plugin.Options(**values), step)
    except (ValidationError, ValueError) as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ") if isinstance(error, ValidationError) else error
        raise SpecError(f"{name}: beta2 {beta2!r}: {reason}") from error
