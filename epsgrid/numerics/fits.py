"""Two fits: a power law of magnitudes against batch size, and a logistic step of a score against log10 ε.

**The exponent.** The mean of v̂ is s² + σ²/B, of the full gradient s and noise of variance σ²/B. Where noise dominates
√v̂ goes as B^(−1/2), and bounds are scaled to a κ times larger batch by 1/√κ, as in the square-root rule (arXiv
2205.10287); where signal dominates neither moves. The slope of log √v̂ against log B tells the two apart. It is fitted
by least squares with an intercept for each seed; its interval is Student's t, if a degree of freedom is left.

**The step.** The curve is y = bottom + (top − bottom) · σ((x − centre) / scale). Its width is the distance from 10 to
90 % of the way, 2 ln 9 · scale. Centre and scale are searched on a grid, and for each of them the best bottom and top
follow by linear least squares. Intervals come from the profile of the sum of squares: a scale belongs to the interval
where some centre fits hardly worse than the best fit does (Bates & Watts, Nonlinear Regression Analysis, chapter 6).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from epsgrid.numerics.scaling import scaled_magnitude
from epsgrid.numerics.statistics import t_quantile

_NOISE = -0.5
_SIGNAL = 0.0
_BAND = 0.1
"""How far an exponent may lie from a law and still count as following it: a bound is then wrong by at most κ^0.1."""

_PARAMETERS = 4
_WIDTH_PER_SCALE = 2 * math.log(9)
_LEAST_WIDTH = 0.05
_CENTRES_PER_UNIT, _SCALES = 25, 90

Regime = Literal["noise-dominated", "signal-dominated", "in between", "neither", "undecided"]


@dataclass(frozen=True)
class Exponent:
    """The exponent p in magnitude ∝ B^p, and its interval; without one where the points leave no degree of freedom.

    `regime` is the law that the interval allows; "undecided" without one. A law holds where the whole interval lies
    within `_BAND` of it. "in between" means that it lies between both laws; "neither" that it lies wholly beyond one of
    them.
    """

    value: float
    low: float | None
    high: float | None
    regime: Regime


def _regime(low: float, high: float) -> Regime:
    slack = _BAND * (1 + 1e-9)
    if abs(low - _NOISE) <= slack and abs(high - _NOISE) <= slack:
        return "noise-dominated"
    if abs(low - _SIGNAL) <= slack and abs(high - _SIGNAL) <= slack:
        return "signal-dominated"
    if low > _NOISE and high < _SIGNAL:
        return "in between"
    return "neither" if high < _NOISE or low > _SIGNAL else "undecided"


def fit_exponent(magnitudes: Mapping[int, Mapping[int, float]]) -> Exponent | None:
    """Fit the exponent of magnitudes, > 0, by seed and batch size; None where no seed has two sizes.

    >>> fit_exponent({0: {32: 1.0, 128: 0.5, 512: 0.25}}).value
    -0.5
    """
    by_seed = [of_seed for of_seed in magnitudes.values() if len(of_seed) > 1]
    if not by_seed:
        return None
    centred = []
    for of_seed in by_seed:
        x, y = ([math.log(value) for value in values] for values in (of_seed, of_seed.values()))
        x_mean, y_mean = math.fsum(x) / len(x), math.fsum(y) / len(y)
        centred += [(a - x_mean, b - y_mean) for a, b in zip(x, y, strict=True)]
    spread = math.fsum(x * x for x, _ in centred)
    slope = math.fsum(x * y for x, y in centred) / spread
    freedom = len(centred) - len(by_seed) - 1
    if freedom < 1:
        return Exponent(slope, None, None, "undecided")
    residual = math.fsum((y - slope * x) ** 2 for x, y in centred)
    half_width = t_quantile(freedom) * math.sqrt(residual / freedom / spread)
    low, high = slope - half_width, slope + half_width
    return Exponent(slope, low, high, _regime(low, high))


def scaling_error(base: float, there: float, kappa: float) -> float:
    """Return by how many decades a magnitude scaled by the square-root rule lies above the one measured there."""
    return math.log10(scaled_magnitude(base, kappa)) - math.log10(there)


@dataclass(frozen=True)
class Step:
    """A fitted step.

    Attributes:
        centre, centre_low, centre_high: x at which half of the way is done, and its interval.
        width, width_low, width_high: from 10 to 90 % of the way, in units of x, and its interval; `_LEAST_WIDTH` where
            it may be sharper than the points can show.
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
    """Return the logistic step that fits best; None with too few points, or where all y are equal. No two x are."""
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
    close = squares <= squares.min() + noise * t_quantile(degrees) ** 2
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
