"""The fitted step against SciPy's least squares and against steps of known place and width."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import curve_fit

from epsgrid.numerics.step import LEAST_WIDTH, WIDTH_PER_SCALE, fit_step

X = np.arange(-10.0, 3.0)


def logistic(x: np.ndarray, before: float, after: float, centre: float, width: float) -> np.ndarray:
    return before + (after - before) / (1 + np.exp(-(x - centre) * WIDTH_PER_SCALE / width))


def test_the_width_is_from_10_to_90_percent() -> None:
    assert logistic(np.array([-1.5, 1.5]), 0.0, 1.0, 0.0, 3.0) == pytest.approx([0.1, 0.9])


@pytest.mark.parametrize(
    ("before", "after", "centre", "width"), [(0.9, 0.1, -2.0, 3.0), (0.0, 5.0, -6.5, 4.0), (1.0, 0.5, 0.3, 2.0)]
)
def test_an_exact_step_is_found(before: float, after: float, centre: float, width: float) -> None:
    found = fit_step(X.tolist(), logistic(X, before, after, centre, width).tolist())
    assert found is not None
    assert found.centre == pytest.approx(centre, abs=0.05)
    assert found.width == pytest.approx(width, rel=0.06)
    assert (found.before, found.after) == pytest.approx((before, after), abs=0.02 * abs(after - before))
    assert found.explained > 0.999


def test_it_fits_as_well_as_scipys_least_squares() -> None:
    rng = np.random.default_rng(1)
    y = logistic(X, 0.9, 0.2, -3.3, 2.5) + 0.02 * rng.normal(size=len(X))
    found = fit_step(X.tolist(), y.tolist())
    theirs, _ = curve_fit(logistic, X, y, p0=(0.9, 0.2, -3.0, 2.0))
    assert found is not None
    assert found.explained == pytest.approx(
        1 - ((y - logistic(X, *theirs)) ** 2).sum() / ((y - y.mean()) ** 2).sum(), abs=1e-3
    )
    assert (found.centre, found.width) == pytest.approx((theirs[2], theirs[3]), abs=0.1)


def test_intervals_hold_the_truth_as_often_as_they_promise() -> None:
    rng, held = np.random.default_rng(2), np.zeros(2)
    for _ in range(60):
        found = fit_step(X.tolist(), (logistic(X, 0.9, 0.2, -3.3, 3.0) + 0.03 * rng.normal(size=len(X))).tolist())
        assert found is not None
        held += [found.centre_low <= -3.3 <= found.centre_high, found.width_low <= 3.0 <= found.width_high]
    assert (held >= 52).all()


def test_a_jump_between_two_points_has_no_least_width() -> None:
    found = fit_step(X.tolist(), np.where(X < -2.5, 1.0, 0.0).tolist())
    assert found is not None
    assert found.width_low == LEAST_WIDTH and found.width_high < 1.0
    assert -3 <= found.centre_low <= -2.5 <= found.centre_high <= -2


def test_a_straight_line_is_no_narrow_step() -> None:
    found = fit_step(X.tolist(), (0.1 * X + 0.001 * np.cos(3 * X)).tolist())
    assert found is not None and found.width_low > 8


@pytest.mark.parametrize("y", [[1.0, 2.0, 3.0, 4.0], [0.5] * 9])
def test_too_few_or_equal_points_have_none(y: list[float]) -> None:
    assert fit_step(list(map(float, range(len(y)))), y) is None


def test_points_may_come_in_any_order() -> None:
    y, order = logistic(X, 0.9, 0.2, -3.3, 3.0), np.random.default_rng(0).permutation(len(X))
    one, other = fit_step(X.tolist(), y.tolist()), fit_step(X[order].tolist(), y[order].tolist())
    assert one is not None and other is not None
    assert math.isclose(one.centre, other.centre) and math.isclose(one.width, other.width)
