"""The live view of a sweep: the running trials, counts, time left."""

import dataclasses

import pytest

from epsgrid.cli.progress import _Board, _event_lines
from epsgrid.grids._plan import Plan
from epsgrid.spec.trial import Trial
from epsgrid.stages.running import SweepPlan, TrialEvent
from epsgrid.store.pruning import Pruning

TRIALS = [Trial("one", 0.01, 1e-8, 0), Trial("two", 0.1, None, 1)]


@pytest.fixture
def board():
    board = _Board()
    board.update(SweepPlan(Plan({}, tuple(TRIALS)), {trial.id: "pending" for trial in TRIALS}, None, 2))
    return board


def test_running_trials_are_listed_and_the_time_left_is_told(board):
    for trial in TRIALS:
        board.update(TrialEvent(trial, "running"))
    first, second, status = board.render().plain.splitlines()
    assert first.startswith("running one: lr 1e-2, ε 1e-8, seed 0, ")
    assert second.startswith("running two: lr 0.1, seed 1, ")
    assert status == "0 of 2 trials, 2 running"
    board.start -= 60
    board.update(TrialEvent(TRIALS[0], "done"))
    assert board.status() == "1 of 2 trials, 1 running, about 1 min 00 s left"


def test_pruned_trials_are_printed_and_counted(board):
    pruning = Pruning("one", "pruned", 2, 3, 10, "slow", "2026-01-01T00:00:00+00:00")
    board.plan = dataclasses.replace(board.plan, settled=("done", "diverged", "pruned"))
    event = TrialEvent(TRIALS[0], "pruned", None, None, pruning)
    board.update(event)
    assert _event_lines(event) == ["pruned one: lr 1e-2, ε 1e-8, seed 0 after epoch 3 of 10: slow"]
    assert board.status().startswith("1 of 2 trials, 0 running, 1 pruned")
