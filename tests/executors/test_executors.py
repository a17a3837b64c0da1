"""What every place to run must do, over every file of executors/."""

import dataclasses
import signal
from pathlib import Path

import pytest

from epsgrid import executors, plugins
from epsgrid.errors import UnknownNameError
from epsgrid.executors import ExecutorPlugin, Job, JobStatus
from epsgrid.stages.experiment import resolve
from epsgrid.stages.sweep import sweep
from epsgrid.store.records import TrialResult, read_epochs
from tests.executors.jobs import Recorder, StopWhen, work
from tests.stages.conftest import SPEC, NeverStop


def _jobs(folder: Path, *trials: str) -> list[Job]:
    return [Job(str(folder), trial) for trial in trials]


def test_all_files_are_known() -> None:
    assert plugins.names("executors") == ("inline", "local", "ray", "slurm")
    with pytest.raises(UnknownNameError, match="unknown executor 'lokal'; did you mean 'local'"):
        executors.load("lokal")


def test_all_jobs_end_with_their_own_status(executor: ExecutorPlugin, tmp_path: Path) -> None:
    recorder = Recorder()
    executor.run(_jobs(tmp_path, "return-0", "return-3", "return-75"), work, slots=2, notify=recorder, stop=StopWhen())
    assert recorder.statuses == {"return-0": 0, "return-3": 3, "return-75": 75}
    assert len(list(tmp_path.glob("*.ended"))) == 3


def test_no_jobs_are_no_work(executor: ExecutorPlugin) -> None:
    recorder = Recorder()
    executor.run([], work, slots=1, notify=recorder, stop=StopWhen())
    assert recorder.events == []


def test_a_job_that_raises_is_reported_and_the_others_finish(executor: ExecutorPlugin, tmp_path: Path) -> None:
    recorder = Recorder()
    executor.run(_jobs(tmp_path, "short-1", "raise-2", "short-3"), work, slots=1, notify=recorder, stop=StopWhen())
    assert recorder.statuses == {"short-1": 0, "raise-2": JobStatus.FAILED, "short-3": 0}


def test_a_job_that_is_killed_is_reported_and_the_others_finish(executor: ExecutorPlugin, tmp_path: Path) -> None:
    if executor is executors.load("inline"):
        pytest.skip("an inline job is this very process")
    recorder = Recorder()
    executor.run(_jobs(tmp_path, "short-1", "kill-2", "short-3"), work, slots=1, notify=recorder, stop=StopWhen())
    assert recorder.statuses == {"short-1": 0, "kill-2": -signal.SIGKILL, "short-3": 0}


@pytest.mark.parametrize("slots", [1, 3])
def test_jobs_begin_in_order_and_never_more_than_slots_at_once(
    executor: ExecutorPlugin, tmp_path: Path, slots: int
) -> None:
    recorder, trials = Recorder(), [f"short-{number}" for number in range(7)]
    executor.run(_jobs(tmp_path, *trials), work, slots=slots, notify=recorder, stop=StopWhen())
    if executor is executors.load("slurm"):  # it starts them in order, and cannot see which is quicker to begin
        assert sorted(recorder.started) == trials
    else:
        assert recorder.started == trials
    assert 1 <= recorder.most_at_once <= slots


def test_a_stop_asked_for_before_the_first_job_starts_none(executor: ExecutorPlugin, tmp_path: Path) -> None:
    recorder = Recorder()
    executor.run(_jobs(tmp_path, "short-1"), work, slots=1, notify=recorder, stop=StopWhen(tmp_path))
    assert recorder.events == []


def test_a_stop_starts_nothing_more(executor: ExecutorPlugin, tmp_path: Path) -> None:
    recorder, stop = Recorder(), StopWhen(tmp_path / "long-1.began")
    executor.run(_jobs(tmp_path, "long-1", "short-2", "short-3"), work, slots=1, notify=recorder, stop=stop)
    assert recorder.started == ["long-1"]
    assert list(recorder.statuses) == ["long-1"]


def test_what_notify_raises_comes_through(executor: ExecutorPlugin, tmp_path: Path) -> None:
    def notify(_: object) -> None:
        raise BrokenPipeError("the terminal is gone")

    with pytest.raises(BrokenPipeError, match="the terminal is gone"):
        executor.run(_jobs(tmp_path, "short-1"), work, slots=1, notify=notify, stop=StopWhen())


def _trained(folder: Path, *overrides: str) -> dict[str, tuple[object, ...]]:
    """Sweep in a folder; return all that was trained, by trial, but for the seconds it took and where."""
    (folder / "spec.yaml").write_text(SPEC.replace("epochs: 1", "epochs: 2"))
    asked = resolve(folder / "spec.yaml", None, overrides, folder / "runs")
    summary = sweep(asked, "default", workers=1, fail_fast=False, notify=lambda _: None, stop=NeverStop())
    assert summary.counts == {"done": 1}, summary.failures
    found = {}
    for trial in asked.folder.trials():
        epochs = [dataclasses.replace(epoch, seconds=0.0) for epoch in read_epochs(trial.metrics_jsonl)]
        result = TrialResult.read(trial.result_json)
        found[trial.id] = (epochs, result.validation, result.test, result.steps, result.selected_epoch)
    return found


def test_results_are_the_same_wherever_trials_run(executor: ExecutorPlugin, tmp_path: Path) -> None:
    """To the last bit: one thread each, seeds of their own."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    name, *settings = getattr(executor, "named", None) or (executor.__name__.rpartition(".")[2],)
    assert _trained(there, f"execution.executor={name}", *settings) == _trained(here)
