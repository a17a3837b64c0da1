"""The law that one statistic of a layer's √v̂ follows over sizes, and the error of what it predicts.

Let s be what varies, such as the width. The tails and the median of √v̂ of each layer are fitted as m = c · s^p, on
log-log scale by least squares, on the mean over seeds at each size. Over batch sizes B no power law holds from noise to
signal, and m² = a + b/B is fitted in its place, of the full gradient and of noise, a and b ≥ 0.

The exponents of layers of one kind are drawn together as far as their scatter is no more than noise. The interval is
that of a prediction, by Student's t: it holds the error of the fit at the target and one probe's own deviation from the
law, seeds included. A layer with three or four sizes says little about its variance, which is therefore drawn towards
that of all layers (as limma does for genes: Smyth 2004, doi 10.2202/1544-6115.1027, with a prior of fixed weight).

**A law that does not fit is refused.** The largest probed size is held out and predicted from the others; a layer whose
value there lies outside its interval, and further off than a factor of two, has none.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, variance

import numpy as np

from epsgrid.numerics.precision import power
from epsgrid.numerics.statistics import t_quantile

STATISTICS = ("low", "median", "high")
FEWEST_SIZES = 3
_FEWEST_LAYERS = 4
"""Layers of a kind from which on their exponents are drawn together."""
_PRIOR_FREEDOM = 2
"""Degrees of freedom that the variance of all layers weighs in that of one; few, since a seed shifts them all alike."""
_TOLERATED = math.log10(2)
"""Decades by which a held-out size may miss its prediction, whatever the interval says."""
_LEAST_DEVIATION = 0.01
"""Decades below which no deviation from a law is believed: bins of a histogram are that fine."""


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
class _Fit(ABC):
    """A law of two parameters through the means over seeds of log10 m, by least squares, of n sizes.

    `z` is how log10 m changes with the second parameter; `mean_z` and `spread` are its mean and sum of squares over the
    sizes. `squares` and `within` are the sums of squares around the law and of seeds around their means, `freedom` is
    that of `within`, and `seeds` the number of seeds that a mean is of.
    """

    level: float
    parameter: float
    mean_z: float
    spread: float
    n: int
    squares: float
    within: float
    freedom: int
    seeds: float

    @abstractmethod
    def at(self, size: float) -> float:
        """Return log10 m at a size."""

    @abstractmethod
    def z(self, size: float) -> float:
        """Return how log10 m changes with the second parameter."""

    @abstractmethod
    def exponent(self, size: float) -> tuple[float, float]:
        """Return the slope of log m at a size, and how it changes with the second parameter."""


@dataclass(frozen=True)
class _PowerLaw(_Fit):
    """m = c · s^p; the second parameter is p."""

    @classmethod
    def through(cls, sizes: Sequence[float], points: Sequence[Sequence[float]]) -> _PowerLaw:
        """Fit the line on log-log scale."""
        y, x = [fmean(each) for each in points], [math.log10(size) for size in sizes]
        mean_x, level = fmean(x), fmean(y)
        spread = math.fsum((each - mean_x) ** 2 for each in x)
        slope = math.fsum((a - mean_x) * (b - level) for a, b in zip(x, y, strict=True)) / spread
        squares = math.fsum((b - level - slope * (a - mean_x)) ** 2 for a, b in zip(x, y, strict=True))
        return cls(level, slope, mean_x, spread, len(x), squares, *_scatter(points))

    def at(self, size: float) -> float:
        return self.level + self.parameter * (self.z(size) - self.mean_z)

    def z(self, size: float) -> float:
        return math.log10(size)

    def exponent(self, size: float) -> tuple[float, float]:
        return self.parameter, 1.0


@dataclass(frozen=True)
class _NoiseLaw(_Fit):
    """m² = a + b/B, as log10 m = `level` + ½ log10(f + (1 − f) B₀/B), where B₀ is the first size.

    The second parameter is f, the share of the signal a at B₀; where it is 0 or 1, the error of the fit is that of a
    line that goes on from there.
    """

    first: float = 1.0

    @classmethod
    def through(cls, sizes: Sequence[float], points: Sequence[Sequence[float]]) -> _NoiseLaw:
        """Fit f by search."""
        y, ratios = np.array([fmean(each) for each in points]), np.asarray(sizes) / sizes[0]
        signals = np.concatenate([[0.0], np.geomspace(1e-6, 1, 1000)])
        rest = y - np.log10(signals[:, None] + (1 - signals[:, None]) / ratios) / 2
        squares = ((rest - rest.mean(1, keepdims=True)) ** 2).sum(1)
        place = int(squares.argmin())
        z = [_signal_slope(signals[place], ratio) for ratio in ratios]
        mean_z = fmean(z)
        spread = math.fsum((each - mean_z) ** 2 for each in z)
        found = (float(rest[place].mean()), float(signals[place]), mean_z, spread, len(z), float(squares[place]))
        return cls(*found, *_scatter(points), first=sizes[0])

    def at(self, size: float) -> float:
        return self.level + math.log10(self.parameter + (1 - self.parameter) * self.first / size) / 2

    def z(self, size: float) -> float:
        return _signal_slope(self.parameter, size / self.first)

    def exponent(self, size: float) -> tuple[float, float]:
        ratio = size / self.first
        scale = self.parameter * ratio + 1 - self.parameter
        return -(1 - self.parameter) / scale / 2, ratio / scale**2 / 2


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
    def of(cls, fits: Collection[_Fit]) -> _Variance:
        """Return the mean variances of all fits."""
        around = math.fsum(fit.squares for fit in fits) / max(sum(fit.n - 2 for fit in fits), 1)
        between = math.fsum(fit.within for fit in fits) / max(sum(fit.freedom for fit in fits), 1)
        return cls(around, between)

    def within(self, fit: _Fit, size: float | None) -> float:
        """Return half the 95 % prediction interval of one probe at a size, or without one of the second parameter."""
        freedom = fit.n - 2 + _PRIOR_FREEDOM
        variance = max((fit.squares + _PRIOR_FREEDOM * self.around) / freedom, _LEAST_DEVIATION**2)
        if size is None:
            return t_quantile(freedom) * math.sqrt(variance / fit.spread)
        between = (fit.within + _PRIOR_FREEDOM * self.between) / (fit.freedom + _PRIOR_FREEDOM)
        variance *= 1 + 1 / fit.n + (fit.z(size) - fit.mean_z) ** 2 / fit.spread
        return t_quantile(freedom) * math.sqrt(variance + between * (1 - 1 / fit.seeds))


def _drawn(fits: Mapping[str, _Fit], kinds: Mapping[str, str]) -> dict[str, _Fit]:
    """Return fits whose exponents are drawn to the mean of their kind, as far as noise alone explains their scatter.

    Of layers that follow the same law each would else go its own way, the further from it the larger the target.
    Intervals stay as they were: an error that all layers share, such as that of a seed, is not averaged out.
    """
    drawn = dict(fits)
    if any(isinstance(fit, _NoiseLaw) for fit in fits.values()):  # shares of signal differ within a kind
        return drawn
    for kind in dict.fromkeys(kinds.values()):
        own = {layer: fit for layer, fit in fits.items() if kinds[layer] == kind}
        if len(own) < _FEWEST_LAYERS:
            continue
        exponents = [fit.parameter for fit in own.values()]
        noise = fmean(fit.squares / max(fit.n - 2, 1) / fit.spread for fit in own.values())
        share = max(0.0, 1 - noise / variance(exponents)) if noise else 1.0
        middle = fmean(exponents)
        for layer, fit in own.items():
            drawn[layer] = replace(fit, parameter=middle + share * (fit.parameter - middle))
    return drawn


def fitted_laws(
    sizes: Sequence[float],
    points: Mapping[tuple[str, str], Sequence[Sequence[float]]],
    kinds: Mapping[str, str],
    at: float,
    *,
    batch_sizes: bool,
) -> Iterator[Law]:
    """Yield the law of each statistic, refused where the largest size contradicts the smaller ones.

    `points` are log10 m of each seed at each size, by layer and statistic; `kinds` tells which layers are alike.
    """
    form = _NoiseLaw if batch_sizes else _PowerLaw
    for statistic in STATISTICS:
        own = {layer: each for (layer, name), each in points.items() if name == statistic}
        whole = _drawn({layer: form.through(sizes, each) for layer, each in own.items()}, kinds)
        parts = {}
        if len(sizes) > FEWEST_SIZES:
            parts = _drawn({layer: form.through(sizes[:-1], each[:-1]) for layer, each in own.items()}, kinds)
        variance, of_parts = _Variance.of(whole.values()), _Variance.of(parts.values())
        for layer, fit in whole.items():
            held_out, refused = None, ""
            if part := parts.get(layer):
                held_out = fmean(own[layer][-1]) - part.at(sizes[-1])
                allowed = max(of_parts.within(part, sizes[-1]), _TOLERATED)
                if abs(held_out) > allowed:
                    refused = f"at {sizes[-1]:g} it is off by {held_out:+.2f} decades, more than {allowed:.2f}"
            exponent, factor = fit.exponent(at)
            around = (exponent, factor * variance.within(fit, None))
            yield Law(layer, statistic, *around, 10 ** fit.at(at), variance.within(fit, at), held_out, refused)
