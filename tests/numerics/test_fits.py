"""The exponent and the step against scipy's least squares, and on data of known law."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import curve_fit

from epsgrid.numerics.fits import (
    _BAND,
    _WIDTH_PER_SCALE,
    _regime,
    fit_exponent,
    fit_step,
    scaling_error,
)

SIZES = (32, 64, 128, 256, 512)


def noisy(rng: np.random.Generator, exponent: float, seeds: int, sd: float, sizes=SIZES):
    """Magnitudes that follow a power law up to independent log-normal scatter; each seed has its own level."""
    return {
        seed: {size: math.exp(level) * size**exponent * math.exp(sd * rng.standard_normal()) for size in sizes}
        for seed, level in enumerate(rng.standard_normal(seeds))
    }


@pytest.mark.parametrize(("seeds", "sizes"), [(1, SIZES), (3, SIZES), (4, (64, 256))])
def test_the_exponent_is_least_squares_with_a_dummy_for_each_seed(seeds, sizes):
    found = noisy(np.random.default_rng(seeds), -0.4, seeds, 0.1, sizes)
    if seeds == 3:
        del found[1][64], found[2][512]
    points = [(seed, size, value) for seed, values in found.items() for size, value in values.items()]
    design = np.array([[math.log(size), *(float(seed == each) for each in range(seeds))] for seed, size, _ in points])
    target = np.array([math.log(value) for *_, value in points])
    solution, residual, *_ = np.linalg.lstsq(design, target, rcond=None)
    freedom = len(points) - 1 - seeds
    half_width = stats.t.ppf(0.975, freedom) * math.sqrt(residual[0] / freedom * np.linalg.inv(design.T @ design)[0, 0])
    ours = fit_exponent(found)
    expected = (solution[0], solution[0] - half_width, solution[0] + half_width)
    assert (ours.value, ours.low, ours.high) == pytest.approx(expected, rel=1e-8)


def test_intervals_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(3)
    fits = [fit_exponent(noisy(rng, -0.5, 2, 0.1, sizes=(32, 128, 512))) for _ in range(400)]
    covered = np.mean([fit.low <= -0.5 <= fit.high for fit in fits])
    assert covered == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / 400))


@pytest.mark.parametrize(
    ("low", "high", "regime"),
    [
        (-0.5 - _BAND, -0.5 + _BAND, "noise-dominated"),
        (-_BAND, _BAND, "signal-dominated"),
        (-0.45, -0.35, "in between"),
        (-0.8, -0.65, "neither"),
        (0.15, 0.3, "neither"),
        (-0.3, 0.02, "undecided"),
    ],
)
def test_regimes(low, high, regime):
    assert _regime(low, high) == regime


def test_few_points_have_no_interval_or_no_exponent():
    found = fit_exponent({0: {32: 1.0, 128: 0.5}, 1: {32: 7.0}})
    assert found.value == pytest.approx(-0.5) and scaling_error(0.2, 0.2, 16.0) == pytest.approx(-math.log10(4))
    assert (found.low, found.high, found.regime) == (None, None, "undecided")
    assert fit_exponent({0: {32: 1.0}, 1: {}}) is None


X = np.arange(-10.0, 3.0)


def logistic(x: np.ndarray, before: float, after: float, centre: float, width: float) -> np.ndarray:
    return before + (after - before) / (1 + np.exp(-(x - centre) * _WIDTH_PER_SCALE / width))


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


@pytest.mark.parametrize("y", [[1.0, 2.0, 3.0, 4.0], [0.5] * 9])
def test_too_few_or_equal_points_have_none(y: list[float]) -> None:
    assert fit_step(list(map(float, range(len(y)))), y) is None
