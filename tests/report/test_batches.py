"""One setting at several batch sizes: gaps and what forgetting ε costs, on simulated trials of known truth."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from epsgrid.report.batches import _trained_batches
from epsgrid.report.claims import claims
from epsgrid.report.compare import whole
from epsgrid.report.text.render import tables
from epsgrid.selection.load import StoredExperiment, load_experiment
from epsgrid.spec.trial import Trial
from epsgrid.store.paths import ExperimentFolder
from epsgrid.store.records import BatchesRecord, TrialFailure
from tests.report.simulate import compare, result, simulate

SEEDS = (0, 1, 2)
PLACES = {
    (64, "base"): 0.90,
    (16, "sqrt"): 0.895,
    (256, "sqrt"): 0.899,
    (16, "linear"): 0.85,
    (256, "linear"): 0.80,
    (256, "sqrt-keep-epsilon"): 0.88,
}


def score(place: tuple[int, str], seed: int) -> float:
    """Of a seed: seeds differ, alike everywhere but for a little."""
    common = 0.01 * np.random.default_rng(seed).standard_normal()
    own = 0.001 * np.random.default_rng([seed, place[0], len(place[1])]).standard_normal()
    return PLACES[place] + common + own


def batched(root: Path, metric: tuple[str, str, str] = ("accuracy", "max", "%"), **outcomes: str) -> StoredExperiment:
    """A small sweep, and beside it trials at other batch sizes; `outcomes` says what became of some, by id."""
    simulate(root, narrowed=(1e-3,), conventional=(1e-8, 1e-3), rates=(1e-3,), seeds=SEEDS)
    folder, cells = ExperimentFolder(root), []
    for place in PLACES:
        for seed in SEEDS:
            trial = Trial(f"b{place[0]}{place[1]}{seed}", 1e-3 * math.sqrt(place[0] / 64), 1e-3, seed)
            cell = replace(trial, batch_size=place[0], rule=place[1])
            cells.append(cell)
            _store(folder, cell, metric, outcomes.get(cell.id.replace("-", "_"), "done"))
    record = BatchesRecord(
        base_batch_size=64,
        learning_rate=1e-3,
        epsilon=1e-3,
        origin="as asked for",
        cells=tuple(cells),
        changes={"batch 256, sqrt": "optimizer.betas [0.6, 0.996]"},
        skipped={"batch 4096, sqrt": "κ = 64 is too much"},
    )
    record.write(folder.batches_json)
    return load_experiment(folder)


def _store(folder: ExperimentFolder, cell: Trial, metric: tuple[str, str, str], outcome: str) -> None:
    trial, place = folder.trial(cell.id), (cell.batch_size, cell.rule)
    if outcome == "failed":
        TrialFailure(cell.id, "RuntimeError: no", "", str(trial.log), 1, "2026-11-22T00:00:00").write(
            trial.failure_json
        )
        return
    last = score(place, cell.seed)
    ended = result(cell, "diverged" if outcome == "diverged" else (last, last - 0.01), metric=metric)
    ended.write(trial.result_json)


def test_gaps_are_paired_by_seed_against_the_base(tmp_path):
    trained = _trained_batches(batched(tmp_path))
    assert [(row.batch_size, row.rule) for row in trained.rows] == list(PLACES)
    for row in trained.rows[1:]:
        place = (row.batch_size, row.rule)
        gaps = [score(place, seed) - score((64, "base"), seed) for seed in SEEDS]
        low, high = stats.t.interval(0.95, len(SEEDS) - 1, np.mean(gaps), stats.sem(gaps))
        assert (row.gap.mean, row.gap.low, row.gap.high) == pytest.approx((np.mean(gaps), low, high))
    assert trained.rows[0].gap.mean == 0.0


def test_forgetting_epsilon_is_the_paired_difference_of_the_two_square_root_rules(tmp_path):
    (row,) = _trained_batches(batched(tmp_path)).forgetting
    by_hand = [score((256, "sqrt"), seed) - score((256, "sqrt-keep-epsilon"), seed) for seed in SEEDS]
    assert row.batch_size == 256
    assert row.gain.mean == pytest.approx(np.mean(by_hand))


def test_a_small_metric_is_turned_so_that_a_gap_above_zero_is_better(tmp_path):
    stored = batched(tmp_path, metric=("perplexity", "min", ""))
    # The grid's own trials are accuracies; those of the batch sizes are read apart from them.
    row = next(row for row in _trained_batches(stored).rows if (row.batch_size, row.rule) == (256, "linear"))
    assert row.gap.mean > 0.09


def test_the_grids_report_is_the_same_with_and_without_trials_at_other_batch_sizes(tmp_path):
    with_batches = compare(batched(tmp_path / "with"))
    without = compare(simulate(tmp_path / "without", narrowed=(1e-3,), conventional=(1e-8, 1e-3), rates=(1e-3,)))
    assert without.batches is None
    for field in ("answers", "grids", "best", "cells", "notes", "unfinished"):
        assert getattr(with_batches, field) == getattr(without, field), field
    assert not any("outside the grids" in note for note in with_batches.notes)


def test_an_experiment_of_batch_sizes_alone_is_not_asked_for_the_claims_about_grids(tmp_path):
    swept = whole(batched(tmp_path))[1]
    assert claims([swept])
    alone = replace(swept, comparison=replace(swept.comparison, cells=()))
    assert claims([alone]) == ()
    assert claims([replace(alone, comparison=replace(alone.comparison, batches=None))])


def test_diverged_and_failed_trials_are_told_and_leave_the_rest(tmp_path):
    stored = batched(tmp_path, b256linear1="diverged", b16sqrt0="failed")
    trained = _trained_batches(stored)
    rows = {(row.batch_size, row.rule): row for row in trained.rows}
    assert "diverged on 1 of 3 seeds" in rows[256, "linear"].gap.unknown
    assert rows[16, "sqrt"].gap.n == 2
    (table,) = [each for each in tables(compare(stored)) if each.title == "Batch sizes: one setting at each"]
    assert any("2/3 (1 diverged)" in row for row in table.rows)


def test_the_table_says_what_was_carried_how(tmp_path):
    comparison = compare(batched(tmp_path))
    (table,) = [each for each in tables(comparison) if each.title == "Batch sizes: one setting at each"]
    assert all(len(row) == len(table.columns) for row in table.rows)
    assert table.rows[0][:4] == ("base", "64", "1e-3", "1e-3")
    assert table.rows[0][-2:] == ("–", "–")
    assert table.rows[2][0] == "sqrt: optimizer.betas [0.6, 0.996]"
    gain = np.mean([score((256, "sqrt"), seed) - score((256, "sqrt-keep-epsilon"), seed) for seed in SEEDS])
    words = f"ε moved along against ε kept, batch 256: +{100 * gain:.2f} points on test, 95 % interval +"
    assert any(point.startswith(words) for point in table.points)
    assert "batch 4096, sqrt was left out: κ = 64 is too much." in table.points
    assert comparison.to_json()["batches"]["trained"]["rows"][1]["rule"] == "sqrt"
