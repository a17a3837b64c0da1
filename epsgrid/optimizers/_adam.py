"""What Adam and its kin have in common: the second moment and the bias correction before ε."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from epsgrid.optimizers import SecondMoment


def corrected_second_moment(state: Mapping[str, Any], group: Mapping[str, Any]) -> SecondMoment | None:
    """Return v with β₂ and the step, for v̂ = v / (1 − β₂ᵗ); None before the first step."""
    return corrected("exp_avg_sq", state, group)


def corrected(entry: str, state: Mapping[str, Any], group: Mapping[str, Any]) -> SecondMoment | None:
    """Do the same for a second moment that is kept in another entry of the state."""
    if entry not in state:
        return None
    _, beta2 = group["betas"]
    return SecondMoment(state[entry], float(beta2), state["step"], lasting=True)
