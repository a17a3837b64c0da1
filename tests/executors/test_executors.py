"""What every place to run must do, over every file of executors/; and what is special about this very process."""

import dataclasses
import os
import signal
from pathlib import Path

import pytest

from epsgrid import executors, plugins
from epsgrid.errors import UnknownNameError
from epsgrid.executors import ExecutorPlugin, JobEnded, JobStatus, inline, slurm
from epsgrid.stages.experiment import resolve
from epsgrid.stages.running import HowToRun
from epsgrid.stages.sweep import sweep
from epsgrid.store.records import TrialResult, read_epochs
from tests.executors.jobs import StopWhen, is_alive, pid_of, run, wait_for
from tests.stages.conftest import SPEC, NeverStop


def test_all_files_are_known() -> None:
    assert plugins.names("executors") == ("inline", "local", "ray", "slurm")
    with pytest.raises(UnknownNameError, match="unknown executor 'lokal'; did you mean 'local'"):
        executors.load("lokal")


def test_each_job_ends_with_its_own_status_and_cannot_hurt_the_others(executor: ExecutorPlugin, tmp_path: Path) -> None:
    expected = {"short-1": 0, "raise-2": JobStatus.FAILED, "return-75": 75}
    if executor is not inline:  # there a job is this very process
        expected |= {"kill-3": -signal.SIGKILL, "exit-200": 200}
    assert run(executor, tmp_path, *expected).statuses == expected
    processes = {path.read_text() for path in tmp_path.glob("*.began")}
    here = f"began {os.getpid()}"
    assert processes == {here} if executor is inline else len(processes - {here}) == len(expected)


@pytest.mark.parametrize("slots", [1, 3])
def test_jobs_begin_in_order_and_never_more_than_slots_at_once(
    executor: ExecutorPlugin, tmp_path: Path, slots: int
) -> None:
    trials = [f"short-{number}" for number in range(7)]
    recorder = run(executor, tmp_path, *trials, slots=slots)
    if executor is slurm:  # it starts them in order, and cannot see which is quicker to begin
        assert sorted(recorder.started) == trials
    else:
        assert recorder.started == trials
    assert 1 <= recorder.most_at_once <= slots


def test_no_jobs_and_a_stop_before_the_first_job_start_none(executor: ExecutorPlugin, tmp_path: Path) -> None:
    assert run(executor, tmp_path).events == []
    assert run(executor, tmp_path, "short-1", stop=StopWhen(tmp_path)).events == []


def test_a_stop_starts_nothing_more(executor: ExecutorPlugin, tmp_path: Path) -> None:
    stop = StopWhen(tmp_path / "long-1.began")
    recorder = run(executor, tmp_path, "long-1", "short-2", "short-3", slots=1, stop=stop)
    assert recorder.started == list(recorder.statuses) == ["long-1"]


def test_the_first_stop_lets_running_jobs_save_and_the_second_kills(executor: ExecutorPlugin, tmp_path: Path) -> None:
    if executor is inline:
        pytest.skip("an inline job notices signals itself")
    recorder = run(executor, tmp_path, "save-1", "short-2", slots=1, stop=StopWhen(tmp_path / "save-1.began"))
    assert recorder.started == ["save-1"]
    assert recorder.statuses["save-1"] in (75, -signal.SIGTERM)  # asked before it could listen
    ready = tmp_path / "stubborn-2.ready"
    recorder = run(executor, tmp_path, "stubborn-2", "short-3", slots=1, stop=StopWhen(ready, ready))
    statuses = dict(recorder.statuses)
    if executor is slurm:  # the scheduler may begin the next job in the moment in which the killed one makes room
        assert statuses.pop("short-3", -signal.SIGKILL) == -signal.SIGKILL
    assert statuses == {"stubborn-2": -signal.SIGKILL}
    wait_for(lambda: not is_alive(pid_of(tmp_path, "stubborn-2")))


def test_whatever_is_raised_running_jobs_are_killed(executor: ExecutorPlugin, tmp_path: Path) -> None:
    outlive = executor in (inline, slurm)  # where jobs are not killed

    def notify(event: object) -> None:
        if isinstance(event, JobEnded):
            if not outlive:
                pid_of(tmp_path, "sleep-1")
            raise BrokenPipeError("the terminal is gone")

    with pytest.raises(BrokenPipeError, match="the terminal is gone"):
        run(executor, tmp_path, *([] if outlive else ["sleep-1"]), "short-2", notify=notify)
    if not outlive:
        wait_for(lambda: not is_alive(pid_of(tmp_path, "sleep-1")))


def _trained(folder: Path, *overrides: str) -> dict[str, tuple[object, ...]]:
    """Sweep in a folder; return all that was trained, by trial, but for the seconds it took and where."""
    folder.mkdir()
    (folder / "spec.yaml").write_text(SPEC.replace("epochs: 1", "epochs: 2"))
    asked = resolve(folder / "spec.yaml", None, overrides, folder / "runs")
    summary = sweep(asked, "default", HowToRun(1, lambda _: None, NeverStop()))
    assert summary.counts == {"done": 1}, summary.failures
    found = {}
    for trial in asked.folder.trials():
        epochs = [dataclasses.replace(epoch, seconds=0.0) for epoch in read_epochs(trial.metrics_jsonl)]
        result = TrialResult.read(trial.result_json)
        found[trial.id] = (epochs, result.validation, result.test, result.steps, result.selected_epoch)
    return found


def test_results_are_the_same_wherever_trials_run(executor: ExecutorPlugin, tmp_path: Path) -> None:
    """To the last bit: one thread each, seeds of their own."""
    name, *settings = getattr(executor, "named", None) or (executor.__name__.rpartition(".")[2],)
    there = _trained(tmp_path / "there", f"execution.executor={name}", *settings)
    assert there == _trained(tmp_path / "here")


def test_inline_what_a_job_raises_is_on_stderr_and_ctrl_c_is_no_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(inline, tmp_path, "raise-2").statuses == {"raise-2": 1}
    assert "RuntimeError: job 2 fails" in capsys.readouterr().err
    assert run(inline, tmp_path, "full-3").statuses == {"full-3": 1}
    assert capsys.readouterr().err == "trial full-3: the disk is full\n", "what the user can mend comes without a trace"
    with pytest.raises(KeyboardInterrupt):
        run(inline, tmp_path, "x", work="tests.executors.jobs:interrupted")
