"""Predict √v̂ of a model that is too large to probe, from small ones: a power law for each layer.

Let s be what varies, such as the width. For each layer the tails and the median of √v̂ are fitted as m = c · s^p, on
log-log scale by least squares, on the mean over seeds at each size. The interval is that of a prediction, by Student's
t: it holds the error of the fit at the target and one probe's own deviation from the law. A layer with three or four
sizes says little about that deviation, so each layer's variance is drawn towards that of all layers (as limma does for
genes: Smyth 2004, doi 10.2202/1544-6115.1027, with the weight of its prior fixed).

**A law that does not fit is refused.** The largest probed size is held out and predicted from the others; a layer whose
value there lies outside its interval, and further off than a fifth of a decade, sets no bound.

Gradients of hidden matrices fall with the width and those of the embedding do not (Everett et al., arXiv 2407.05872),
so one factor for all layers, such as 1/√width, is not enough.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from epsgrid.errors import NoBoundsError
from epsgrid.numerics.bounds import EpsilonBounds, Reliability, estimate_bounds
from epsgrid.numerics.magnitudes import LayerStatistics, LayerStatus
from epsgrid.numerics.placement import Placement
from epsgrid.numerics.precision import power
from epsgrid.numerics.statistics import t_quantile

_STATISTICS = ("low", "median", "high")
_FEWEST_SIZES = 3
_PRIOR_FREEDOM = 4
"""Degrees of freedom that the variance of all layers weighs in that of one."""
_TOLERATED = 0.2
"""Decades by which a held-out size may miss its prediction, whatever the interval says."""
_LEAST_DEVIATION = 0.01
"""Decades below which no deviation from a law is believed: bins of a histogram are that fine."""


@dataclass(frozen=True)
class Law:
    """The power law of one statistic of a layer, and what it predicts.

    Attributes:
        layer, statistic: "low", "median" or "high", whose law it is.
        exponent: p of m ∝ s^p.
        predicted: magnitude at the target, in √v̂ units.
        decades: half-width of the 95 % prediction interval of log10 of it.
        held_out: log10 of the largest probed size's value over its prediction from the smaller ones; None with fewer
            than four sizes.
        refused: why the law is not used; empty where it is.
    """

    layer: str
    statistic: str
    exponent: float
    predicted: float
    decades: float
    held_out: float | None
    refused: str = ""

    def __str__(self) -> str:
        """Return the law in a line."""
        value = f"√v̂ {power(float(f'{self.predicted:.2g}'))} (×/÷ {10**self.decades:.2g})"
        law = f"{self.layer}, {self.statistic}: {value}, exponent {self.exponent:+.2f}"
        return f"{law}; refused: {self.refused}" if self.refused else law


@dataclass(frozen=True)
class Prediction:
    """What is predicted at a target that was not probed.

    Attributes:
        at: the target.
        sizes: that were probed, rising.
        bounds: predicted, with all layers; use them like measured ones. Their confidence is at most medium.
        laws: three for each layer that was measured at every size.
    """

    at: float
    sizes: tuple[float, ...]
    bounds: EpsilonBounds
    laws: tuple[Law, ...]

    @property
    def refused(self) -> tuple[Law, ...]:
        """The laws that do not fit."""
        return tuple(law for law in self.laws if law.refused)

    def law(self, layer: str, statistic: str) -> Law:
        """Return the law of a layer's "low", "median" or "high"; KeyError where there is none."""
        for law in self.laws:
            if (law.layer, law.statistic) == (layer, statistic):
                return law
        raise KeyError(f"{layer}, {statistic}")

    def __str__(self) -> str:
        """Return the bounds, then what they rest on."""
        sizes = ", ".join(f"{size:g}" for size in self.sizes)
        layers = {law.layer for law in self.laws}
        lines = [f"predicted at {self.at:g} from {sizes}, {len(layers)} layers", str(self.bounds)]
        return "\n".join([*lines, *(str(law) for law in self.refused)])


def predict(measured: Mapping[float, EpsilonBounds | Sequence[EpsilonBounds]], at: float) -> Prediction:
    """Predict the bounds of a model from those of smaller ones.

    Args:
        measured: by size, such as the width or the batch size: the bounds of a probe, an observer or a checkpoint, or
            several of different seeds. At least three sizes; layers are matched by their names.
        at: the size to predict for, > 0.

    Returns:
        Bounds, damping and groups of parameters go by the prediction's `bounds`, whose layers have the shapes and the
        histograms of the largest probed size, shifted as their median is predicted to.

    Raises:
        NoBoundsError: fewer than three sizes, bounds of different optimizers or tails, or no layer whose law fits.
    """
    by_size = {
        float(size): (given,) if isinstance(given, EpsilonBounds) else tuple(given) for size, given in measured.items()
    }
    sizes = tuple(sorted(by_size))
    if len(sizes) < _FEWEST_SIZES or sizes[0] <= 0 or not 0 < at < math.inf:
        raise NoBoundsError(
            f"a prediction needs bounds of at least {_FEWEST_SIZES} sizes above 0, and a target above 0;"
            f" got sizes {', '.join(f'{size:g}' for size in sizes) or 'none'} and target {at:g}"
        )
    every = [bounds for size in sizes for bounds in by_size[size]]
    placements = {_placement(bounds) for bounds in every}
    if len(placements) > 1 or len({bounds.tail_fraction for bounds in every}) > 1:
        raise NoBoundsError("the bounds are of different optimizers or tail fractions; measure all sizes alike")
    template = by_size[sizes[-1]][0]
    points = {
        (layer.name, statistic): values
        for layer in template.layers
        for statistic in _STATISTICS
        if (values := _values(by_size, sizes, layer.name, statistic)) is not None
    }
    laws = tuple(_laws(sizes, points, at))
    layers = tuple(_predicted(layer, [law for law in laws if law.layer == layer.name]) for layer in template.layers)
    if not any(layer.status is LayerStatus.MEASURED for layer in layers):
        reasons = "; ".join(str(law) for law in laws if law.refused) or "no layer was measured at every size"
        raise NoBoundsError(f"no layer follows a power law over {', '.join(f'{s:g}' for s in sizes)}: {reasons[:500]}")
    bounds = estimate_bounds(layers, placements.pop(), template.tail_fraction)
    return Prediction(float(at), sizes, replace(bounds, reliability=_reliability(sizes, at, bounds, laws)), laws)


def _placement(bounds: EpsilonBounds) -> Placement:
    """Return the power law between ε and magnitude, which one end of the bounds tells."""
    factor = bounds.low.epsilon / bounds.low.magnitude**bounds.step
    return Placement("", "", exponent=bounds.step, factor=float(f"{factor:.9g}"))


def _values(
    by_size: Mapping[float, Sequence[EpsilonBounds]], sizes: Sequence[float], name: str, statistic: str
) -> tuple[float, ...] | None:
    """Return the mean log10 of a layer's statistic at each size; None where a size has no value."""
    found = []
    for size in sizes:
        logs = []
        for bounds in by_size[size]:
            layer = next((each for each in bounds.layers if each.name == name), None)
            if layer is not None and layer.status is LayerStatus.MEASURED:
                histogram = layer.histogram
                value = (histogram and histogram.median) if statistic == "median" else getattr(layer, statistic)
                if value:
                    logs.append(math.log10(value))
        if not logs:
            return None
        found.append(fmean(logs))
    return tuple(found)


@dataclass(frozen=True)
class _Line:
    """A least-squares line through (log10 s, log10 m)."""

    slope: float
    mean_x: float
    mean_y: float
    spread: float
    squares: float
    n: int

    @classmethod
    def through(cls, x: Sequence[float], y: Sequence[float]) -> _Line:
        mean_x, mean_y = fmean(x), fmean(y)
        spread = math.fsum((each - mean_x) ** 2 for each in x)
        slope = math.fsum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / spread
        squares = math.fsum((b - mean_y - slope * (a - mean_x)) ** 2 for a, b in zip(x, y, strict=True))
        return cls(slope, mean_x, mean_y, spread, squares, len(x))

    def at(self, x: float) -> float:
        return self.mean_y + self.slope * (x - self.mean_x)

    def half_width(self, x: float, common: float) -> float:
        """Return half the 95 % prediction interval at x, where the variance of all layers is `common`."""
        freedom = self.n - 2
        variance = (self.squares + _PRIOR_FREEDOM * common) / (freedom + _PRIOR_FREEDOM)
        factor = 1 + 1 / self.n + (x - self.mean_x) ** 2 / self.spread
        return t_quantile(freedom + _PRIOR_FREEDOM) * math.sqrt(max(variance, _LEAST_DEVIATION**2) * factor)


def _laws(sizes: Sequence[float], points: Mapping[tuple[str, str], Sequence[float]], at: float) -> Iterator[Law]:
    """Yield the law of each statistic, refused where the largest size contradicts the smaller ones."""
    x, target = [math.log10(size) for size in sizes], math.log10(at)
    whole = {place: _Line.through(x, y) for place, y in points.items()}
    parts = {place: _Line.through(x[:-1], y[:-1]) for place, y in points.items()} if len(x) > _FEWEST_SIZES else {}
    for (layer, statistic), line in whole.items():
        held_out, refused = None, ""
        if part := parts.get((layer, statistic)):
            held_out = points[layer, statistic][-1] - part.at(x[-1])
            allowed = max(part.half_width(x[-1], _common(parts, statistic)), _TOLERATED)
            if abs(held_out) > allowed:
                refused = f"at {sizes[-1]:g} it is off by {held_out:+.2f} decades, more than {allowed:.2f}"
        width = line.half_width(target, _common(whole, statistic))
        yield Law(layer, statistic, line.slope, 10 ** line.at(target), width, held_out, refused)


def _common(lines: Mapping[tuple[str, str], _Line], statistic: str) -> float:
    """Return the variance around the laws of one statistic, over all layers."""
    own = [line for (_, each), line in lines.items() if each == statistic]
    return math.fsum(line.squares for line in own) / sum(line.n - 2 for line in own)


def _predicted(layer: LayerStatistics, laws: Sequence[Law]) -> LayerStatistics:
    """Return a layer of the largest probed size as it is predicted; without a say where a law of it is missing."""
    if not laws or any(law.refused for law in laws):
        return layer.left_out() if layer.status is LayerStatus.MEASURED else layer
    predicted = {law.statistic: law.predicted for law in laws}
    histogram = layer.histogram
    if histogram is not None and histogram.median and "median" in predicted:
        # v̂ = v · scale: the counts stay, and every √v̂ is multiplied by the same number.
        shift = predicted["median"] / histogram.median
        histogram = replace(histogram, scale=histogram.scale * shift**2)
    return replace(layer, low=predicted["low"], high=predicted["high"], histogram=histogram)


def _reliability(sizes: Sequence[float], at: float, bounds: EpsilonBounds, laws: Sequence[Law]) -> Reliability:
    """Judge a prediction: medium at best, low where an end may lie more than a decade off, or a refused layer there."""
    by_place = {(law.layer, law.statistic): law for law in laws}
    widths = [by_place[end.layers[0], name].decades for name, end in (("low", bounds.low), ("high", bounds.high))]
    beyond = sorted(
        {law.layer for law in laws if law.refused and not bounds.low.magnitude < law.predicted < bounds.high.magnitude}
    )
    reasons = []
    if beyond:
        reasons.append(f"{', '.join(beyond[:3])} would set a bound, and follows no power law")
    low, high = widths
    reasons.append(
        f"predicted at {at:g} from {', '.join(f'{size:g}' for size in sizes)}, not measured: the lower end within"
        f" a factor of {power(float(f'{10**low:.2g}'))}, the upper within {power(float(f'{10**high:.2g}'))}"
    )
    return Reliability("low" if beyond or max(widths) > 1 else "medium", tuple(reasons))
