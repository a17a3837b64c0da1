"""Comparisons in the two-way layout, against slow independent versions."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from epsgrid.numerics import layout as module
from epsgrid.numerics.layout import Layout, compare_with_best, loss, upper_bounds
from epsgrid.numerics.statistics import t_quantile

NAN = float("nan")
Scores = npt.NDArray[np.float64]


def draw(settings: int, seeds: int, sd: float | npt.ArrayLike = 1.0, seed: int = 0) -> Scores:
    """Test scores of equally good settings; the seeds add the same to each."""
    rng = np.random.default_rng(seed)
    noise = np.broadcast_to(np.asarray(sd, dtype=float), (settings,))[:, None] * rng.normal(size=(settings, seeds))
    return np.asarray(10 + rng.normal(size=seeds) + noise)


def clear(test: Scores) -> Layout:
    """A layout in which the earlier setting is chosen, however the test scores turn out."""
    selecting = np.where(np.isfinite(test), -100.0 * np.arange(len(test))[:, None], NAN)
    return Layout(selecting, test)


def residual_variance(test: Scores) -> tuple[float, int]:
    """Least squares with dummy variables for settings and seeds, for the scores that are known."""
    rows, columns = np.nonzero(np.isfinite(test))
    design = np.zeros((len(rows), sum(test.shape)))
    design[np.arange(len(rows)), rows] = 1
    design[np.arange(len(rows)), test.shape[0] + columns] = 1
    values = test[rows, columns]
    fitted = design @ np.linalg.lstsq(design, values, rcond=None)[0]
    return float(((values - fitted) ** 2).sum()), len(rows) - int(np.linalg.matrix_rank(design))


@pytest.mark.parametrize(("settings", "seeds"), [(2, 2), (5, 3), (13, 8)])
def test_the_spread_is_that_of_a_two_way_analysis_of_variance(settings: int, seeds: int) -> None:
    layout = clear(draw(settings, seeds))
    squares, degrees = residual_variance(layout.test)
    assert layout._equal.all()
    assert layout.degrees == degrees == (settings - 1) * (seeds - 1)
    assert layout.sd == pytest.approx(math.sqrt(squares / degrees))


def test_further_seeds_of_some_settings_add_what_least_squares_adds() -> None:
    test = draw(8, 11)
    test[5:, 3:] = NAN
    test[3:, 7:] = NAN
    layout = clear(test)
    squares, degrees = residual_variance(test)
    assert (layout.seeds, layout.counts.tolist()) == (3, [11] * 3 + [7] * 2 + [3] * 3)
    assert layout.degrees == degrees
    assert layout.sd == pytest.approx(math.sqrt(squares / degrees))


def test_the_test_for_equal_spreads_is_bartletts() -> None:
    """Of independent samples it is SciPy's; that residuals of a layout are slightly dependent is left out."""
    for seed in range(20):
        scores = draw(6, 5, [1, 1, 1, 1, 2, 3], seed)
        centred = scores - scores.mean(1, keepdims=True)
        equal = stats.bartlett(*centred).pvalue >= 0.05
        assert module._spreads_are_equal(centred) == equal


def test_settings_that_spread_otherwise_stay_out_of_the_pool() -> None:
    wide = clear(draw(12, 6, [1.0] * 10 + [20.0] * 2))
    assert wide.pool.tolist() == [True] * 10 + [False] * 2
    assert wide.sd == pytest.approx(math.sqrt(residual_variance(wide.test[:10])[0] / (9 * 5)))
    best = clear(draw(30, 6, [5.0] + [1.0] * 29, seed=3))
    assert not best.pool[0], "the best one, which Bartlett's test would keep longest"


def test_a_lone_setting_of_a_layout_may_spread_more_by_an_f_test() -> None:
    layout = clear(draw(30, 4, [1.0] * 14 + [2.8] + [1.0] * 15, seed=1))
    assert layout._equal.all() and not layout.pool[14]
    own = (module._residuals(layout.test)[14] ** 2).sum() * 30 / 29
    squares, degrees = residual_variance(layout.test)
    ratio = own / 3 / ((squares - own) / (degrees - 3))
    assert stats.f.sf(ratio, 3, degrees - 3) < 0.01


def test_two_settings_are_compared_by_students_t_with_the_pooled_spread() -> None:
    layout = clear(draw(10, 4))
    found = loss(layout, [2], [7])
    mean = float((layout.test[2] - layout.test[7]).mean())
    half = stats.t.ppf(0.95, 27) * layout.sd * math.sqrt(2 / 4)
    assert (found.mean, found.low, found.high) == pytest.approx((mean, mean - half, mean + half))
    assert (found.n, found.pooled) == (4, True)


def test_settings_outside_the_pool_are_compared_by_a_paired_t_test() -> None:
    layout = clear(draw(12, 6, [1.0] * 10 + [20.0] * 2))
    found = loss(layout, [0], [11])
    interval = stats.ttest_rel(layout.test[0], layout.test[11]).confidence_interval(0.9)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert not found.pooled


def slow_best(layout: Layout, settings: list[int]) -> tuple[list[float], list[float]]:
    """The scores of the best of some settings for each seed, held out and in sample, seed by seed in plain loops."""
    seeds = range(layout.test.shape[1])

    def weighted(seed: int, used: list[int], tau: float) -> float:
        error = tau * layout.sd * math.sqrt(2 / len(used))
        means = [np.mean([layout.selecting[k, s] for s in used]) for k in settings]
        weights = [math.exp(-((max(means) - mean) ** 2) / (2 * error**2)) for mean in means]
        total = sum(weight * layout.test[k, seed] for k, weight in zip(settings, weights, strict=True))
        return float(total / sum(weights))

    held = [weighted(seed, [other for other in seeds if other != seed], 1.0) for seed in seeds]
    return held, [weighted(seed, list(seeds), 2.1 / len(seeds)) for seed in seeds]


def test_the_best_of_a_set_is_held_out_on_one_side_and_in_sample_on_the_other() -> None:
    test = draw(9, 5)
    layout = Layout(test + np.random.default_rng(9).normal(size=test.shape) / 2, test)
    better, other = [0, 3, 4], [1, 2, 5, 6]
    (held, sample), (other_held, other_sample) = slow_best(layout, better), slow_best(layout, other)
    found = loss(layout, better, other)
    assert found.mean == pytest.approx(np.mean(held) - np.mean(other_held))
    half = found.high - (np.mean(sample) - np.mean(other_held))
    least, most = (t_quantile(32, 0.95) * layout.sd * math.sqrt(part / 5) for part in (1 + 1 / 4, 2))
    assert least < half < most, "a mean over four settings is sharper than one"
    assert found.low < np.mean(held) - np.mean(other_sample) < found.mean < found.high


@pytest.mark.parametrize("spread", [0.0, 1.5])
def test_settings_without_further_seeds_keep_the_bound_they_had_before_them(spread: float) -> None:
    test = draw(6, 10)
    test[2] += 4
    test[1, 3:] += spread * np.array([-3, 3, -3, 3, -3, 3, 0])  # which says nothing of setting 2
    test[2:, 3:] = NAN
    layout, first = clear(test), clear(test[:, :3])
    assert first.pool.all() and layout.pool[1] == (not spread)
    found = loss(layout, [0, 2, 3], [1])
    bound = float((test[2, :3] - test[1, :3]).mean() + t_quantile(first.degrees, 0.95) * first.sd * math.sqrt(2 / 3))
    assert found.n == 10
    assert loss(layout, [0], [1]).high < bound, "that of setting 2 is the highest"
    assert found.high == pytest.approx(bound)
    assert upper_bounds(layout, [2], [1]).tolist() == pytest.approx([bound])


def test_held_out_weights_of_the_grids_seeds_do_not_know_which_settings_were_lucky() -> None:
    test = draw(4, 6)
    test[2:, 3:] = NAN
    layout = Layout(test, test)
    weights = layout.held_out([0, 1, 2, 3], 6)
    assert (weights[:, :3] > 0).all() and (weights[2:, 3:] == 0).all()
    assert weights.sum(0) == pytest.approx(np.ones(6))
    assert layout.in_sample([0, 1, 2, 3], 6)[2:].sum() == 0


def test_one_seed_has_a_difference_and_no_bounds() -> None:
    found = loss(clear(np.array([[3.0], [1.5], [9.0]])), [0], [1, 2])
    assert (found.mean, found.n, found.pooled) == (1.5, 1, False)
    assert math.isnan(found.low) and math.isnan(found.high)


def test_scores_that_agree_are_in_doubt_by_half_a_step() -> None:
    """Accuracies are counted in examples: three equal differences do not mean that there is no doubt."""
    base = np.array([0.90, 0.92, 0.91])
    layout = clear(np.stack([base, base - 0.01, base - 0.03]))
    found = loss(layout, [0], [2])
    assert layout.sd == pytest.approx(0.005)
    assert found.low < 0.03 < found.high
    constant = clear(np.full((3, 3), 0.5))
    assert (constant.sd, loss(constant, [0], [1]).high) == (0.0, 0.0)


def test_each_set_is_compared_with_the_best_of_the_others_at_bonferronis_level() -> None:
    layout = clear(draw(7, 4))
    sets = [[0, 1], [2], [3, 4], [5, 6]]
    found = compare_with_best(layout, sets, 0.9)
    for own, each in zip(sets, found, strict=True):
        rest = [place for place in range(7) if place not in own]
        assert each == loss(layout, rest, own, 1 - 0.1 / 4)


def test_units_and_the_order_of_settings_do_not_matter() -> None:
    test = draw(8, 4)
    selecting = test + np.random.default_rng(4).normal(size=test.shape) / 2
    found = loss(Layout(selecting, test), [0, 1, 2], [3, 4, 5, 6, 7])
    scaled = loss(Layout(10 * selecting, 10 * test), [0, 1, 2], [3, 4, 5, 6, 7])
    assert (scaled.mean, scaled.low, scaled.high) == pytest.approx((10 * found.mean, 10 * found.low, 10 * found.high))
    turned = loss(Layout(selecting[::-1], test[::-1]), [7, 6, 5], [4, 3, 2, 1, 0])
    assert (turned.mean, turned.low, turned.high) == pytest.approx((found.mean, found.low, found.high))
    back = loss(Layout(selecting, test), [3, 4, 5, 6, 7], [0, 1, 2])
    assert (back.mean, back.low, back.high) == pytest.approx((-found.mean, -found.high, -found.low))
