"""How gradient magnitudes move with the batch size: the fitted exponent, and what it says about carrying bounds.

At given weights a minibatch gradient is the full gradient plus noise of variance σ²/B, so that the mean of v̂ is

    v̂(B) = s² + σ²/B          s: the full gradient's entry, σ²: variance of one example's gradient

Where noise dominates √v̂ goes as B^(−1/2), and a bound measured at one batch size is carried to one κ times larger by
1/√κ, the factor by which the square-root scaling rule (arXiv 2205.10287) moves ε. Where signal dominates √v̂ does not
move at all, and neither must the bound. The exponent, the slope of log √v̂ against log B, tells the two apart.

It is fitted by ordinary least squares with an intercept for each seed: seeds have other initial weights, hence other
magnitudes, and share the slope. Its interval is Student's t with the degrees of freedom that are left: n points less
one intercept per seed less the slope. Two batch sizes and one seed leave none, and then there is no interval. A curve
that bends from one law to the other leaves residuals too, so that it widens the interval.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from epsgrid.numerics.scaling import scaled_magnitude
from epsgrid.numerics.statistics import LEVEL, t_quantile

NOISE = -0.5
SIGNAL = 0.0
BAND = 0.1
"""How far an exponent may lie from a law and still count as following it.

A bound carried over κ with an exponent wrong by 0.1 is wrong by κ^0.1: a tenth of a decade for κ = 10, where the grid
has steps of a whole one.
"""

Regime = Literal["noise-dominated", "signal-dominated", "in between", "neither", "undecided"]


@dataclass(frozen=True)
class Exponent:
    """The exponent p in magnitude ∝ B^p.

    Attributes:
        value: the fitted slope of log magnitude against log batch size.
        low: lower end of its confidence interval; None where the points leave no degree of freedom.
        high: upper end, likewise.
        sizes: different batch sizes it was fitted to.
        seeds: seeds it was fitted to.
        level: of the interval, in (0, 1).
    """

    value: float
    low: float | None
    high: float | None
    sizes: int
    seeds: int
    level: float

    @property
    def regime(self) -> Regime:
        """What the interval says; see `regime_of`."""
        return regime_of(self.low, self.high)


def fit_exponent(magnitudes: Mapping[int, Mapping[int, float]], level: float = LEVEL) -> Exponent | None:
    """Fit the exponent of magnitudes against batch size.

    >>> fit_exponent({0: {32: 1.0, 128: 0.5, 512: 0.25}}).value
    -0.5

    Args:
        magnitudes: of each seed, by batch size; positive and finite. A seed with fewer than two sizes says nothing of a
            slope and is left out.
        level: of the interval, in (0, 1).

    Returns:
        The exponent, or None where no seed has two sizes.

    Raises:
        ValueError: a magnitude or a batch size is not positive and finite, or `level` lies outside (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie in (0, 1), got {level!r}")
    lines = [_logs(of_seed) for of_seed in magnitudes.values() if len(of_seed) > 1]
    if not lines:
        return None
    centred = [point for line in lines for point in _centred(line)]
    spread = math.fsum(x * x for x, _ in centred)
    slope = math.fsum(x * y for x, y in centred) / spread
    sizes = len({size for of_seed in magnitudes.values() if len(of_seed) > 1 for size in of_seed})
    freedom = len(centred) - len(lines) - 1
    if freedom < 1:
        return Exponent(slope, None, None, sizes, len(lines), level)
    residual = math.fsum((y - slope * x) ** 2 for x, y in centred)
    half_width = t_quantile((1 + level) / 2, freedom) * math.sqrt(residual / freedom / spread)
    return Exponent(slope, slope - half_width, slope + half_width, sizes, len(lines), level)


def regime_of(low: float | None, high: float | None) -> Regime:
    """Say which law an interval of an exponent allows.

    A law holds where the whole interval lies within `BAND` of it: to contain −1/2 is not enough, for a wide interval
    contains everything.

    >>> regime_of(-0.53, -0.44), regime_of(-0.02, 0.03), regime_of(-0.3, -0.2), regime_of(-0.9, -0.1)
    ('noise-dominated', 'signal-dominated', 'in between', 'undecided')

    Args:
        low: lower end of the interval; None where there is none, which decides nothing.
        high: upper end, likewise.

    Returns:
        "in between" where the interval excludes both laws and lies between them; "neither" where it lies wholly beyond
        one of them, as where a batch is a large part of the data, or hardly anything but rounding is left.
    """
    if low is None or high is None:
        return "undecided"
    slack = BAND * (1 + 1e-9)
    if abs(low - NOISE) <= slack and abs(high - NOISE) <= slack:
        return "noise-dominated"
    if abs(low - SIGNAL) <= slack and abs(high - SIGNAL) <= slack:
        return "signal-dominated"
    if low > NOISE and high < SIGNAL:
        return "in between"
    return "neither" if high < NOISE or low > SIGNAL else "undecided"


def carrying_error(base: float, there: float, kappa: float) -> float:
    """Return by how many decades a carried magnitude lies above the one measured there; negative below.

    >>> round(carrying_error(1.0, 1.0, 100.0), 12)  # what does not move is carried a decade too low
    -1.0
    """
    return math.log10(scaled_magnitude(base, kappa)) - math.log10(there)


def _logs(magnitudes: Mapping[int, float]) -> list[tuple[float, float]]:
    for value in (*magnitudes, *magnitudes.values()):
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"only positive finite batch sizes and magnitudes have an exponent, got {value!r}")
    return [(math.log(size), math.log(value)) for size, value in magnitudes.items()]


def _centred(line: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points of a seed about their own mean: what is left once the seed has an intercept."""
    x_mean, y_mean = (math.fsum(values) / len(line) for values in zip(*line, strict=True))
    return [(x - x_mean, y - y_mean) for x, y in line]
