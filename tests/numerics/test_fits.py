"""The step against scipy's least squares."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import curve_fit

from epsgrid.numerics.fits import _WIDTH_PER_SCALE, fit_step

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
