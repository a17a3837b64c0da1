"""A logistic step, fitted to a score against log10 ε.

The curve is y = bottom + (top − bottom) · σ((x − centre) / scale). Its width, from 10 to 90 % of the way, is
2 ln 9 · scale. Centre and scale are searched on a grid, and for each of them the best bottom and top follow by linear
least squares. Intervals come from the profile of the sum of squares: a scale belongs to the interval
where some centre fits hardly worse than the best fit does (Bates & Watts, Nonlinear Regression Analysis, chapter 6).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from epsgrid.numerics.statistics import t_quantile

_PARAMETERS = 4
_WIDTH_PER_SCALE = 2 * math.log(9)
_LEAST_WIDTH = 0.05
_CENTRES_PER_UNIT, _SCALES = 25, 90


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
