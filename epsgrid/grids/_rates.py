"""The learning rate that a point of a grid is trained with.

Of an entry of magnitude s = √v̂ an optimizer moves the weight by lr · (its momentum) / (s + b), with b the magnitude
that ε weighs as much as. A learning rate that is right for ε = 1e-8 hardly moves the weights at ε = 1. To first order
a step lowers the loss by the sum over entries of gradient times step. Effective rates hold that decrease at what it is
for a tiny ε, with s for the size of a gradient and its damping d(s), by which ε shortens the step:

    trained lr = lr · Σ s / Σ s · d(s)

over the moving entries of all measured layers. Large gradients count most, and they are those that diverge where the
learning rate is too high. A rule by the median magnitude gives rates that are too high, most of all where most entries
hardly move, as in embeddings (`scripts/check_rates.py` compares rules by sweeps).

The trained rate is rounded to three digits, so that a probe that was measured again and differs in the last bits gives
the same trials; a factor that is 1 to three digits leaves the learning rate as it is, all digits of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from epsgrid.errors import NoBoundsError
from epsgrid.numerics.placement import Placement

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from epsgrid.numerics.bounds import EpsilonBounds


@dataclass(frozen=True, eq=False)
class EffectiveRates:
    """Learning rates with which a step lowers the loss as much whatever the ε.

    `magnitudes` are distinct √v̂ > 0 of each measured layer, and `gradients` each of them times its number of entries.
    """

    magnitudes: npt.NDArray[np.float64]
    gradients: npt.NDArray[np.float64]
    placement: Placement

    @classmethod
    def of(cls, bounds: EpsilonBounds, placement: Placement) -> EffectiveRates:
        """Return the rates of a probe; a NoBoundsError where no layer was measured."""
        import numpy as np

        from epsgrid.numerics.magnitudes import LayerStatus

        measured = [layer.histogram for layer in bounds.layers if layer.status is LayerStatus.MEASURED]
        magnitudes, gradients = [], []
        for histogram in filter(None, measured):
            own, counts = histogram.moving()
            magnitudes.append(own)
            gradients.append(own * counts)
        if not magnitudes:
            raise NoBoundsError("sweep.lr_mode: effective needs the histograms of a probe, and no layer was measured")
        return cls(np.concatenate(magnitudes), np.concatenate(gradients), placement)

    def trained(self, learning_rate: float, epsilon: float | None) -> float:
        """Return the learning rate to train with at an ε; the same one for an optimizer without."""
        if epsilon is None:
            return learning_rate
        left = self.gradients @ self.placement.damping(self.magnitudes, epsilon)
        factor = float(self.gradients.sum() / left)
        return learning_rate if _rounded(factor) == 1.0 else _rounded(learning_rate * factor)


def _rounded(value: float) -> float:
    """Return a number to three significant digits."""
    return float(f"{value:.3g}")
