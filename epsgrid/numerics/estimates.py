"""Point estimates of ε from the histograms of a probe, without any sweep.

Each is a formula that stands for an idea of what a good ε does, a magnitude b in √v̂ units that is turned into the
optimizer's own ε. An entry with √v̂ < b mostly follows SGD, one with √v̂ > b is mostly adapted.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from epsgrid.numerics.magnitudes import LayerStatistics, LayerStatus
from epsgrid.numerics.placement import Placement


@dataclass(frozen=True)
class PointEstimate:
    """One ε, in the optimizer's own ε, chosen by a formula.

    `magnitude` is b, in √v̂ units, and `decade` the power of ten to train with, as `Bound.decade`.
    """

    name: str
    formula: str
    epsilon: float
    decade: float
    magnitude: float


def _median(layers: Sequence[LayerStatistics]) -> float:
    """Return b = the median of √v̂ over the entries of all layers, at least one: one entry, one vote.

    Idea: half of all weights are adapted, half follow SGD. Large layers decide.
    """
    return _half_of_votes(layers, per_layer=False)


def _middle(layers: Sequence[LayerStatistics]) -> float:
    """Return b = √(b_low · b_high): with nothing known but the range, its middle loses least in the worst case."""
    low = min(layer.low for layer in layers if layer.low is not None)
    return math.sqrt(low) * math.sqrt(_upper(layers))  # the product of two small magnitudes might vanish


def _balanced(layers: Sequence[LayerStatistics]) -> float:
    """Return the b at which the mean over layers of the adapted share, that of entries with √v̂ > b, falls to one half.

    Idea: as `_median`, but each layer has one vote, whatever its number of entries.
    """
    return _half_of_votes(layers, per_layer=True)


def _layers_mean(layers: Sequence[LayerStatistics]) -> float:
    """Return b = the geometric mean over layers of their medians of √v̂: one layer, one vote."""
    return math.exp(math.fsum(math.log(_median([layer])) for layer in layers) / len(layers))


def _upper(layers: Sequence[LayerStatistics]) -> float:
    """Return b = b_high: the least ε at which nearly all entries of every layer mostly follow SGD with momentum."""
    return max(layer.high for layer in layers if layer.high is not None)


_FORMULAS: dict[str, tuple[str, Callable[[Sequence[LayerStatistics]], float]]] = {
    "middle": ("b = √(b_low · b_high)", _middle),
    "median": ("b = median of √v̂ over all entries", _median),
    "layers": ("b = geometric mean over layers of median √v̂", _layers_mean),
    "balanced": ("b with mean over layers of P(√v̂ > b) = 1/2", _balanced),
    "upper": ("b = b_high", _upper),
}
"""Formula in symbols and function of the measured layers, by name of the estimate."""


def point_estimates(
    layers: Sequence[LayerStatistics], placement: Placement, leave_out: Collection[str] = ()
) -> tuple[PointEstimate, ...]:
    """Return an ε by each formula in `_FORMULAS`, in that order; none where no layer remains.

    Layers, with histograms, that are not measured have no say, nor have those named in `leave_out`, such as those whose
    gradients are only rounding noise.
    """
    chosen = [layer for layer in layers if layer.status is LayerStatus.MEASURED and layer.name not in leave_out]
    estimates = []
    for name, (formula, magnitude_by) in _FORMULAS.items() if chosen else ():
        magnitude = magnitude_by(chosen)
        epsilon = placement.epsilon_from_magnitude(magnitude)
        decade = placement.epsilon_of_decade(placement.decade_of(epsilon))
        estimates.append(PointEstimate(name, formula, epsilon, decade, magnitude))
    return tuple(estimates)


def _half_of_votes(layers: Sequence[LayerStatistics], *, per_layer: bool) -> float:
    """Return the least magnitude above which less than half of the votes lie; exact, whatever the layers' scales.

    The finite non-zero entries vote, each at its bin's midpoint; `per_layer` gives each layer one vote in all.
    """
    tables = []
    for layer in layers:
        histogram = layer.histogram
        assert histogram is not None, f"layer {layer.name!r} is measured but has no histogram"
        magnitudes, counts = histogram.moving()
        tables.append((magnitudes, np.cumsum(counts)))

    def is_beyond_half(magnitude: float) -> bool:
        above = everything = Fraction(0)
        for magnitudes, ends in tables:
            total, index = int(ends[-1]), int(np.searchsorted(magnitudes, magnitude, side="right"))
            up_to = int(ends[index - 1]) if index else 0
            above += Fraction(total - up_to, total if per_layer else 1)
            everything += 1 if per_layer else total
        return 2 * above < everything

    candidates = np.unique(np.concatenate([magnitudes for magnitudes, _ in tables]))
    return float(candidates[bisect.bisect_left(candidates, True, key=is_beyond_half)])
