import os

import pytest

from epsgrid.errors import StoreError
from epsgrid.stages.experiment import enter, prepare_data
from epsgrid.stages.status import status
from epsgrid.store.lease import Lease
from epsgrid.store.records import EpochRecord, Scores, TrialFailure, TrialResult, append_epoch


def test_before_any_sweep_there_is_nothing_to_count(asked):
    with pytest.raises(StoreError, match="no experiment here"):
        status(asked.folder)
    enter(asked, prepare_data(asked.spec))
    seen = status(asked.folder)
    assert (seen.cells, seen.finished, seen.probed, seen.grids) == ((), 0, False, {})


def test_a_finished_sweep(swept):
    seen = status(swept.folder)
    assert (len(seen.cells), seen.finished, seen.left_seconds) == (13, 13, 0)
    assert seen.grids == {"conventional": {**dict.fromkeys(seen.states, 0), "done": 13}}
    seconds = [TrialResult.read(swept.folder.trial(cell.id).result_json).seconds for cell, _ in seen.cells]
    assert seen.seconds == tuple(seconds)


def test_running_failed_and_missing_trials_are_told_apart(swept):
    first, second, third, *_ = (swept.folder.trial(cell.id) for cell, _ in status(swept.folder).cells)
    for folder in (first, second, third):
        folder.result_json.unlink()
        folder.metrics_jsonl.unlink()
    TrialFailure(second.id, "ValueError: no", "", str(second.log), 1, "2026-01-01T00:00:00+00:00").write(
        second.failure_json
    )
    append_epoch(first.metrics_jsonl, EpochRecord(1, 0.5, Scores(0.4, 0.9), None, 0.01, 1.0))
    lease = Lease.take(first.lease)
    assert lease is not None
    seen = status(swept.folder)
    lease.release()
    assert {state: count for state, count in seen.states.items() if count} == {
        "running": 1,
        "failed": 1,
        "pending": 1,
        "done": 10,
    }
    (running,) = seen.running
    assert (running.cell.id, running.epoch, running.epochs) == (first.id, 1, 1)
    assert running.host.endswith(f"process {os.getpid()}")
    assert [failure.error for failure in seen.failures] == ["ValueError: no"]
    assert seen.left_seconds == pytest.approx(3 * sum(seen.seconds) / 10)
