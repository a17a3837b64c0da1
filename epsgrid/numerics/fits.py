"""Two fits: a power law of magnitudes against batch size, and a logistic step of a score against log10 ε.

**The exponent.** At given weights a minibatch gradient is the full gradient plus noise of variance σ²/B, so that the
mean of v̂ is

    v̂(B) = s² + σ²/B          s: the full gradient's entry, σ²: variance of one example's gradient

Where noise dominates √v̂ goes as B^(−1/2), and a bound measured at one batch size is scaled to one κ times larger by
1/√κ, the factor by which the square-root rule (arXiv 2205.10287) scales ε. Where signal dominates √v̂ does not move at
all, and neither must the bound. The exponent, the slope of log √v̂ against log B, tells the two apart.

It is fitted by ordinary least squares with an intercept for each seed: seeds have other initial weights, hence other
magnitudes, and share the slope. Its interval is Student's t with the remaining degrees of freedom: n points less one
intercept per seed less the slope. Two batch sizes and one seed leave none, and then there is no interval. A curve that
bends from one law to the other leaves residuals too, so that it widens the interval.

**The step.** The curve is y = bottom + (top − bottom) · σ((x − centre) / scale). Its width is the distance from 10 to
90 % of the way, 2 ln 9 · scale. Centre and scale are searched on a grid, and for each of them the best bottom and top
follow by linear least squares, so that the fit needs no start values and always gives the same answer. Intervals come
from the profile of the sum of squares: a scale belongs to the interval where some centre fits hardly worse than the
best fit does (Bates & Watts, Nonlinear Regression Analysis, chapter 6). Points that lie a unit apart cannot show how
much sharper than that a step is: the lower end is then the least scale of the grid.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from epsgrid.numerics.scaling import scaled_magnitude
from epsgrid.numerics.statistics import t_half_width

NOISE = -0.5
_SIGNAL = 0.0
_BAND = 0.1
"""How far an exponent may lie from a law and still count as following it.

A bound scaled over κ with an exponent wrong by 0.1 is wrong by κ^0.1: a tenth of a decade for κ = 10, where the grid
has steps of a whole one.
"""

_PARAMETERS = 4
_WIDTH_PER_SCALE = 2 * math.log(9)
_LEAST_WIDTH = 0.05
_CENTRES_PER_UNIT, _SCALES = 25, 90

Regime = Literal["noise-dominated", "signal-dominated", "in between", "neither", "undecided"]


@dataclass(frozen=True)
class Exponent:
    """The exponent p in magnitude ∝ B^p.

    Attributes:
        value: the fitted slope of log magnitude against log batch size.
        low: lower end of its confidence interval; None where the points leave no degree of freedom.
        high: upper end, or None like `low`.
    """

    value: float
    low: float | None
    high: float | None

    @property
    def regime(self) -> Regime:
        """The law that the interval allows; "undecided" without an interval.

        A law holds where the whole interval lies within `_BAND` of it: to contain −1/2 is not enough, for a wide
        interval contains everything. "in between" means that the interval excludes both laws and lies between them;
        "neither" that it lies wholly beyond one of them, as where a batch is a large part of the data, or hardly
        anything but rounding is left.
        """
        if self.low is None or self.high is None:
            return "undecided"
        slack = _BAND * (1 + 1e-9)
        if abs(self.low - NOISE) <= slack and abs(self.high - NOISE) <= slack:
            return "noise-dominated"
        if abs(self.low - _SIGNAL) <= slack and abs(self.high - _SIGNAL) <= slack:
            return "signal-dominated"
        if self.low > NOISE and self.high < _SIGNAL:
            return "in between"
        return "neither" if self.high < NOISE or self.low > _SIGNAL else "undecided"


def fit_exponent(magnitudes: Mapping[int, Mapping[int, float]]) -> Exponent | None:
    """Fit the exponent of magnitudes against batch size.

    >>> fit_exponent({0: {32: 1.0, 128: 0.5, 512: 0.25}}).value
    -0.5

    Args:
        magnitudes: of each seed, by batch size; positive and finite. A seed with fewer than two sizes does not
            determine a slope and is left out.

    Returns:
        The exponent, or None where no seed has two sizes.

    Raises:
        ValueError: a magnitude or a batch size is not positive and finite.
    """
    by_seed = [of_seed for of_seed in magnitudes.values() if len(of_seed) > 1]
    if not by_seed:
        return None
    centred = []
    for of_seed in by_seed:
        for value in (*of_seed, *of_seed.values()):
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"only positive finite batch sizes and magnitudes have an exponent, got {value!r}")
        x, y = ([math.log(value) for value in values] for values in (of_seed, of_seed.values()))
        x_mean, y_mean = math.fsum(x) / len(x), math.fsum(y) / len(y)
        centred += [(a - x_mean, b - y_mean) for a, b in zip(x, y, strict=True)]
    spread = math.fsum(x * x for x, _ in centred)
    slope = math.fsum(x * y for x, y in centred) / spread
    freedom = len(centred) - len(by_seed) - 1
    if freedom < 1:
        return Exponent(slope, None, None)
    residual = math.fsum((y - slope * x) ** 2 for x, y in centred)
    half_width = t_half_width(freedom) * math.sqrt(residual / freedom / spread)
    return Exponent(slope, slope - half_width, slope + half_width)


def scaling_error(base: float, there: float, kappa: float) -> float:
    """Return by how many decades a magnitude scaled by the square-root rule lies above the one measured there.

    >>> round(scaling_error(1.0, 1.0, 100.0), 12)  # a magnitude that does not move is scaled a decade too low
    -1.0
    """
    return math.log10(scaled_magnitude(base, kappa)) - math.log10(there)


@dataclass(frozen=True)
class Step:
    """A fitted step.

    Attributes:
        centre: x at which half of the way is done.
        centre_low: lower end of its interval.
        centre_high: upper end.
        width: from 10 to 90 % of the way, in units of x; at least `_LEAST_WIDTH`.
        width_low: lower end of its interval; `_LEAST_WIDTH` where it may be sharper than the points can show.
        width_high: upper end.
        explained: share of the variance of y that the step explains, in [0, 1].
    """

    centre: float
    centre_low: float
    centre_high: float
    width: float
    width_low: float
    width_high: float
    explained: float


def fit_step(x: Sequence[float], y: Sequence[float]) -> Step | None:
    """Return the logistic step that fits best.

    Args:
        x: distinct values.
        y: finite, one for each.

    Returns:
        None with no more points than the curve has parameters, or where all y are equal.
    """
    import numpy as np

    xs, ys = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if len(xs) <= _PARAMETERS or np.ptp(ys) == 0:
        return None
    centres = np.arange(xs.min(), xs.max() + 1e-9, 1 / _CENTRES_PER_UNIT)
    widths = np.geomspace(_LEAST_WIDTH, 2 * np.ptp(xs), _SCALES)
    arguments = (xs - centres[:, None, None]) * (_WIDTH_PER_SCALE / widths[:, None])
    shapes = 1 / (1 + np.exp(-np.clip(arguments, -500, 500)))  # centres, widths, points
    centred, total = shapes - shapes.mean(axis=-1, keepdims=True), ys - ys.mean()
    spread = (centred**2).sum(axis=-1)
    slope = np.divide(centred @ total, spread, out=np.zeros_like(spread), where=spread > 1e-12)
    squares = ((total - slope[..., None] * centred) ** 2).sum(axis=-1)
    row, column = np.unravel_index(np.argmin(squares), squares.shape)
    degrees = len(xs) - _PARAMETERS
    noise = max(float(squares.min()) / degrees, 1e-9 * float(total @ total))
    close = squares <= squares.min() + noise * t_half_width(degrees) ** 2
    near_centres, near_widths = centres[close.any(axis=1)], widths[close.any(axis=0)]
    return Step(
        centre=float(centres[row]),
        centre_low=float(near_centres.min()),
        centre_high=float(near_centres.max()),
        width=float(widths[column]),
        width_low=float(near_widths.min()),
        width_high=float(near_widths.max()),
        explained=1 - float(squares.min()) / float(total @ total),
    )
