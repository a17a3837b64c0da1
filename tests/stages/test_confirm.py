"""Winners on fresh seeds: which trials are planned, trained and told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from epsgrid.errors import StoreError
from epsgrid.report.compare import compare
from epsgrid.report.text.render import tables
from epsgrid.selection.load import load_experiment
from epsgrid.stages import anew
from epsgrid.stages.confirm import FIRST_FRESH_SEED, confirm, plan_confirm, with_trial_states
from epsgrid.stages.experiment import Asked, enter, prepare_data, resolve
from epsgrid.stages.running import SweepSummary
from epsgrid.stages.status import status
from epsgrid.stages.sweep import sweep
from epsgrid.store.records import ConfirmRecord, GridRecord, TrialResult
from tests.stages.conftest import NeverStop


def swept(asked: Asked) -> Asked:
    sweep(asked, "conventional", workers=1, fail_fast=False, notify=lambda event: None, stop=NeverStop())
    return asked


def confirmed(asked: Asked, seeds: int) -> SweepSummary:
    planned = plan_confirm(asked, seeds)
    return confirm(asked, planned, workers=1, fail_fast=False, notify=lambda event: None, stop=NeverStop())


def test_winners_are_trained_on_fresh_seeds_and_more_seeds_add_only_theirs(asked: Asked) -> None:
    swept(asked)
    grid, before = GridRecord.read(asked.folder.grid_json), compare(load_experiment(asked.folder))
    assert with_trial_states(asked, plan_confirm(asked, 2), 1).to_run == 4
    assert not asked.folder.confirm_json.exists()
    assert confirmed(asked, 1).trained == 2
    assert confirmed(asked, 2).trained == 2
    record = ConfirmRecord.read(asked.folder.confirm_json)
    assert record.seeds == (FIRST_FRESH_SEED, FIRST_FRESH_SEED + 1)
    assert (record.selection_seeds, record.chosen_from) == ((0,), {"conventional": 13, "default": 1})
    assert record.grid_checksum == grid.checksum
    best = before.best_of("conventional")
    assert best is not None and best.choice.cell is not None
    chosen = {name: cell.epsilon for cell in record.cells for name in cell.grids}
    assert chosen == {"conventional": best.choice.cell.epsilon, "default": 1e-8}

    after = compare(load_experiment(asked.folder))
    assert (after.cells, after.best, after.regret) == (before.cells, before.best, before.regret)
    assert not any("belong to no grid" in note for note in after.notes)
    found = after.confirmed
    assert found is not None and found.seeds == record.seeds and found.notes == ()
    assert all(row.is_current and row.cell.tally.done == 2 for row in found.rows)
    titles = [table.title for table in tables(after)]
    assert "Confirmed on 2 fresh seeds" in titles

    more = asked.spec.sweep.model_copy(update={"seeds": (0, FIRST_FRESH_SEED)})
    planned = plan_confirm(replace(asked, spec=asked.spec.model_copy(update={"sweep": more})), 2)
    assert planned.record.seeds == (FIRST_FRESH_SEED + 1, FIRST_FRESH_SEED + 2), "a seed of the spec is not fresh"


def test_trials_on_fresh_seeds_are_counted_and_trained_again_like_others(asked: Asked) -> None:
    confirmed(swept(asked), 1)
    record = ConfirmRecord.read(asked.folder.confirm_json)
    victim = record.cells[0].id
    found = status(asked.folder)
    assert found.states["done"] == found.total == 15
    assert found.grids["default, confirmed"]["done"] == 1
    assert anew.chosen(asked.folder, [victim]) == (victim,)
    before = TrialResult.read(asked.folder.trial(victim).result_json)
    anew.start_over(asked.folder, [victim])
    assert not asked.folder.trial(victim).result_json.exists()
    done = anew.train_again(asked, [victim], workers=1, notify=lambda event: None, stop=NeverStop())
    assert (done.trained, done.states) == (1, {victim: "done"})
    assert TrialResult.read(asked.folder.trial(victim).result_json).test == before.test


def test_without_a_sweep_there_is_no_winner(asked: Asked) -> None:
    with pytest.raises(StoreError, match="no experiment here"):
        plan_confirm(asked, 2)
    enter(asked, prepare_data(asked.spec))
    with pytest.raises(StoreError, match=r"--confirm: there is no winner.*nothing was swept here yet; `epsgrid sweep`"):
        plan_confirm(asked, 2)


def test_with_an_unfinished_sweep_there_is_no_winner_and_it_says_why(spec_path: Path, tmp_path: Path) -> None:
    class AtOnce:
        def level(self) -> int:
            return 1

    asked = resolve(spec_path, None, (), tmp_path / "runs")
    sweep(asked, "conventional", workers=1, fail_fast=False, notify=lambda event: None, stop=AtOnce())
    with pytest.raises(StoreError, match=r"no winner.*conventional: none of 13 cells has a result for every seed"):
        plan_confirm(asked, 2)
