"""The live view of a sweep: curves of the running trials, counts, time left."""

import dataclasses
import io

import pytest

from epsgrid.cli.progress import _RUNNING_COLUMNS, _Board, _event_lines
from epsgrid.grids._plan import Plan
from epsgrid.spec.trial import Trial
from epsgrid.stages.running import SweepPlan, TrialEvent
from epsgrid.store.paths import ExperimentFolder
from epsgrid.store.pruning import Pruning
from epsgrid.store.records import EpochRecord, Scores, append_epoch


def planned(trial, epsilon=1e-8, rate=0.01):
    return Trial(trial, rate, epsilon, 0, ("conventional",), identity={"training": {"epochs": 10}})


TRIALS = [planned("one"), planned("two", 1e-3), planned("three", 1e-3, 0.1), planned("four", None)]


@pytest.fixture
def board(tmp_path):
    board = _Board(ExperimentFolder(tmp_path))
    board.update(SweepPlan(Plan({}, tuple(TRIALS)), {trial.id: "pending" for trial in TRIALS}, None, 2))
    return board


def shown(board, width=160):
    from rich.console import Console

    console = Console(width=width, file=io.StringIO())
    console.print(board.render())
    return console.file.getvalue()


def test_running_trials_show_their_score_and_what_is_left(board):
    board.update(TrialEvent(TRIALS[0], "running"))
    assert "0/10" in shown(board)
    path = board.folder.trial("one").metrics_jsonl
    for epoch, score in enumerate((0.1, 0.5, 0.9), start=1):
        append_epoch(path, EpochRecord(epoch, 1.0, Scores(1.0, score), None, 0.01, 20.0))
    lines = shown(board).splitlines()
    assert lines[0].split() == list(_RUNNING_COLUMNS)
    assert all(part in lines[1] for part in ("one", "1e-2", "1e-8", "3/10", "0.9", "2 min 20 s"))
    append_epoch(path, EpochRecord(4, 1.0, Scores(1.0, 0.95), None, 0.01, 20.0))
    assert "4/10" in shown(board)


def test_pruned_trials_are_printed_and_counted(board):
    pruning = Pruning("one", "pruned", 2, 3, 10, "slow", "2026-01-01T00:00:00+00:00")
    board.plan = dataclasses.replace(board.plan, settled=("done", "diverged", "pruned"))
    event = TrialEvent(TRIALS[0], "pruned", None, None, pruning)
    board.update(event)
    assert _event_lines(event) == ["pruned one lr 1e-2 epsilon 1e-8 seed 0 after epoch 3 of 10: slow"]
    assert board.status().startswith("1 of 4 trials, 0 running, 1 pruned")
