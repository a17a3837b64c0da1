"""The grid a search without any knowledge needs: 13 decades of √v̂, from 1e-10 to 1e2.

They span the values that studies of Adam's ε tried, from the defaults near 1e-8 up to those where it behaves like SGD.
An optimizer that adds ε in place or inside the root gets the ε that weigh as much: two decades of ε a step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from epsgrid.numerics.bounds import EpsilonBounds
    from epsgrid.numerics.placement import Placement

NEEDS_BOUNDS = False
_DECADES = range(-10, 3)


def epsilons(bounds: EpsilonBounds | None, placement: Placement) -> tuple[float, ...]:
    """Return the 13 decades, whatever the bounds."""
    return tuple(map(placement.epsilon_of_decade, _DECADES))
