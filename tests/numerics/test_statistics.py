from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from epsgrid.numerics.statistics import (
    ENOUGH_TO_RESAMPLE,
    Interval,
    bootstrap_interval,
    mean_and_sd,
    mean_interval,
    paired_difference,
    t_interval,
    t_quantile,
)

scores = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=20)


@given(scores)
def test_mean_and_deviation_equal_numpy(values: list[float]) -> None:
    mean, sd = mean_and_sd(values)
    assert mean == pytest.approx(np.mean(values), rel=1e-9, abs=1e-6)
    assert sd == pytest.approx(np.std(values, ddof=1), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("level", [0.5, 0.95, 0.99])
def test_the_interval_equals_scipys(level: float) -> None:
    values = [0.912, 0.905, 0.921, 0.899]
    low, high = stats.ttest_1samp(values, 0.0).confidence_interval(level)
    interval = t_interval(values, level)
    assert (interval.low, interval.high) == pytest.approx((low, high), rel=1e-12)
    assert (interval.mean, interval.n, interval.level) == (pytest.approx(np.mean(values)), 4, level)


def test_one_value_has_a_mean_and_no_interval() -> None:
    assert mean_and_sd([2.5]) == (2.5, None)
    assert t_interval([2.5]) == Interval(2.5, None, None, 1, 0.95)


def test_equal_values_have_an_interval_of_no_width() -> None:
    assert t_interval([2.0, 2.0, 2.0]) == Interval(2.0, 2.0, 2.0, 3, 0.95)


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
    interval = t_interval(values)
    assert interval.mean == mean or (math.isnan(interval.mean) and math.isnan(mean))
    assert (interval.low, interval.high) == (None, None)


def test_the_paired_difference_uses_common_seeds_only() -> None:
    a, b = {0: 5.0, 1: 6.0, 2: 9.0, 7: 100.0}, {2: 6.0, 1: 5.0, 0: 3.0, 8: -100.0}
    assert paired_difference(a, b) == t_interval([2.0, 1.0, 3.0])


def test_pairing_removes_what_seeds_share() -> None:
    a, b = {seed: 10.0 * seed + 1 for seed in range(5)}, {seed: 10.0 * seed for seed in range(5)}
    found = paired_difference(a, b)
    assert found.mean == 1.0 and found.low is not None and found.low > 0


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
        t_interval([])


@pytest.mark.parametrize("level", [0.0, 1.0, math.nan])
def test_a_level_outside_0_to_1_is_refused(level: float) -> None:
    with pytest.raises(ValueError, match=r"level must lie in \(0, 1\)"):
        t_interval([1.0, 2.0], level)


def test_no_common_seed_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no seed in common: \[0, 1\] and \[2\]"):
        paired_difference({0: 1.0, 1: 1.0}, {2: 1.0})


SKEWED = np.random.default_rng(3).exponential(size=12).tolist()


@pytest.mark.parametrize("probability", [0.5, 0.55, 0.75, 0.9, 0.975, 0.995, 0.9995, 0.1, 0.025])
def test_the_quantile_equals_scipys(probability: float) -> None:
    degrees = [*range(1, 41), 99, 100, 999, 9999]
    ours = [t_quantile(probability, each) for each in degrees]
    assert ours == pytest.approx(stats.t.ppf(probability, degrees), rel=1e-11, abs=1e-15)


def test_intervals_need_no_scipy_which_takes_long_to_import() -> None:
    code = (
        "import sys; from epsgrid.numerics.statistics import mean_interval\n"
        "mean_interval([0.1, 0.3, 0.2]), mean_interval([0.1 * k * k for k in range(9)])\n"
        "assert 'scipy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_far_out_the_quantile_is_right_to_what_a_probability_near_1_can_say() -> None:
    assert t_quantile(1 - 1e-9, 1) == pytest.approx(stats.t.ppf(1 - 1e-9, 1), rel=1e-6)


@pytest.mark.parametrize("values", [SKEWED, [0.9, 0.8, 0.95, 0.85, 0.7, 0.91, 0.93, 0.97]])
def test_the_bootstrap_equals_scipys_where_it_does_not_expand(values: list[float]) -> None:
    """Both draw at random, so that ends agree within a tenth of the standard error; skewed ends lie further off."""
    ours = bootstrap_interval(values, resamples=50_000, expand=False)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=50_000, method="BCa", random_state=1).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.1 * stats.sem(values))


def test_the_expansion_widens_as_much_as_t_does_for_even_values() -> None:
    """Of values that lie evenly about their mean, percentiles moved outwards give t's interval up to its tails."""
    values = stats.norm.ppf((np.arange(30) + 0.5) / 30).tolist()
    ours, t, plain = bootstrap_interval(values), t_interval(values), bootstrap_interval(values, expand=False)
    assert (ours.low, ours.high) == pytest.approx((t.low, t.high), abs=0.02)
    assert plain.high is not None and ours.high is not None and plain.high < ours.high


def test_the_bootstrap_leans_to_where_the_values_reach() -> None:
    found, t = bootstrap_interval(SKEWED), t_interval(SKEWED)
    assert found.low is not None and found.high is not None and t.low is not None and t.high is not None
    assert found.low > t.low and found.high > t.high


def test_the_bootstrap_gives_the_same_interval_every_time() -> None:
    assert bootstrap_interval(SKEWED) == bootstrap_interval(SKEWED)
    assert bootstrap_interval(SKEWED) != bootstrap_interval(SKEWED, seed=1)


def test_blocks_do_not_change_what_is_drawn_for_many_values() -> None:
    values = np.random.default_rng(0).normal(size=3000).tolist()
    found, t = bootstrap_interval(values, resamples=2000), t_interval(values)
    assert (found.low, found.high) == pytest.approx((t.low, t.high), abs=0.1 * stats.sem(values) * 2)


@pytest.mark.parametrize("outlier", [1e3, -1e3])
def test_one_far_value_leaves_ends_in_order(outlier: float) -> None:
    found = bootstrap_interval([*([1.0] * 7), outlier])
    assert found.low is not None and found.high is not None
    assert found.low <= found.mean <= found.high


def test_the_bootstrap_of_equal_or_single_or_infinite_values() -> None:
    assert bootstrap_interval([2.0] * 9) == Interval(2.0, 2.0, 2.0, 9, 0.95, "BCa")
    assert bootstrap_interval([2.0]) == Interval(2.0, None, None, 1, 0.95, "BCa")
    assert bootstrap_interval([2.0, math.inf]).low is None


def test_few_values_use_t_and_more_the_bootstrap() -> None:
    few = SKEWED[: ENOUGH_TO_RESAMPLE - 1]
    assert mean_interval(few) == t_interval(few)
    assert mean_interval(SKEWED) == bootstrap_interval(SKEWED)
    pairs = {seed: value + seed for seed, value in enumerate(SKEWED)}
    assert paired_difference(pairs, {seed: float(seed) for seed in pairs}).method == "BCa"


@pytest.mark.parametrize(
    ("draw", "mean", "least"), [(stats.norm(), 0.0, 0.925), (stats.expon(), 1.0, 0.89)], ids=["normal", "skewed"]
)
def test_intervals_of_eight_values_cover_the_true_mean(draw: stats.rv_continuous, mean: float, least: float) -> None:
    """Nominally 95 %; 400 repetitions are off by 1.1 % (one deviation). Plain percentiles would cover 90 and 86 %."""
    samples = draw.rvs(size=(400, 8), random_state=5)
    found = [bootstrap_interval(sample.tolist(), resamples=999) for sample in samples]
    covered = np.mean([each.low <= mean <= each.high for each in found])  # type: ignore[operator]
    assert least <= covered <= 0.98
