"""The learning rate that a point of a grid is trained with.

Of an entry whose magnitude is m an optimizer moves the weight by lr · (its momentum) / (m + m(ε)), with m(ε) the
magnitude at which ε has the same weight. A learning rate that is right for ε = 1e-8 hardly moves the weights at ε = 1.
Effective rates hold lr / (m50 + m(ε)) at its value for a tiny ε, lr / m50, for the entry of median magnitude m50:

    trained lr = lr · (m50 + m(ε)) / m50

It is rounded to three digits, so that a probe that was measured again and differs in the last bits gives the same
trials; a factor that is 1 to three digits leaves the learning rate as it is, all digits of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from epsgrid.errors import NoBoundsError
from epsgrid.numerics.placement import Placement

if TYPE_CHECKING:
    from epsgrid.numerics.bounds import EpsilonBounds


@dataclass(frozen=True)
class EffectiveRates:
    """Learning rates that keep the step of the median entry, m50 > 0 over all measured layers, whatever the ε."""

    median: float
    placement: Placement

    @classmethod
    def of(cls, bounds: EpsilonBounds, placement: Placement) -> EffectiveRates:
        """Return the rates of a probe; a NoBoundsError where no layer was measured."""
        from epsgrid.numerics import estimates
        from epsgrid.numerics.magnitudes import LayerStatus

        measured = [layer for layer in bounds.layers if layer.status is LayerStatus.MEASURED]
        if not measured:
            raise NoBoundsError(
                "sweep.lr_mode: effective needs the probe's median magnitude, and no layer was measured"
            )
        return cls(estimates.median(measured), placement)

    def trained(self, learning_rate: float, epsilon: float | None) -> float:
        """Return the learning rate to train with at an ε; the same one for an optimizer without.

        >>> rates = EffectiveRates(1e-3, Placement.outside())
        >>> rates.trained(0.01, 1e-8), rates.trained(0.01, 1e-3), rates.trained(0.01, 1.0)
        (0.01, 0.02, 10.0)
        """
        if epsilon is None:
            return learning_rate
        factor = (self.median + self.placement.magnitude_from_epsilon(epsilon)) / self.median
        return learning_rate if _rounded(factor) == 1.0 else _rounded(learning_rate * factor)


def _rounded(value: float) -> float:
    """Return a number to three significant digits."""
    return float(f"{value:.3g}")
