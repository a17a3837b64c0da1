"""ONE FILE PER STRATEGY: from bounds to the ε values that are trained.

A file `grids/NAME.py` defines `NEEDS_BOUNDS: bool` and `def epsilons(bounds, placement) -> tuple[float, ...]`, rising.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from epsgrid import plugins

if TYPE_CHECKING:  # it needs numpy, which `epsgrid sweep --dry-run` does without
    from epsgrid.numerics.bounds import EpsilonBounds
    from epsgrid.numerics.placement import Placement

NARROWED, CONVENTIONAL, DEFAULT, REFERENCE = "narrowed", "conventional", "default", "reference"
"""Names of grids as they are stored; "default" is the default ε alone, "reference" that of an optimizer without ε."""


class GridPlugin(Protocol):
    """What a file of this folder provides."""

    NEEDS_BOUNDS: bool

    def epsilons(self, bounds: EpsilonBounds | None, placement: Placement) -> tuple[float, ...]:
        """Return the grid's ε values in the optimizer's own ε, rising; `placement` says where it adds it."""
        ...


def load(name: str) -> GridPlugin:
    """Return the grid plug-in called `name`."""
    plugin: GridPlugin = plugins.load("grids", name)
    return plugin
