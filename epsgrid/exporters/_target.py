"""Whose ε is handed over: that of the run's optimizer, or that of another one that it is converted for."""

from __future__ import annotations

from dataclasses import dataclass

from epsgrid.numerics.magnitudes import Bound
from epsgrid.numerics.placement import Placement, convert


@dataclass(frozen=True)
class Target:
    """Whose ε it is.

    Attributes:
        name: of the optimizer, such as "adam" or "keras-adam".
        placement: where it adds its ε, at the step of the measurement.
        source: where the run's optimizer does.
        converted: how the one becomes the other, in words; None where they are the same optimizer.
    """

    name: str
    placement: Placement
    source: Placement
    converted: str | None = None

    @property
    def description(self) -> str:
        """Where ε enters, in words and symbols."""
        return self.placement.description

    @property
    def compared_with(self) -> str:
        """What was measured."""
        return self.source.compared_with

    def epsilon(self, bound: Bound) -> float:
        """Return a bound as an ε of the target, not rounded."""
        return bound.epsilon if self.converted is None else convert(bound.epsilon, self.source, self.placement)
