"""The published grid: the decades between the measured bounds, both included."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from epsgrid.numerics.bounds import EpsilonBounds
    from epsgrid.numerics.placement import Placement

NEEDS_BOUNDS = True


def epsilons(bounds: EpsilonBounds | None, placement: Placement) -> tuple[float, ...]:
    """Return the decades between the bounds, which must have been measured."""
    assert bounds is not None, "the caller measures before it plans a narrowed grid"
    return bounds.decades
