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
ALL_DIVERGED: dict[int, Outcome] = dict.fromkeys(range(3), "diverged")
NAN = float("nan")


def pair(inside: dict[int, Outcome], outside: dict[int, Outcome]) -> Truth:
    return lambda rate, epsilon, seed: (inside if epsilon == INSIDE else outside)[seed]


def scored(*values: float) -> dict[int, Outcome]:
    """Trials with these test scores, chosen by a validation score that is the same for all."""
    return {seed: (0.9, value) for seed, value in enumerate(values)}


def without(epsilon: float, outcome: Outcome, best: float = 1e-3) -> Truth:
    """A curve that peaks at an ε, and another ε at which every trial ends alike."""
    return lambda rate, own, seed: outcome if own == epsilon else peaked(best=best)(rate, own, seed)


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


@pytest.mark.parametrize(
    ("inside", "outside", "reason"),
    [
        (scored(0.90, 0.91, 0.92), scored(0.91, 0.90, 0.92), "of 0.00 points is within the spread of the seeds, so"),
        (scored(0.9, 0.9, 0.9), scored(0.9, 0.9, 0.9), "a mean difference of 0.00 points"),
        (scored(0.95, 0.93), scored(0.91, 0.905), "of +3.25 points needs more than 2 seeds to tell from chance"),
        (scored(0.99), scored(0.10), "rest on one common seed, and one seed has no spread"),
        (scored(0.5), ALL_DIVERGED, "trained on only 1 of 1 seed"),
        ({**ALL_DIVERGED, 0: (0.5, 0.5)}, ALL_DIVERGED, "trained on only 1 of 3 seeds"),
        (ALL_DIVERGED, ALL_DIVERGED, "every trial diverged, inside the bounds and outside"),
        (
            scored(0.9, 0.91, 0.92),
            {**scored(0.5, 0.5), 2: "diverged"},
            "outside the bounds: the best cell, lr 1e-3, ε 1e-6, diverged on 1 of 3 seeds",
        ),
        (
            scored(0.9, 0.9, 0.9),
            {**scored(0.5, 0.5), 2: "pending"},
            "outside the bounds: none of 1 cell has a result for every seed",
        ),
        # a test score that is not finite is left out, though the trial trained
        (scored(0.9, NAN), scored(NAN, 0.8), "inside the bounds and outside the bounds share no seed with a test"),
    ],
)
def test_scores_that_cannot_tell(
    tmp_path: Path, inside: dict[int, Outcome], outside: dict[int, Outcome], reason: str
) -> None:
    found = verdict(tmp_path, pair(inside, outside), seeds=tuple(inside))
    assert found.answer == "cannot tell" and reason in found.reason
    assert found.difference is None or found.difference.low is None or found.difference.low <= 0


@pytest.mark.parametrize(
    ("truth", "changes", "reason"),
    [
        (None, {"conventional": (1e-4, 1e-3)}, "the bounds cover the whole conventional grid"),
        (None, {"narrowed": None, "conventional": (1e-8, 1e-7)}, "no ε inside the bounds is part of a grid"),
        (None, {"conventional": None}, "the conventional grid was not swept"),
        (None, {"probe": False}, "no bounds were measured"),
        (None, {"sweep": False}, "no grid was swept"),
        (lambda rate, epsilon, seed: "pending", {}, "no trial has finished"),
        (None, {"reference": True, "probe": False, "optimizer": "sgdm"}, "sgdm has no ε, so there is nothing to bound"),
        (None, {"stale": True}, "the bounds were measured again, and differ"),
        (
            without(1e-8, "failed"),
            {"conventional": (1e-8, OUTSIDE, INSIDE)},
            "1 of 2 cells outside the bounds lack trials and might hold the best; so far the answer would be yes: ",
        ),
        (
            without(1e-2, "pending", best=OUTSIDE),
            {"narrowed": (INSIDE, 1e-2)},
            "1 of 2 cells inside the bounds lack trials and might hold the best; so far the answer would be no: ",
        ),
    ],
)
def test_experiments_that_cannot_tell(
    tmp_path: Path, truth: Truth | None, changes: dict[str, object], reason: str
) -> None:
    found = verdict(tmp_path, truth, **changes)
    assert found.answer == "cannot tell" and found.reason.startswith(reason)


def test_divergence_on_one_side_decides(tmp_path: Path) -> None:
    found = verdict(tmp_path / "a", pair(scored(0.5, 0.5, 0.5), ALL_DIVERGED))
    assert (found.answer, found.difference) == ("yes", None)
    assert found.reason == "every trial outside the bounds diverged, while lr 1e-3, ε 1e-3 trained on all 3 seeds"
    found = verdict(tmp_path / "b", pair(ALL_DIVERGED, scored(0.5, 0.5, 0.5)))
    assert found.answer == "no"
    assert found.reason == "every trial inside the bounds diverged, while lr 1e-3, ε 1e-6 trained on all 3 seeds"


def test_a_yes_does_not_need_every_cell_inside_nor_bounds_of_the_same_probe(tmp_path: Path) -> None:
    assert verdict(tmp_path / "a", without(1e-2, "pending"), narrowed=(INSIDE, 1e-2)).answer == "yes"
    assert verdict(tmp_path / "b", None, stale=True, narrowed=(1e-4, 1e-3, 1e-2)).answer == "yes"  # the same decades
    assert verdict(tmp_path / "c", None, stale=True, narrowed=None).answer == "yes"  # no narrowed grid to be stale


def test_the_decades_at_both_ends_count_as_inside(tmp_path: Path) -> None:
    layers = [measured("w", (2,), np.array([1e-8, 1e-4], dtype=np.float32)), layer("b", (100,), -3.0, 0.1)]
    rows = compare(simulate(tmp_path, None, layers=layers, conventional=(1e-5, 1e-4, 1e-3, 1e-2, 1e-1))).cells
    inside = {row.epsilon: row.inside for row in rows}
    assert inside == {1e-5: False, 1e-4: True, 1e-3: True, 1e-2: True, 1e-1: False}
