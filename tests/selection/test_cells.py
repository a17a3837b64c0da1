"""Cells: what is averaged over seeds, and which cell is chosen."""

from __future__ import annotations

from pathlib import Path
from statistics import mean, stdev

import pytest

from epsgrid.errors import CorruptRecordError
from epsgrid.selection.cells import Cell, Choice, best, read_cells, read_metric, tally
from epsgrid.selection.formatting import Metric
from epsgrid.selection.load import load_experiment
from epsgrid.selection.trained import trained
from epsgrid.store.records import TrialResult
from tests.report.simulate import Outcome, Truth, cells, result, simulate

ACCURACY = Metric("accuracy", "max", "%")
PERPLEXITY = Metric("perplexity", "min", "")
Fates = dict[float, tuple[Outcome, ...]]


def by_epsilon(fates: Fates) -> Truth:
    """One outcome for each ε and seed, the same for all learning rates."""
    return lambda rate, epsilon, seed: fates[epsilon or 0.0][seed]


def cells_of(tmp_path: Path, fates: Fates) -> tuple[Cell, ...]:
    epsilons = tuple(fates)
    stored = simulate(tmp_path, by_epsilon(fates), narrowed=None, conventional=epsilons, rates=(1e-3,))
    return read_cells(stored, stored.bounds)


def chosen(choice: Choice) -> float | None:
    assert choice.cell is not None
    return choice.cell.epsilon


def test_a_cell_averages_its_done_seeds(tmp_path: Path) -> None:
    (cell,) = cells_of(tmp_path, {1e-3: ((0.9, 0.8), (0.7, 0.6), "diverged")})
    assert cell.score is not None and cell.test is not None
    assert cell.score.mean == pytest.approx(mean([0.9, 0.7]))
    assert cell.score.sd == pytest.approx(stdev([0.9, 0.7]))
    assert (cell.test.mean, cell.test.n) == (pytest.approx(0.7), 2)
    assert (cell.tally.done, cell.tally.diverged, cell.tally.complete) == (2, 1, True)
    assert cell.test_by_seed() == {0: 0.8, 1: 0.6}


def test_one_seed_has_no_deviation_and_cells_know_whether_they_lie_inside(tmp_path: Path) -> None:
    low, high = cells_of(tmp_path, {1e-5: ((0.9, 0.8), "failed", "pending"), 1e-4: ((0.9, 0.8),) * 3})
    assert low.score is not None
    assert (low.score.sd, low.score.n, low.label) == (None, 1, "lr 1e-3, ε 1e-5")
    assert (low.tally.failed, low.tally.missing, low.tally.complete) == (1, 1, False)
    assert (low.inside, high.inside) == (False, True)


@pytest.mark.parametrize(
    ("fates", "metric", "epsilon"),
    [
        # by validation, not test
        ({1e-5: ((0.9, 0.1),) * 3, 1e-4: ((0.8, 0.99),) * 3}, ACCURACY, 1e-5),
        # the smallest where smaller is better
        ({1e-5: ((90.0, 90.0),) * 3, 1e-4: ((80.0, 95.0),) * 3}, PERPLEXITY, 1e-4),
        # of equals the first
        ({1e-5: ((0.9, 0.9),) * 3, 1e-4: ((0.9, 0.9),) * 3}, ACCURACY, 1e-5),
        # a diverged seed is worse than any score
        ({1e-5: ((0.99, 0.99), (0.99, 0.99), "diverged"), 1e-4: ((0.1, 0.1),) * 3}, ACCURACY, 1e-4),
        ({1e-5: ((0.99, 0.99), "diverged", "diverged"), 1e-4: ((0.1, 0.1), (0.1, 0.1), "diverged")}, ACCURACY, 1e-4),
    ],
)
def test_the_best_cell_is_chosen(tmp_path: Path, fates: Fates, metric: Metric, epsilon: float) -> None:
    assert chosen(best(cells_of(tmp_path, fates), metric)) == epsilon


def test_an_incomplete_cell_is_listed_not_chosen(tmp_path: Path) -> None:
    fates: Fates = {1e-5: ((0.99, 0.99), (0.99, 0.99), "failed"), 1e-4: ((0.1, 0.1),) * 3}
    choice = best(cells_of(tmp_path, fates), ACCURACY)
    assert chosen(choice) == 1e-4
    assert (choice.candidates, choice.incomplete) == (2, 1)


@pytest.mark.parametrize(
    ("fates", "why"),
    [
        ({}, "no cell was planned there"),
        ({1e-4: ("diverged",) * 3}, "every trial diverged"),
        ({1e-4: ("pending",) * 3}, "none of 1 cell has a result for every seed"),
        ({1e-4: ("diverged",) * 3, 1e-3: ("failed",) * 3}, "every complete cell diverged, 1 of 2 cells incomplete"),
    ],
)
def test_where_nothing_can_be_chosen_it_says_why(tmp_path: Path, fates: Fates, why: str) -> None:
    choice = best(cells_of(tmp_path, fates) if fates else [], ACCURACY)
    assert (choice.cell, choice.unknown) == (None, why)


def test_a_done_trial_with_a_score_that_is_not_finite_counts_as_diverged(tmp_path: Path) -> None:
    stored = simulate(tmp_path, lambda rate, epsilon, seed: (float("nan"), 0.5), rates=(1e-3,), seeds=(0,))
    cell = read_cells(stored)[0]
    assert (cell.tally.diverged, cell.score, cell.inside) == (1, None, None)
    assert cell.trials[0].error == "its score is not finite"


@pytest.mark.parametrize("huge", [1e56, 1e200, 1e300])
@pytest.mark.parametrize("metric", [PERPLEXITY, ACCURACY])
def test_a_score_beyond_all_measure_counts_as_diverged(tmp_path: Path, metric: Metric, huge: float) -> None:
    """As on an LSTM with a large ε at its effective learning rate; the squares of such scores are no numbers."""
    good = (360.0, 361.0) if metric is PERPLEXITY else (0.9, 0.8)
    fates: Fates = {1e-8: (good,) * 3, 1e-2: ((-metric.sign * huge,) * 2, good, (good[0], -metric.sign * huge))}
    stored = simulate(
        tmp_path,
        by_epsilon(fates),
        narrowed=None,
        conventional=tuple(fates),
        rates=(1e-3,),
        metric=(metric.name, metric.direction, metric.unit),
    )
    default, large = read_cells(stored)
    assert (default.tally.diverged, large.tally.diverged, large.tally.done) == (0, 2, 1)
    assert large.test is not None and large.test.mean == good[1]
    assert large.trials[0].error == "its score is beyond all measure"
    assert [cell.epsilon for cell in trained([default, large], (), metric).diverged] == [1e-2]


def test_a_trial_given_twice_counts_once(tmp_path: Path) -> None:
    stored = simulate(tmp_path)
    trials = [trial for cell in read_cells(stored) for trial in cell.trials]
    total = tally([*trials, *trials])
    assert (total.trials, total.seconds) == (48, 480.0)


def test_the_metric_is_read_from_the_results(tmp_path: Path) -> None:
    assert read_metric(simulate(tmp_path / "a")) == ACCURACY
    assert read_metric(simulate(tmp_path / "b", sweep=False)) is None


def test_trials_judged_by_different_metrics_are_refused(tmp_path: Path) -> None:
    stored = simulate(tmp_path)
    (cell, *_) = cells({"conventional": (1e-8,)}, (1e-3,), (0,))
    other: TrialResult = result(cell, (80.0, 80.0), metric=("perplexity", "min", ""))
    other.write(stored.folder.trial(cell.id).result_json)
    with pytest.raises(CorruptRecordError, match=r"judged by different metrics: Metric.*; remove the result"):
        read_metric(load_experiment(stored.folder))
