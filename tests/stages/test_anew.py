import pytest

from epsgrid.errors import StoreError
from epsgrid.stages.anew import chosen, set_all_aside, start_over, train_again
from epsgrid.stages.status import status
from epsgrid.stages.sweep import swept
from epsgrid.store.lease import Lease
from epsgrid.store.records import GridRecord, TrialFailure, TrialResult
from tests.stages.conftest import NeverStop
from tests.stages.test_status import train


@pytest.fixture
def ids(asked):
    train(asked)
    return [cell.id for cell, _ in status(asked.folder).cells]


def diverge(asked, trial):
    path = asked.folder.trial(trial).result_json
    result = TrialResult.read(path)
    TrialResult(**{**vars(result), "state": "diverged", "reason": "loss is NaN"}).write(path)


def test_nothing_can_be_chosen_before_a_sweep(asked):
    with pytest.raises(StoreError, match="nothing was swept here yet"):
        chosen(asked.folder, ["failed"])
    with pytest.raises(StoreError, match="nothing was swept here yet"):
        swept(asked.folder)


def test_trials_are_chosen_by_state_by_id_and_by_its_beginning(asked, ids):
    diverge(asked, ids[3])
    assert chosen(asked.folder, ["diverged"]) == (ids[3],)
    assert chosen(asked.folder, ["failed"]) == ()
    assert chosen(asked.folder, [ids[5], ids[1][:12], "diverged", ids[5]]) == (ids[5], ids[1], ids[3])


def test_a_wrong_name_is_told_with_the_nearest(asked, ids):
    with pytest.raises(StoreError, match="no trial 'divergd' here; did you mean 'diverged'"):
        chosen(asked.folder, ["divergd"])
    with pytest.raises(StoreError, match="no trial 'zzzzzzzz' here; expected failed, diverged, pruned, interrupted or"):
        chosen(asked.folder, ["zzzzzzzz"])


def test_a_beginning_of_several_ids_is_told(asked, ids):
    record = asked.folder.grid_json
    cells = GridRecord.read(record).cells
    twin = type(cells[0])(**{**vars(cells[0]), "id": ids[0][:8] + "0" * 8})
    GridRecord(**{**vars(GridRecord.read(record)), "cells": (*cells, twin)}).write(record)
    with pytest.raises(StoreError, match=r"the beginning of several trials: .*; give more digits"):
        chosen(asked.folder, [ids[0][:8]])


def test_what_is_set_aside_is_kept_whole_and_trained_anew_to_the_same_bits(asked, ids):
    folder = asked.folder.trial(ids[0])
    before = {path.name: path.read_bytes() for path in folder.path.iterdir() if path.is_file()}
    (place,) = set_all_aside(asked.folder, [ids[0]])
    assert place == asked.folder.archive_dir / f"{ids[0]}-1"
    assert {path.name: path.read_bytes() for path in place.iterdir() if path.is_file()} == before
    assert status(asked.folder).states["pending"] == 1
    summary = train(asked, grid=swept(asked.folder))
    assert summary.trained == 1
    old, new = (TrialResult.read(path / "result.json") for path in (place, folder.path))
    assert (old.validation, old.test) == (new.validation, new.test)
    (second,) = set_all_aside(asked.folder, [ids[0]])
    assert second.name == f"{ids[0]}-2"


def test_a_trial_at_work_is_not_set_aside(asked, ids):
    lease = Lease.take(asked.folder.trial(ids[0]).lease)
    assert lease is not None
    with pytest.raises(StoreError, match=f"trial {ids[0]} is being trained"):
        set_all_aside(asked.folder, [ids[0]])
    lease.release()


def test_retrying_starts_finished_trials_over_and_leaves_failed_ones_where_they_are(asked, ids):
    diverge(asked, ids[0])
    failed = asked.folder.trial(ids[1])
    failed.result_json.unlink()
    TrialFailure(ids[1], "ValueError: no", "", str(failed.log), 1, "2026-01-01T00:00:00+00:00").write(
        failed.failure_json
    )
    failed.result_json.parent.joinpath("checkpoint.pt").touch()
    picked = chosen(asked.folder, ["failed", "diverged"])
    assert picked == (ids[1], ids[0])
    assert [place.name for place in start_over(asked.folder, picked)] == [f"{ids[0]}-1"]
    assert failed.checkpoint.exists()


def test_a_sweep_of_chosen_trials_trains_no_others(asked, ids):
    set_all_aside(asked.folder, ids[:3])
    summary = train_again(asked, [ids[0]], workers=1, notify=lambda event: None, stop=NeverStop())
    assert (summary.trained, summary.counts) == (1, {"done": 1})
    assert status(asked.folder).states["pending"] == 2
    assert len(status(asked.folder).cells) == 13, "the record of the grid still holds all trials"
