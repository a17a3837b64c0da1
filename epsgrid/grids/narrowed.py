"""The published grid: the decades of ε between the measured bounds, both included."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from epsgrid.numerics.bounds import EpsilonBounds

NEEDS_BOUNDS = True


def epsilons(bounds: EpsilonBounds | None) -> tuple[float, ...]:
    """Return the decades between the bounds, which must have been measured."""
    assert bounds is not None, "the caller measures before it plans a narrowed grid"
    return bounds.decades
