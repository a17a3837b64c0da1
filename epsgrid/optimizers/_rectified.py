"""Rectification of the first steps (Liu et al. 2020), as far as AdaBelief uses it, in plain numbers."""

from __future__ import annotations

import math

SHORTEST = 5
"""Length of the average from which on a rectified update divides by its second moment."""


def longest_average(beta2: float) -> float:
    """Return ρ∞ = 2/(1 − β₂) − 1, the length that an average with decay β₂ reaches in the long run."""
    return 2 / (1 - beta2) - 1


def rectification(beta2: float, step: int) -> float | None:
    """Return the factor r of a rectified step, or None where there is to be no denominator yet.

    As AdaBelief's code has it, which starts to divide at ρₜ ≥ 5; RAdam's authors and torch do at ρₜ > 5.
    """
    longest = longest_average(beta2)
    length = longest - 2 * step * beta2**step / (1 - beta2**step)
    if length < SHORTEST:
        return None
    return math.sqrt((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length))


def outer_weight(beta2: float, step: float, *, rectify: bool) -> float:
    """Return the weight of an ε outside the root: a rectified update adds it before the bias correction."""
    return 1 / math.sqrt(1 - beta2**step) if rectify else 1.0


def require_rectifiable(beta2: float) -> None:
    """Refuse a β₂ with which a rectified optimizer never divides by its second moment.

    Raises:
        ValueError: the length of its average never passes 5.
    """
    longest = longest_average(beta2)
    if longest <= SHORTEST:
        raise ValueError(
            f"betas[1]: {beta2} averages over at most {longest:.3g} steps; with {SHORTEST} or fewer the rectified"
            " update never divides by the second moment, and ε has no effect; take more than 2/3"
        )
