"""What every place to run must do, over every file of executors/."""

import dataclasses
import os
import signal
from pathlib import Path

import pytest

from epsgrid import executors, plugins
from epsgrid.errors import UnknownNameError
from epsgrid.executors import ExecutorPlugin, Job, JobEnded, JobStatus
from epsgrid.stages.experiment import resolve
from epsgrid.stages.sweep import sweep
from epsgrid.store.records import TrialResult, read_epochs
from tests.executors.jobs import Recorder, StopWhen, is_alive, pid_of, wait_for, work
from tests.stages.conftest import SPEC, NeverStop


def _jobs(folder: Path, *trials: str) -> list[Job]:
    return [Job(str(folder), trial) for trial in trials]


def test_all_files_are_known() -> None:
    assert plugins.names("executors") == ("inline", "local", "ray", "slurm")
    with pytest.raises(UnknownNameError, match="unknown executor 'lokal'; did you mean 'local'"):
        executors.load("lokal")


def test_each_job_ends_with_its_own_status_and_cannot_hurt_the_others(executor: ExecutorPlugin, tmp_path: Path) -> None:
    expected = {"short-1": 0, "raise-2": JobStatus.FAILED, "return-75": 75}
    if executor is not executors.load("inline"):  # there a job is this very process
        expected |= {"kill-3": -signal.SIGKILL, "exit-200": 200}
    recorder = Recorder()
    executor.run(_jobs(tmp_path, *expected), work, slots=2, notify=recorder, stop=StopWhen())
    assert recorder.statuses == expected
    if executor is not executors.load("inline"):
        assert len({path.read_text() for path in tmp_path.glob("*.began")} - {f"began {os.getpid()}"}) == len(expected)


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


def test_no_jobs_and_a_stop_before_the_first_job_start_none(executor: ExecutorPlugin, tmp_path: Path) -> None:
    recorder = Recorder()
    executor.run([], work, slots=1, notify=recorder, stop=StopWhen())
    executor.run(_jobs(tmp_path, "short-1"), work, slots=1, notify=recorder, stop=StopWhen(tmp_path))
    assert recorder.events == []


def test_a_stop_starts_nothing_more(executor: ExecutorPlugin, tmp_path: Path) -> None:
    recorder, stop = Recorder(), StopWhen(tmp_path / "long-1.began")
    executor.run(_jobs(tmp_path, "long-1", "short-2", "short-3"), work, slots=1, notify=recorder, stop=stop)
    assert recorder.started == ["long-1"]
    assert list(recorder.statuses) == ["long-1"]


def test_the_first_stop_lets_running_jobs_save_and_the_second_kills(executor: ExecutorPlugin, tmp_path: Path) -> None:
    if executor is executors.load("inline"):
        pytest.skip("an inline job notices signals itself")
    recorder, ready = Recorder(), tmp_path / "stubborn-2.ready"
    jobs = _jobs(tmp_path, "save-1", "short-2")
    executor.run(jobs, work, slots=1, notify=recorder, stop=StopWhen(tmp_path / "save-1.began"))
    assert recorder.started == ["save-1"]
    assert recorder.statuses["save-1"] in (75, -signal.SIGTERM)  # asked before it could listen
    recorder = Recorder()
    jobs = _jobs(tmp_path, "stubborn-2", "short-3")
    executor.run(jobs, work, slots=1, notify=recorder, stop=StopWhen(ready, ready))
    assert recorder.statuses == {"stubborn-2": -signal.SIGKILL}
    wait_for(lambda: not is_alive(pid_of(tmp_path, "stubborn-2")))


def test_whatever_is_raised_running_jobs_are_killed(executor: ExecutorPlugin, tmp_path: Path) -> None:
    outlive = executor in (executors.load("inline"), executors.load("slurm"))  # where jobs are not killed

    def notify(event: object) -> None:
        if isinstance(event, JobEnded):
            if not outlive:
                pid_of(tmp_path, "sleep-1")
            raise BrokenPipeError("the terminal is gone")

    jobs = _jobs(tmp_path, *([] if outlive else ["sleep-1"]), "short-2")
    with pytest.raises(BrokenPipeError, match="the terminal is gone"):
        executor.run(jobs, work, slots=2, notify=notify, stop=StopWhen())
    if not outlive:
        wait_for(lambda: not is_alive(pid_of(tmp_path, "sleep-1")))


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
