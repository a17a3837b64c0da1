from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from epsgrid.numerics.statistics import Interval, mean_and_sd, mean_interval, paired_difference, t_quantile

scores = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=20)


@given(scores)
def test_mean_and_deviation_equal_numpy(values: list[float]) -> None:
    mean, sd = mean_and_sd(values)
    assert mean == pytest.approx(np.mean(values), rel=1e-9, abs=1e-6)
    assert sd == pytest.approx(np.std(values, ddof=1), rel=1e-6, abs=1e-6)


def test_the_interval_equals_scipys() -> None:
    values = [0.912, 0.905, 0.921, 0.899]
    low, high = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    interval = mean_interval(values)
    assert (interval.low, interval.high) == pytest.approx((low, high), rel=1e-12)
    assert (interval.mean, interval.n) == (pytest.approx(np.mean(values)), 4)


def test_the_quantile_equals_scipys() -> None:
    degrees = [1, 2, 5, 40, 999]
    assert [t_quantile(each) for each in degrees] == stats.t.ppf(0.975, degrees).tolist()


def test_scipy_is_imported_for_an_interval_only() -> None:
    code = (
        "import sys; from epsgrid.numerics.statistics import mean_interval; assert 'scipy' not in sys.modules\n"
        "mean_interval([0.1, 0.3]); assert 'scipy.stats' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_one_value_has_a_mean_and_no_interval() -> None:
    assert mean_and_sd([2.5]) == (2.5, None)
    assert mean_interval([2.5]) == Interval(2.5, None, None, 1)


def test_equal_values_have_an_interval_of_no_width() -> None:
    assert mean_interval([2.0, 2.0, 2.0]) == Interval(2.0, 2.0, 2.0, 3)


@pytest.mark.parametrize(
    ("values", "mean"),
    [
        ([1.0, math.inf], math.inf),
        ([-math.inf, -math.inf], -math.inf),
        ([math.inf, -math.inf], math.nan),
        ([1.0, math.nan, math.inf], math.nan),
    ],
)
def test_values_that_are_not_finite_leave_no_interval(values: list[float], mean: float) -> None:
    interval = mean_interval(values)
    assert interval.mean == mean or (math.isnan(interval.mean) and math.isnan(mean))
    assert (interval.low, interval.high) == (None, None)


def test_the_paired_difference_uses_common_seeds_only() -> None:
    a, b = {0: 5.0, 1: 6.0, 2: 9.0, 7: 100.0}, {2: 6.0, 1: 5.0, 0: 3.0, 8: -100.0}
    assert paired_difference(a, b) == mean_interval([2.0, 1.0, 3.0])


def test_equal_differences_are_in_doubt_by_half_a_step_of_the_metric() -> None:
    """Three seeds that all lose two of 360 examples: the interval had no width, and the verdict no doubt."""
    a = {0: 330 / 360, 1: 331 / 360, 2: 334 / 360}
    found = paired_difference(a, {seed: score + 2 / 360 for seed, score in a.items()})
    half = stats.t.ppf(0.975, 2) * (0.5 / 360) / 3**0.5
    assert (found.low, found.high) == pytest.approx((-2 / 360 - half, -2 / 360 + half))
    constant = paired_difference(dict.fromkeys(range(3), 0.9), dict.fromkeys(range(3), 0.8))
    assert (constant.low, constant.high) == pytest.approx((0.1, 0.1)), "scores that never differ have no step to tell"


def test_no_values_are_refused() -> None:
    with pytest.raises(ValueError, match="no values to take a mean of"):
        mean_interval([])


def test_no_common_seed_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no seed in common: \[0, 1\] and \[2\]"):
        paired_difference({0: 1.0, 1: 1.0}, {2: 1.0})
