"""More epochs in a folder that was swept."""

import dataclasses

import pytest

from epsgrid.errors import StoreError
from epsgrid.spec.model import Training
from epsgrid.stages.experiment import read_experiment, resolve
from epsgrid.stages.sweep import plan_sweep
from epsgrid.store.records import TrialResult, read_epochs
from epsgrid.store.state import trial_state
from tests.stages.test_status import train

CONSTANT = "training.schedule.milestones=[]"


def results(asked, states):
    found = [TrialResult.read(asked.folder.trial(trial).result_json) for trial in states]
    return {one.id: dataclasses.replace(one, seconds=0.0, provenance={}) for one in found}


def test_more_epochs_cost_only_the_new_ones_and_give_the_numbers_of_one_long_sweep(spec_path, tmp_path):
    short, long = (
        resolve(spec_path, None, [CONSTANT, f"training.epochs={epochs}"], tmp_path / "runs") for epochs in (1, 3)
    )
    before = train(short, grid="default")
    planned = plan_sweep(long, "default", None)
    assert planned.extending == ("1 of those trained for 1 epoch before go on from there",)
    summary = train(long, grid="default")
    assert (summary.trained, summary.counts) == (1, {"done": 1})
    (trial,), (earlier,) = summary.states, before.states
    log = long.folder.trial(trial).log.read_text()
    assert f"goes on after epoch 1 of trial {earlier}" in log
    assert read_experiment(long.folder).earlier == (short.spec.training.identity(),)
    at_once = resolve(spec_path, tmp_path / "other", [CONSTANT, "training.epochs=3"], tmp_path / "runs")
    assert results(at_once, train(at_once, grid="default").states) == results(long, summary.states)
    again = train(long, grid="default")
    assert again.trained == 0 and len(read_experiment(long.folder).earlier) == 1
    with pytest.raises(StoreError, match=r"training\.epochs: 3 there, 1 asked"):
        train(short, grid="default")


def test_what_starts_anew_is_told_before_it_does(spec_path, tmp_path):
    def asked(*overrides):
        return resolve(spec_path, None, overrides, tmp_path / "runs")

    train(asked("training.epochs=2", "training.schedule.milestones=[0.5]"), grid="default")
    (line,) = plan_sweep(asked("training.epochs=4", "training.schedule.milestones=[0.5]"), "default", None).extending
    assert line.startswith("1 of those trained for 2 epochs before start anew: the learning rate of epoch 2 is another")
    assert line.endswith("with training.schedule.milestones=[0.25] it would be the same")
    with pytest.raises(StoreError, match=r"milestones: \[0\.5\] there, \[0\.3\] asked"):
        train(asked("training.epochs=4", "training.schedule.milestones=[0.3]"), grid="default")
    kept = asked("training.epochs=4", "training.schedule.milestones=[0.25]")
    (trial,) = train(kept, grid="default").states
    assert "goes on after epoch 2" in kept.folder.trial(trial).log.read_text()


def test_without_checkpoints_longer_trials_start_anew_and_say_so(spec_path, tmp_path):
    options = [CONSTANT, "execution.keep_checkpoints=none"]
    short, long = (resolve(spec_path, None, [*options, f"training.epochs={n}"], tmp_path / "runs") for n in (1, 2))
    train(short, grid="default")
    (line,) = plan_sweep(long, "default", None).extending
    assert line == (
        "1 of those trained for 1 epoch before start anew: they kept no checkpoint, as execution.keep_checkpoints says"
    )
    assert train(long, grid="default").counts == {"done": 1}


def test_a_short_trial_is_trained_as_planned_though_the_experiment_was_extended_meanwhile(spec_path, tmp_path):
    """As where two sweeps are at work on one folder, the second of them with more epochs."""
    from epsgrid.executors import Job
    from epsgrid.worker import run_job

    short, long = (resolve(spec_path, None, [CONSTANT, f"training.epochs={n}"], tmp_path / "runs") for n in (1, 2))
    (trial,) = train(short, grid="default").states
    train(long, grid="default")
    folder = short.folder.trial(trial)
    for path in (folder.result_json, folder.metrics_jsonl, folder.checkpoint):
        path.unlink()
    assert run_job(Job(str(short.folder.root), trial)) == 0
    assert trial_state(folder) == "done"
    assert len(read_epochs(folder.metrics_jsonl)) == 1
    assert TrialResult.read(folder.result_json).epochs_trained == 1


def test_stored_trainings_read_as_trainings(asked):
    assert Training.model_validate(asked.spec.training.identity()) == asked.spec.training
