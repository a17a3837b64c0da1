"""Predict √v̂ of a model that is too large to probe, from small ones: a law for each layer.

Let s be what varies, such as the width. For each layer the tails and the median of √v̂ are fitted as m = c · s^p, on
log-log scale by least squares, on the mean over seeds at each size. Over batch sizes B no power law holds from noise to
signal, and m² = a + b/B is fitted in its place, of the full gradient and of noise, a and b ≥ 0.

The exponents of layers of one kind are drawn together as far as their scatter is no more than noise. The interval is
that of a prediction, by Student's t: it holds the error of the fit at the target and one probe's own deviation from the
law, seeds included. A layer with three or four sizes says little about its variance, which is therefore drawn towards
that of all layers (as limma does for genes: Smyth 2004, doi 10.2202/1544-6115.1027, with a prior of fixed weight).

**A law that does not fit is refused.** The largest probed size is held out and predicted from the others; a layer whose
value there lies outside its interval, and further off than a factor of two, sets no bound. Nor does one that is
rounding noise at some size.

Layers are matched by name. Where their number varies, as `layers.0` to `layers.7` do with the depth, a layer is
compared with those at the same relative position, from 0 for the first to 1 for the last, interpolated between two.

Gradients of hidden matrices fall with the width and those of the embedding do not (Everett et al., arXiv 2407.05872),
so one factor for all layers, such as 1/√width, is not enough.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median, variance
from typing import Any

import numpy as np

from epsgrid.errors import NoBoundsError
from epsgrid.numerics.bounds import EpsilonBounds, Reliability, estimate_bounds
from epsgrid.numerics.magnitudes import OTHER, LayerStatistics, LayerStatus
from epsgrid.numerics.placement import Placement
from epsgrid.numerics.precision import power
from epsgrid.numerics.statistics import t_quantile

_STATISTICS = ("low", "median", "high")
FEWEST_SIZES = 3
_FEWEST_LAYERS = 4
"""Layers of a kind from which on their exponents are drawn together."""
_PRIOR_FREEDOM = 2
"""Degrees of freedom that the variance of all layers weighs in that of one; few, since a seed shifts them all alike."""
_TOLERATED = math.log10(2)
"""Decades by which a held-out size may miss its prediction, whatever the interval says."""
_LEAST_DEVIATION = 0.01
"""Decades below which no deviation from a law is believed: bins of a histogram are that fine."""
_INDEX = re.compile(r"(?:^|(?<=\.))\d+(?=\.|$)")

_Members = Sequence[tuple[str, float]]
"""The layers of one size that a layer of the target is compared with, and their weights."""


@dataclass(frozen=True)
class Law:
    """The law of one statistic of a layer, and what it predicts.

    Attributes:
        layer, statistic: "low", "median" or "high", whose law it is.
        exponent: p of m ∝ s^p; over batch sizes the slope of log m at the target.
        exponent_within: half-width of its 95 % interval.
        predicted: magnitude at the target, in √v̂ units.
        decades: half-width of the 95 % prediction interval of log10 of it.
        held_out: log10 of the largest probed size's value over its prediction from the smaller ones; None with fewer
            than four sizes.
        refused: why the law is not used; empty where it is.
    """

    layer: str
    statistic: str
    exponent: float
    exponent_within: float
    predicted: float
    decades: float
    held_out: float | None
    refused: str = ""

    def __str__(self) -> str:
        """Return the law in a line."""
        value = f"√v̂ {power(float(f'{self.predicted:.2g}'))} (×/÷ {10**self.decades:.2g})"
        law = f"{self.layer}, {self.statistic}: {value}, exponent {self.exponent:+.2f} ± {self.exponent_within:.2f}"
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

    @property
    def held_out(self) -> tuple[float, float] | None:
        """Decades by which the largest probed size was missed, median and worst; None with fewer than four sizes."""
        errors = [abs(law.held_out) for law in self.laws if law.held_out is not None]
        return (median(errors), max(errors)) if errors else None

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


def predict(
    measured: Mapping[float, EpsilonBounds | Sequence[EpsilonBounds]],
    at: float,
    *,
    model: Any = None,
    placement: Placement | None = None,
    batch_sizes: bool = False,
) -> Prediction:
    """Predict the bounds of a model from those of smaller ones.

    Args:
        measured: by size, such as the width or the batch size: the bounds of a probe, an observer or a checkpoint, or
            several of different seeds. At least three sizes; from four on the laws are tested.
        at: the size to predict for, > 0.
        model: a torch.nn.Module of that size, on torch's meta device if it is large. The predicted layers have the
            names and shapes of its parameters; without it, those of the largest probed size.
        placement: where ε enters the optimizer there; left out, as in the measured bounds.
        batch_sizes: whether the sizes are batch sizes, over which √v̂ goes from noise to signal.

    Returns:
        The prediction; damping and groups of parameters go by its `bounds`, whose layers have the histograms of the
        largest probed size, shifted as their median is predicted to.

    Raises:
        NoBoundsError: fewer than three sizes, bounds of different optimizers or tails, or no layer whose law fits.
    """
    by_size = {
        float(size): (given,) if isinstance(given, EpsilonBounds) else tuple(given) for size, given in measured.items()
    }
    sizes = tuple(sorted(by_size))
    if len(sizes) < FEWEST_SIZES or sizes[0] <= 0 or not 0 < at < math.inf:
        raise NoBoundsError(
            f"a prediction needs bounds of at least {FEWEST_SIZES} sizes above 0, and a target above 0;"
            f" got sizes {', '.join(f'{size:g}' for size in sizes) or 'none'} and target {at:g}"
        )
    probes = [by_size[size] for size in sizes]
    every = [bounds for each in probes for bounds in each]
    placements = {placement or _placement(bounds) for bounds in every}
    if len(placements) > 1 or len({bounds.tail_fraction for bounds in every}) > 1:
        raise NoBoundsError("the bounds are of different optimizers or tail fractions; measure all sizes alike")
    template = {layer.name: layer for layer in probes[-1][0].layers}
    shapes = {name: layer.shape for name, layer in template.items()}
    if model is not None:
        shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    families, own = [_families([layer.name for layer in each[0].layers]) for each in probes], _families(shapes)
    places = {name: place for name in shapes if (place := _place(name, own, families))}
    tail = every[0].tail_fraction
    shares: dict[str, float] = {}
    for judged in (each.reliability for each in every if each.reliability):
        shares |= {name: max(share, shares.get(name, 0.0)) for name, share in judged.noise.items()}
    noise = {
        name: share
        for name, place in places.items()
        if (share := max(shares.get(layer, 0.0) for members in place for layer, _ in members))
    }
    # One of a kind that stands apart, as the head beside hidden layers, may have another law; its name has no index.
    kinds = {name: f"{template[place[-1][0][0]].kind}{_INDEX.search(name) is None}" for name, place in places.items()}
    logs = [[_logs(bounds) for bounds in each] for each in probes]
    points = {
        (name, statistic): found
        for name, place in places.items()
        if noise.get(name, 0.0) < tail
        for statistic in _STATISTICS
        if (found := _points(logs, place, statistic))
    }
    laws = tuple(_laws(sizes, points, kinds, at, _Noise if batch_sizes else _Line))
    layers = []
    for name, shape in shapes.items():
        nearest = max(places[name][-1], key=lambda member: member[1])[0] if name in places else name
        own_laws = [law for law in laws if law.layer == name]
        layers.append(_predicted(name, shape, template.get(nearest), own_laws))
    if not any(layer.status is LayerStatus.MEASURED for layer in layers):
        reasons = "; ".join(str(law) for law in laws if law.refused) or "no layer was measured at every size"
        raise NoBoundsError(
            f"no layer follows a law over {', '.join(f'{s:g}' for s in sizes)}; more sizes or seeds may show one:"
            f" {reasons[:500]}"
        )
    bounds = estimate_bounds(layers, placements.pop(), tail)
    is_checked = all(each.reliability and each.reliability.noise_checked for each in every)
    reliability = replace(_reliability(sizes, at, bounds, laws), noise=noise, noise_checked=is_checked)
    return Prediction(float(at), sizes, replace(bounds, reliability=reliability), laws)


def _placement(bounds: EpsilonBounds) -> Placement:
    """Return the power law between ε and magnitude, which one end of the bounds tells."""
    factor = bounds.low.epsilon / bounds.low.magnitude**bounds.step
    return Placement("", "", exponent=bounds.step, factor=float(f"{factor:.9g}"))


def _families(names: Iterable[str]) -> dict[str, list[str]]:
    """Return the names that differ in their first index alone, rising, by what they have in common."""
    found: dict[str, list[str]] = {}
    for name in sorted(names, key=lambda name: [int(index) for index in _INDEX.findall(name)]):
        found.setdefault(_INDEX.sub("*", name, count=1), []).append(name)
    return found


def _place(
    name: str, own: Mapping[str, list[str]], families: Sequence[Mapping[str, list[str]]]
) -> tuple[_Members, ...] | None:
    """Return what a layer of the target is compared with at each size; None where a size has nothing like it."""
    family = _INDEX.sub("*", name, count=1)
    members = [each.get(family, []) for each in families]
    if all(each == own[family] for each in members):
        return tuple([(name, 1.0)] for _ in members)
    if not all(members):
        return None
    position, found = own[family].index(name) / max(len(own[family]) - 1, 1), []
    for each in members:
        first = min(math.floor(position * (len(each) - 1)), max(len(each) - 2, 0))
        weight = position * (len(each) - 1) - first
        found.append(
            [(layer, share) for layer, share in zip(each[first:], (1 - weight, weight), strict=False) if share]
        )
    return tuple(found)


def _logs(bounds: EpsilonBounds) -> dict[tuple[str, str], float]:
    """Return log10 of the statistics of the layers that were measured."""
    found = {}
    for layer in bounds.layers:
        if layer.status is LayerStatus.MEASURED:
            middle = layer.histogram.median if layer.histogram else None
            for statistic, value in zip(_STATISTICS, (layer.low, middle, layer.high), strict=True):
                if value:
                    found[layer.name, statistic] = math.log10(value)
    return found


def _points(
    logs: Sequence[Sequence[Mapping[tuple[str, str], float]]], place: Sequence[_Members], statistic: str
) -> list[list[float]]:
    """Return a statistic, as log10, of each seed at each size; empty where a size has none."""
    found = [
        [
            math.fsum(share * of_seed[layer, statistic] for layer, share in members)
            for of_seed in of_size
            if all((layer, statistic) in of_seed for layer, _ in members)
        ]
        for of_size, members in zip(logs, place, strict=True)
    ]
    return found if all(found) else []


@dataclass(frozen=True)
class _Line:
    """A least-squares line through (log10 s, mean of log10 m over seeds), of n sizes.

    `squares` and `within` are the sums of squares around the line and of seeds around their means, `freedom` is that of
    `within`, and `seeds` the number of seeds that a mean is of. `spread` and `mean_z` are of what the second parameter
    is multiplied with, here log10 s.
    """

    slope: float
    level: float
    mean_z: float
    spread: float
    n: int
    squares: float
    within: float
    freedom: int
    seeds: float

    @classmethod
    def through(cls, sizes: Sequence[float], points: Sequence[Sequence[float]]) -> _Line:
        """Fit the line."""
        y, x = [fmean(each) for each in points], [math.log10(size) for size in sizes]
        mean_x, level = fmean(x), fmean(y)
        spread = math.fsum((each - mean_x) ** 2 for each in x)
        slope = math.fsum((a - mean_x) * (b - level) for a, b in zip(x, y, strict=True)) / spread
        squares = math.fsum((b - level - slope * (a - mean_x)) ** 2 for a, b in zip(x, y, strict=True))
        return cls(slope, level, mean_x, spread, len(x), squares, *_scatter(points))

    def at(self, size: float) -> float:
        """Return the line at a size."""
        return self.level + self.slope * (self.z(size) - self.mean_z)

    def z(self, size: float) -> float:
        """Return what the second parameter is multiplied with."""
        return math.log10(size)

    def exponent(self, size: float) -> tuple[float, float]:
        """Return the slope of log m at a size, and how it goes with the second parameter."""
        return self.slope, 1.0


@dataclass(frozen=True)
class _Noise(_Line):
    """m² = a + b/B by least squares of log10 m, as `level` + ½ log10(f + (1 − f) B₀/B); B₀ is the first size.

    The second parameter is f, the share of the signal a at B₀, kept in `slope`; where it is 0 or 1, the error of the
    fit is that of a line that goes on from there.
    """

    first: float = 1.0

    @classmethod
    def through(cls, sizes: Sequence[float], points: Sequence[Sequence[float]]) -> _Noise:
        """Fit f by search."""
        y, ratios = np.array([fmean(each) for each in points]), np.asarray(sizes) / sizes[0]
        signals = np.concatenate([[0.0], np.geomspace(1e-6, 1, 1000)])
        rest = y - np.log10(signals[:, None] + (1 - signals[:, None]) / ratios) / 2
        squares = ((rest - rest.mean(1, keepdims=True)) ** 2).sum(1)
        place = int(squares.argmin())
        z = [_signal_slope(signals[place], ratio) for ratio in ratios]
        mean_z = fmean(z)
        spread = math.fsum((each - mean_z) ** 2 for each in z)
        found = (float(signals[place]), float(rest[place].mean()), mean_z, spread, len(z), float(squares[place]))
        return cls(*found, *_scatter(points), first=sizes[0])

    def at(self, size: float) -> float:
        """Return the law at a batch size."""
        return self.level + math.log10(self.slope + (1 - self.slope) * self.first / size) / 2

    def z(self, size: float) -> float:
        """Return how log10 m changes with f."""
        return _signal_slope(self.slope, size / self.first)

    def exponent(self, size: float) -> tuple[float, float]:
        """Return the slope of log m at a batch size, and how it changes with f."""
        ratio = size / self.first
        scale = self.slope * ratio + 1 - self.slope
        return -(1 - self.slope) / scale / 2, ratio / scale**2 / 2


def _signal_slope(signal: float, ratio: float) -> float:
    """Return the derivative of ½ log10(f + (1 − f) / ratio) by f."""
    return float((1 - 1 / ratio) / (signal + (1 - signal) / ratio) / (2 * math.log(10)))


def _scatter(points: Sequence[Sequence[float]]) -> tuple[float, int, float]:
    """Return sum of squares of seeds around their means, its degrees of freedom, and seeds to a mean."""
    means, count = [fmean(each) for each in points], sum(map(len, points))
    within = math.fsum((value - mean) ** 2 for each, mean in zip(points, means, strict=True) for value in each)
    return within, count - len(points), count / len(points)


@dataclass(frozen=True)
class _Variance:
    """What the variances of single layers are drawn towards: around their laws, and between seeds."""

    around: float
    between: float

    @classmethod
    def of(cls, lines: Collection[_Line]) -> _Variance:
        """Return the mean variances of all lines."""
        around = math.fsum(line.squares for line in lines) / max(sum(line.n - 2 for line in lines), 1)
        between = math.fsum(line.within for line in lines) / max(sum(line.freedom for line in lines), 1)
        return cls(around, between)

    def within(self, line: _Line, size: float | None) -> float:
        """Return half the 95 % prediction interval of one probe at a size, or without one of the second parameter."""
        freedom = line.n - 2 + _PRIOR_FREEDOM
        variance = max((line.squares + _PRIOR_FREEDOM * self.around) / freedom, _LEAST_DEVIATION**2)
        if size is None:
            return t_quantile(freedom) * math.sqrt(variance / line.spread)
        between = (line.within + _PRIOR_FREEDOM * self.between) / (line.freedom + _PRIOR_FREEDOM)
        variance *= 1 + 1 / line.n + (line.z(size) - line.mean_z) ** 2 / line.spread
        return t_quantile(freedom) * math.sqrt(variance + between * (1 - 1 / line.seeds))


def _drawn(lines: Mapping[str, _Line], kinds: Mapping[str, str]) -> dict[str, _Line]:
    """Return lines whose slopes are drawn towards the mean of their kind, as far as noise alone explains their scatter.

    Of layers that follow the same law each would else go its own way, the further from it the larger the target.
    Intervals stay as they were: an error that all layers share, such as that of a seed, is not averaged out.
    """
    drawn = dict(lines)
    if any(isinstance(line, _Noise) for line in lines.values()):  # shares of signal differ within a kind
        return drawn
    for kind in dict.fromkeys(kinds.values()):
        own = {layer: line for layer, line in lines.items() if kinds[layer] == kind}
        if len(own) < _FEWEST_LAYERS:
            continue
        slopes = [line.slope for line in own.values()]
        noise = fmean(line.squares / max(line.n - 2, 1) / line.spread for line in own.values())
        share = max(0.0, 1 - noise / variance(slopes)) if noise else 1.0
        middle = fmean(slopes)
        for layer, line in own.items():
            drawn[layer] = replace(line, slope=middle + share * (line.slope - middle))
    return drawn


def _laws(
    sizes: Sequence[float],
    points: Mapping[tuple[str, str], Sequence[Sequence[float]]],
    kinds: Mapping[str, str],
    at: float,
    form: type[_Line],
) -> Iterator[Law]:
    """Yield the law of each statistic, refused where the largest size contradicts the smaller ones."""
    for statistic in _STATISTICS:
        own = {layer: each for (layer, name), each in points.items() if name == statistic}
        whole = _drawn({layer: form.through(sizes, each) for layer, each in own.items()}, kinds)
        parts = {}
        if len(sizes) > FEWEST_SIZES:
            parts = _drawn({layer: form.through(sizes[:-1], each[:-1]) for layer, each in own.items()}, kinds)
        variance, of_parts = _Variance.of(whole.values()), _Variance.of(parts.values())
        for layer, line in whole.items():
            held_out, refused = None, ""
            if part := parts.get(layer):
                held_out = fmean(own[layer][-1]) - part.at(sizes[-1])
                allowed = max(of_parts.within(part, sizes[-1]), _TOLERATED)
                if abs(held_out) > allowed:
                    refused = f"at {sizes[-1]:g} it is off by {held_out:+.2f} decades, more than {allowed:.2f}"
            exponent, factor = line.exponent(at)
            around = (exponent, factor * variance.within(line, None))
            yield Law(layer, statistic, *around, 10 ** line.at(at), variance.within(line, at), held_out, refused)


def _predicted(
    name: str, shape: tuple[int, ...], nearest: LayerStatistics | None, laws: Sequence[Law]
) -> LayerStatistics:
    """Return a layer as it is predicted from one of the largest probed size; left out where a law is missing."""
    if nearest is None or len(laws) < len(_STATISTICS) or any(law.refused for law in laws):
        status = nearest.status if nearest else LayerStatus.LEFT_OUT
        status = LayerStatus.LEFT_OUT if status is LayerStatus.MEASURED else status
        return LayerStatistics.unmeasured(name, shape, status, nearest.kind if nearest else OTHER)
    entries, histogram = math.prod(shape), nearest.histogram
    low, middle, high = (law.predicted for law in laws)
    assert histogram is not None and histogram.median
    # v̂ = v · scale: every √v̂ is multiplied by the same number. Shares stay, and counts go with the entries.
    counts = np.ceil(histogram.counts * (entries / nearest.entries)).astype(np.int64)
    histogram = replace(histogram, counts=counts, scale=histogram.scale * (middle / histogram.median) ** 2)
    return replace(
        nearest,
        name=name,
        shape=shape,
        entries=entries,
        nonzero=histogram.nonzero,
        low=low,
        high=high,
        histogram=histogram,
    )


def _reliability(sizes: Sequence[float], at: float, bounds: EpsilonBounds, laws: Sequence[Law]) -> Reliability:
    """Judge a prediction: medium at best, low where an end may lie more than a decade off, or a refused layer there."""
    by_place = {(law.layer, law.statistic): law for law in laws}
    widths = [by_place[end.layers[0], name].decades for name, end in (("low", bounds.low), ("high", bounds.high))]
    refused = {law.layer for law in laws if law.refused}
    outside = [law for law in laws if not bounds.low.magnitude <= law.predicted <= bounds.high.magnitude]
    beyond = sorted({law.layer for law in outside if law.layer in refused})
    reasons = []
    if beyond:
        reasons.append(f"{', '.join(beyond[:3])} would set a bound, and follows no law")
    low, high = widths
    reasons.append(
        f"predicted at {at:g} from {', '.join(f'{size:g}' for size in sizes)}, not measured: the lower end within"
        f" a factor of {power(float(f'{10**low:.2g}'))}, the upper within {power(float(f'{10**high:.2g}'))}"
    )
    if len(sizes) == FEWEST_SIZES:
        reasons.append("three sizes leave none to test the laws with; add a fourth")
    is_low = beyond or max(widths) > 1 or len(sizes) == FEWEST_SIZES
    return Reliability("low" if is_low else "medium", tuple(reasons))
