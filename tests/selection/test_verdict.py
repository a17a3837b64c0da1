"""Every answer of the verdict, its reason, and its statistics against SciPy's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from epsgrid.report.compare import compare
from epsgrid.selection.verdict import Verdict
from tests.report.simulate import Outcome, Truth, layer, measured, peaked, simulate

INSIDE, OUTSIDE = 1e-3, 1e-6
GRIDS = {"narrowed": (INSIDE,), "conventional": (OUTSIDE, INSIDE), "rates": (1e-3,)}


def pair(inside: dict[int, Outcome], outside: dict[int, Outcome]) -> Truth:
    return lambda rate, epsilon, seed: (inside if epsilon == INSIDE else outside)[seed]


def scored(*values: float) -> dict[int, Outcome]:
    """Trials with these test scores, chosen by a validation score that is the same for all."""
    return {seed: (0.9, value) for seed, value in enumerate(values)}


def verdict(tmp_path: Path, truth: Truth | None, **changes: object) -> Verdict:
    return compare(simulate(tmp_path, truth, **{**GRIDS, **changes})).verdict  # type: ignore[arg-type]


def test_yes_where_the_interval_is_on_the_inside(tmp_path: Path) -> None:
    inside, outside = (0.91, 0.92, 0.90), (0.85, 0.87, 0.84)
    found = verdict(tmp_path, pair(scored(*inside), scored(*outside)))
    assert found.answer == "yes"
    assert (found.inside, found.outside) == ("lr 1e-3, ε 1e-3", "lr 1e-3, ε 1e-6")
    assert found.reason == (
        "best inside (lr 1e-3, ε 1e-3) 91.00 ± 1.00 %, best outside (lr 1e-3, ε 1e-6) 85.33 ± 1.53 %: inside is "
        "better, 95 % interval of the difference +4.23 to +7.10 points over 3 seeds"
    )
    expected = stats.ttest_rel(inside, outside).confidence_interval(0.95)
    assert found.difference is not None
    assert (found.difference.low, found.difference.high) == pytest.approx((expected.low, expected.high))
    assert found.difference.mean == pytest.approx(np.mean(inside) - np.mean(outside))


def test_no_where_the_interval_is_on_the_outside(tmp_path: Path) -> None:
    found = verdict(tmp_path, pair(scored(0.85, 0.87, 0.84), scored(0.91, 0.92, 0.90)))
    assert found.answer == "no"
    assert "outside is better, 95 % interval of the difference −7.10 to −4.23 points" in found.reason


def test_yes_where_smaller_is_better(tmp_path: Path) -> None:
    truth = pair(scored(61.0, 62.0, 60.5), scored(71.0, 72.5, 70.0))
    found = verdict(tmp_path, truth, metric=("perplexity", "min", ""))
    assert found.answer == "yes"
    assert found.difference is not None and found.difference.mean is not None
    assert found.difference.mean > 0
    assert "95 % interval of the difference" in found.reason and "points" not in found.reason


def test_a_flat_curve_cannot_tell(tmp_path: Path) -> None:
    found = verdict(tmp_path, pair(scored(0.90, 0.91, 0.92), scored(0.91, 0.90, 0.92)))
    assert found.answer == "cannot tell"
    assert "a mean difference of 0.00 points is within the spread of the seeds, so the curve is flat" in found.reason


def test_equal_scores_cannot_tell(tmp_path: Path) -> None:
    assert verdict(tmp_path, pair(scored(0.9, 0.9, 0.9), scored(0.9, 0.9, 0.9))).answer == "cannot tell"


def test_too_few_seeds_cannot_tell(tmp_path: Path) -> None:
    found = verdict(tmp_path, pair(scored(0.95, 0.93), scored(0.91, 0.905)), seeds=(0, 1))
    assert found.answer == "cannot tell"
    assert "a mean difference of +3.25 points needs more than 2 seeds to tell from chance" in found.reason


def test_one_seed_can_never_tell(tmp_path: Path) -> None:
    found = verdict(tmp_path, pair(scored(0.99), scored(0.10)), seeds=(0,))
    assert found.answer == "cannot tell"
    assert "rest on one common seed, and one seed has no spread" in found.reason
    assert found.difference is not None and found.difference.low is None


ALL_DIVERGED: dict[int, Outcome] = dict.fromkeys(range(3), "diverged")


def test_divergence_on_one_side_decides(tmp_path: Path) -> None:
    found = verdict(tmp_path / "a", pair(scored(0.5, 0.5, 0.5), ALL_DIVERGED))
    assert (found.answer, found.difference) == ("yes", None)
    assert found.reason == "every trial outside the bounds diverged, while lr 1e-3, ε 1e-3 trained on all 3 seeds"
    found = verdict(tmp_path / "b", pair(ALL_DIVERGED, scored(0.5, 0.5, 0.5)))
    assert found.answer == "no"
    assert found.reason == "every trial inside the bounds diverged, while lr 1e-3, ε 1e-6 trained on all 3 seeds"


def test_divergence_on_one_side_with_one_seed_cannot_tell(tmp_path: Path) -> None:
    found = verdict(tmp_path / "a", pair(scored(0.5), ALL_DIVERGED), seeds=(0,))
    assert (found.answer, "trained on only 1 of 1 seed" in found.reason) == ("cannot tell", True)
    found = verdict(tmp_path / "b", pair({**ALL_DIVERGED, 0: (0.5, 0.5)}, ALL_DIVERGED))
    assert (found.answer, "trained on only 1 of 3 seeds" in found.reason) == ("cannot tell", True)


def test_all_diverged_cannot_tell(tmp_path: Path) -> None:
    found = verdict(tmp_path, lambda rate, epsilon, seed: "diverged")
    assert (found.answer, found.reason) == ("cannot tell", "every trial diverged, inside the bounds and outside")


def test_a_best_cell_with_a_diverged_seed_cannot_tell(tmp_path: Path) -> None:
    found = verdict(tmp_path, pair(scored(0.9, 0.91, 0.92), {**scored(0.5, 0.5), 2: "diverged"}))
    assert found.answer == "cannot tell"
    assert found.reason == "outside the bounds: the best cell, lr 1e-3, ε 1e-6, diverged on 1 of 3 seeds"


def test_a_yes_needs_every_cell_outside(tmp_path: Path) -> None:
    def truth(rate: float, epsilon: float | None, seed: int) -> Outcome:
        return "failed" if epsilon == 1e-8 else peaked()(rate, epsilon, seed)

    found = verdict(tmp_path / "a", truth, conventional=(1e-8, OUTSIDE, INSIDE))
    assert found.answer == "cannot tell"
    assert found.reason.startswith(
        "1 of 2 cells outside the bounds lack trials and might hold the best; so far the answer would be yes: "
    )
    assert found.difference is not None

    def inside_missing(rate: float, epsilon: float | None, seed: int) -> Outcome:
        return "pending" if epsilon == 1e-2 else peaked()(rate, epsilon, seed)

    assert verdict(tmp_path / "b", inside_missing, narrowed=(INSIDE, 1e-2)).answer == "yes"


def test_a_no_needs_every_cell_inside(tmp_path: Path) -> None:
    def truth(rate: float, epsilon: float | None, seed: int) -> Outcome:
        return "pending" if epsilon == 1e-2 else peaked(best=OUTSIDE)(rate, epsilon, seed)

    found = verdict(tmp_path, truth, narrowed=(INSIDE, 1e-2))
    assert found.answer == "cannot tell"
    assert "1 of 2 cells inside the bounds lack trials" in found.reason


def test_a_side_without_a_complete_cell_cannot_tell(tmp_path: Path) -> None:
    found = verdict(tmp_path, pair(scored(0.9, 0.9, 0.9), {**scored(0.5, 0.5), 2: "pending"}))
    assert found.answer == "cannot tell"
    assert found.reason == "outside the bounds: none of 1 cell has a result for every seed"


def test_bounds_that_cover_the_whole_grid_are_no_yes(tmp_path: Path) -> None:
    found = verdict(tmp_path, None, conventional=(1e-4, 1e-3))
    assert found.answer == "cannot tell"
    assert found.reason.startswith("the bounds cover the whole conventional grid")


def test_no_cell_inside_cannot_tell(tmp_path: Path) -> None:
    found = verdict(tmp_path, None, narrowed=None, conventional=(1e-8, 1e-7))
    assert (found.answer, found.reason) == ("cannot tell", "no ε inside the bounds is part of a grid")


def test_without_the_conventional_grid_cannot_tell(tmp_path: Path) -> None:
    found = verdict(tmp_path, None, conventional=None)
    assert found.reason.startswith("the conventional grid was not swept")


def test_without_bounds_cannot_tell(tmp_path: Path) -> None:
    assert verdict(tmp_path, None, probe=False).reason == "no bounds were measured"


def test_with_the_probe_only_cannot_tell(tmp_path: Path) -> None:
    assert verdict(tmp_path, None, sweep=False).reason == "no grid was swept"


def test_before_any_trial_has_finished_cannot_tell(tmp_path: Path) -> None:
    assert verdict(tmp_path, lambda rate, epsilon, seed: "pending").reason == "no trial has finished"


def test_without_epsilon_there_is_nothing_to_bound(tmp_path: Path) -> None:
    found = verdict(tmp_path, None, reference=True, probe=False, optimizer="sgdm")
    assert found.reason == "sgdm has no ε, so there is nothing to bound"


def test_other_bounds_than_the_grid_was_made_from_cannot_tell(tmp_path: Path) -> None:
    found = verdict(tmp_path / "a", None, stale=True)
    assert found.reason.startswith("the bounds were measured again, and differ")
    same_decades = verdict(tmp_path / "b", None, stale=True, narrowed=(1e-4, 1e-3, 1e-2))
    assert same_decades.answer == "yes"


def test_the_decades_at_both_ends_count_as_inside(tmp_path: Path) -> None:
    layers = [measured("w", (2,), np.array([1e-8, 1e-4], dtype=np.float32)), layer("b", (100,), -3.0, 0.1)]
    rows = compare(simulate(tmp_path, None, layers=layers, conventional=(1e-5, 1e-4, 1e-3, 1e-2, 1e-1))).cells
    assert {row.epsilon: row.inside for row in rows} == {
        1e-5: False,
        1e-4: True,
        1e-3: True,
        1e-2: True,
        1e-1: False,
    }


def test_scores_without_a_common_seed_cannot_tell(tmp_path: Path) -> None:
    """A test score that is not finite is left out, though the trial trained."""
    nan = float("nan")
    inside: dict[int, Outcome] = {0: (0.9, 0.9), 1: (0.9, nan)}
    outside: dict[int, Outcome] = {0: (0.9, nan), 1: (0.9, 0.8)}
    found = verdict(tmp_path, pair(inside, outside), seeds=(0, 1))
    assert found.answer == "cannot tell"
    assert found.reason == "inside the bounds and outside the bounds share no seed with a test score"
