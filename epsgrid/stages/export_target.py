"""Find whose ε is meant: that of the run's optimizer, or that of its counterpart in another framework.

The conversion is that of `epsgrid convert`, at the step at which the bounds were measured and with the β₂ of the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from epsgrid.errors import UnknownNameError
from epsgrid.exporters._target import Target
from epsgrid.numerics.placement import FRAMEWORKS
from epsgrid.optimizers._conversion import placement_of
from epsgrid.store.records import ProbeRecord

OWN = "torch"
_NAMES = ("fairseq", "keras", "optax", "tf-keras")
_SAME_EPSILON = {"adamw": "adam", "amsgrad": "adam"}
"""Optimizers that are another one as far as ε goes, in every framework: a decay of the weights, a maximum over v̂."""


def target_of(framework: str | None, optimizer: Mapping[str, Any], probe: ProbeRecord) -> Target:
    """Return whose ε is meant.

    Args:
        framework: None or "torch" for the run's own optimizer; "keras", "optax", "tf-keras" or "fairseq" for the one
            of the same name there; or any name that `epsgrid convert` knows, such as "keras-rmsprop".
        optimizer: the optimizer's options in the run's spec, with its name.
        probe: of the run.

    Raises:
        UnknownNameError: no such framework or optimizer, or the framework has no such optimizer; says which there are.
        NoBoundsError: the optimizer named has no ε.
        SpecError: the β₂ of the run is none for it.
    """
    own = str(optimizer["name"])
    if framework in (None, OWN, own, f"{OWN}-{own}"):
        return Target(own, probe.placement, probe.placement)
    assert framework is not None
    name = _counterpart(framework, own) if framework in _NAMES else framework
    beta2 = _beta2(optimizer)
    placement = placement_of(name, beta2, probe.steps)
    decay = "its own β₂" if beta2 is None else f"β₂ = {beta2:g}"
    return Target(name, placement, probe.placement, f"the same weight at step {probe.steps:,} with {decay}")


def _counterpart(framework: str, optimizer: str) -> str:
    """Return a framework's optimizer of the same name."""
    known = [name for name in FRAMEWORKS if name.startswith(f"{framework}-")]
    for name in (optimizer, _SAME_EPSILON.get(optimizer, optimizer)):
        if f"{framework}-{name}" in known:
            return f"{framework}-{name}"
    raise UnknownNameError(
        f"no {optimizer!r} is known of {framework}; name another optimizer in full: {', '.join(known)}"
    )


def _beta2(optimizer: Mapping[str, Any]) -> float | None:
    """Return the decay of v by whatever name a spec has it; None where the optimizer has none, or none we know."""
    betas = optimizer.get("betas")
    if isinstance(betas, list | tuple) and len(betas) > 1:
        return float(betas[1])
    return next((float(optimizer[field]) for field in ("alpha", "rho") if field in optimizer), None)
