"""The grid a search without any knowledge needs: 13 decades of ε, from 1e-10 to 1e2.

They span the values that studies of Adam's ε tried, from the defaults near 1e-8 up to those where it behaves like SGD.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from epsgrid.numerics.bounds import EpsilonBounds

NEEDS_BOUNDS = False
_EPSILONS = (1e-10, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1e0, 1e1, 1e2)


def epsilons(bounds: EpsilonBounds | None) -> tuple[float, ...]:
    """Return the 13 decades, whatever the bounds."""
    return _EPSILONS
