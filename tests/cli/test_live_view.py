"""The live view of a sweep: curves of the running trials, the best so far, time left."""

import dataclasses
import io
import math

import pytest

from epsgrid.cli.progress import _RUNNING_COLUMNS, _best_rows, _Board, _event_lines
from epsgrid.grids._plan import Plan
from epsgrid.spec.trial import Trial
from epsgrid.stages.running import SweepPlan, TrialEvent
from epsgrid.store.paths import ExperimentFolder
from epsgrid.store.pruning import Pruning
from epsgrid.store.records import EpochRecord, Scores, append_epoch
from tests.store.samples import RESULT


def planned(trial, epsilon=1e-8, rate=0.01):
    return Trial(trial, rate, epsilon, 0, ("conventional",), identity={"training": {"epochs": 10}})


def result(trial, metric, state="done", direction="max"):
    return dataclasses.replace(
        RESULT, id=trial, state=state, validation=Scores(0.5, metric), metric_direction=direction
    )


TRIALS = [
    planned("one"),
    planned("two", 1e-3),
    planned("three", 1e-3, 0.1),
    planned("four", 1.0),
    planned("five", None),
]


@pytest.fixture
def board(tmp_path):
    board = _Board(ExperimentFolder(tmp_path), is_live=True)
    board.update(SweepPlan(Plan({}, tuple(TRIALS)), {trial.id: "pending" for trial in TRIALS}, None, 2))
    return board


def shown(board, width=160):
    from rich.console import Console

    console = Console(width=width, file=io.StringIO())
    console.print(board.render())
    return console.file.getvalue()


def test_running_trials_show_their_curve_and_what_is_left(board):
    board.update(TrialEvent(TRIALS[0], "running"))
    assert "0/10" in shown(board)
    path = board.folder.trial("one").metrics_jsonl
    for epoch, score in enumerate((0.1, 0.5, 0.9), start=1):
        append_epoch(path, EpochRecord(epoch, 1.0, Scores(1.0, score), None, 0.01, 20.0))
    lines = shown(board).splitlines()
    assert lines[0].split() == list(_RUNNING_COLUMNS)
    assert all(part in lines[1] for part in ("one", "1e-2", "1e-8", "3/10", "0.9", "▁▄█", "2 min 20 s"))
    append_epoch(path, EpochRecord(4, 1.0, Scores(1.0, 0.95), None, 0.01, 20.0))
    assert "4/10" in shown(board)


def test_the_best_of_each_epsilon_so_far(board):
    for trial, metric in (("two", 0.6), ("three", 0.7), ("one", 0.5)):
        found = next(one for one in TRIALS if one.id == trial)
        board.update(TrialEvent(found, "running"))
        board.update(TrialEvent(found, "done", result(trial, metric), None))
    board.update(TrialEvent(TRIALS[3], "diverged", result("four", math.nan, "diverged"), None))
    rows = _best_rows([(trial, board.results[trial.id]) for trial in TRIALS if trial.id in board.results])
    assert rows == [
        ("epsilon 1e-8", "1e-2", "accuracy 50.00 %", "1"),
        ("epsilon 1e-3", "0.1", "accuracy 70.00 %", "2"),
        ("epsilon 1", "", "diverged", "1"),
    ]
    assert "best so far" in shown(board) and "accuracy 70.00 %" in shown(board)
    assert "4 of 5 trials, 0 running" in shown(board)


def test_the_smallest_is_best_where_smaller_is_better():
    results = [(TRIALS[1], result("two", 90.0, direction="min")), (TRIALS[2], result("three", 80.0, direction="min"))]
    assert [row[1] for row in _best_rows(results)] == ["0.1"]
    assert _best_rows([(TRIALS[4], result("five", 0.5))])[0][0] == "no epsilon"


def test_results_from_before_count_in_a_terminal_only(tmp_path):
    folder = ExperimentFolder(tmp_path)
    result("one", 0.5).write(folder.trial("one").result_json)
    plan = SweepPlan(Plan({}, tuple(TRIALS)), {"one": "done", "two": "pending"}, None, 2)
    for is_live in (True, False):
        board = _Board(folder, is_live=is_live)
        board.update(plan)
        assert len(board.results) == is_live


def test_pruned_trials_are_printed_and_counted(board):
    pruning = Pruning("one", "pruned", 2, 3, 10, "slow", "2026-01-01T00:00:00+00:00")
    board.plan = dataclasses.replace(board.plan, settled=("done", "diverged", "pruned"))
    event = TrialEvent(TRIALS[0], "pruned", None, None, pruning)
    board.update(event)
    assert _event_lines(event) == ["pruned one lr 1e-2 epsilon 1e-8 seed 0 after epoch 3 of 10: slow"]
    assert board.status().startswith("1 of 5 trials, 0 running, 1 pruned")
