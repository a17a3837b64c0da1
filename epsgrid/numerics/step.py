"""Fit a logistic step to a curve: where it falls, and over how many units of x.

The curve is y = bottom + (top − bottom) · σ((x − centre) / scale), with x on a log scale such as log10 ε. Its width is
the distance from 10 to 90 % of the way, 2 ln 9 · scale. Centre and scale are searched on a grid, and for each of them
the best bottom and top follow by linear least squares, so that the fit needs no start values and always gives the same
answer. Intervals come from the profile of the sum of squares: a scale belongs to the interval where some centre fits
hardly worse than the best fit does (Bates & Watts, Nonlinear Regression Analysis, chapter 6). Points that lie a unit
apart cannot tell how much sharper than that a step is: the lower end is then the least scale of the grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from epsgrid.numerics.statistics import LEVEL, t_quantile

PARAMETERS = 4
WIDTH_PER_SCALE = 2 * math.log(9)
LEAST_WIDTH = 0.05
_CENTRES_PER_UNIT, _SCALES = 25, 90


@dataclass(frozen=True)
class Step:
    """A fitted step.

    Attributes:
        centre: x at which half of the way is done.
        centre_low: lower end of its interval.
        centre_high: upper end.
        width: from 10 to 90 % of the way, in units of x; at least `LEAST_WIDTH`.
        width_low: lower end of its interval; `LEAST_WIDTH` where it may be sharper than the points can tell.
        width_high: upper end.
        before: y far below the centre.
        after: y far above it.
        explained: share of the variance of y that the step explains, in [0, 1].
        points: number of points.
        level: of the intervals, in (0, 1).
    """

    centre: float
    centre_low: float
    centre_high: float
    width: float
    width_low: float
    width_high: float
    before: float
    after: float
    explained: float
    points: int
    level: float


def fit_step(x: Sequence[float], y: Sequence[float], level: float = LEVEL) -> Step | None:
    """Return the logistic step that fits best.

    Args:
        x: distinct values.
        y: finite, one for each.
        level: of the intervals, in (0, 1).

    Returns:
        None with no more points than the curve has parameters, or where all y are equal.
    """
    import numpy as np

    xs, ys = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if len(xs) <= PARAMETERS or np.ptp(ys) == 0:
        return None
    centres = np.arange(xs.min(), xs.max() + 1e-9, 1 / _CENTRES_PER_UNIT)
    widths = np.geomspace(LEAST_WIDTH, 2 * np.ptp(xs), _SCALES)
    arguments = (xs - centres[:, None, None]) * (WIDTH_PER_SCALE / widths[:, None])
    shapes = 1 / (1 + np.exp(-np.clip(arguments, -500, 500)))  # centres, widths, points
    centred, total = shapes - shapes.mean(axis=-1, keepdims=True), ys - ys.mean()
    spread = (centred**2).sum(axis=-1)
    slope = np.divide(centred @ total, spread, out=np.zeros_like(spread), where=spread > 1e-12)
    squares = ((total - slope[..., None] * centred) ** 2).sum(axis=-1)
    row, column = np.unravel_index(np.argmin(squares), squares.shape)
    degrees = len(xs) - PARAMETERS
    noise = max(float(squares.min()) / degrees, 1e-9 * float(total @ total))
    close = squares <= squares.min() + noise * t_quantile((1 + level) / 2, degrees) ** 2
    before = float(ys.mean() - slope[row, column] * shapes[row, column].mean())
    near_centres, near_widths = centres[close.any(axis=1)], widths[close.any(axis=0)]
    return Step(
        centre=float(centres[row]),
        centre_low=float(near_centres.min()),
        centre_high=float(near_centres.max()),
        width=float(widths[column]),
        width_low=float(near_widths.min()),
        width_high=float(near_widths.max()),
        before=before,
        after=before + float(slope[row, column]),
        explained=1 - float(squares.min()) / float(total @ total),
        points=len(xs),
        level=level,
    )
