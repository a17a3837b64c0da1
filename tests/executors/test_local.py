import os
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path

import pytest

from epsgrid.errors import ExecutionError
from epsgrid.executors import Job, JobStatus, local
from tests.executors.fake_gpus import install
from tests.executors.jobs import PATIENCE_S, StopWhen, When, driver, is_alive, parent_of, pid_of, run, wait_for


def test_what_a_job_raises_is_on_stderr(tmp_path: Path) -> None:
    with driver("local", tmp_path, "raise-2") as command:
        out, err = command.communicate(timeout=PATIENCE_S)
    assert out == "{'raise-2': 1}\n"
    assert "RuntimeError: job 2 fails" in err


def test_slots_are_filled_and_the_environment_is_left_as_it_was(tmp_path: Path) -> None:
    """The first two end only once both have begun, which is when the stop is asked for."""
    before = dict(os.environ), sys.modules["__main__"], signal.pthread_sigmask(signal.SIG_BLOCK, ())
    recorder = run(local, tmp_path, "save-1", "save-2", "save-3", stop=StopWhen(tmp_path / "save-2.began"))
    assert recorder.started == ["save-1", "save-2"]
    assert recorder.most_at_once == 2
    assert before == (dict(os.environ), sys.modules["__main__"], signal.pthread_sigmask(signal.SIG_BLOCK, ()))


def test_a_job_for_which_no_process_can_start_is_reported_and_the_others_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    start = local._started

    def start_all_but_one(target: Callable[..., object], *arguments: object) -> object:
        if arguments and arguments[1] == Job(str(tmp_path), "short-2"):
            raise OSError(11, "Resource temporarily unavailable")
        return start(target, *arguments)

    monkeypatch.setattr(local, "_started", start_all_but_one)
    statuses = {"short-1": 0, "short-2": JobStatus.LOST, "short-3": 0}
    assert run(local, tmp_path, "short-1", "short-2", "short-3").statuses == statuses
    assert "no process could be started for trial short-2: " in capsys.readouterr().err


def test_a_server_that_dies_takes_its_jobs_along_and_is_replaced(tmp_path: Path) -> None:
    began = tmp_path / "sleep-1.began"
    kill = When(began, lambda: os.kill(parent_of(pid_of(tmp_path, "sleep-1")), signal.SIGKILL))
    recorder = run(local, tmp_path, "sleep-1", "short-2", slots=1, stop=kill)
    assert recorder.statuses == {"sleep-1": 255, "short-2": 0}
    wait_for(lambda: not is_alive(pid_of(tmp_path, "sleep-1")))


def test_a_server_that_cannot_import_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_module.py").write_text("raise RuntimeError('broken on purpose')\n")
    monkeypatch.syspath_prepend(tmp_path)
    forkserver._forkserver._stop()
    with pytest.raises(ExecutionError, match="could not import broken_module; the error is above"):
        run(local, tmp_path, "y", work="broken_module:work")


def test_a_job_has_one_thread_its_signals_and_no_second_run_of_the_main_script(tmp_path: Path) -> None:
    with driver("local", tmp_path, "facts") as command:
        out, err = command.communicate(timeout=PATIENCE_S)
    assert (out, err) == ("{'facts': 0}\n", "")
    assert (tmp_path / "facts.facts").read_text() == "facts [] [True, False] ('1', '1') False"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_group_leaves_the_decision_to_the_command(tmp_path: Path, number: signal.Signals) -> None:
    """What a terminal does on Ctrl-C, and a batch system at its time limit."""
    with driver("local", tmp_path, "save-1", "save-2", "save-3") as command:
        for trial in ("save-1", "save-2"):
            pid_of(tmp_path, trial)
        time.sleep(0.2)  # until they listen
        os.killpg(command.pid, number)
        out, err = command.communicate(timeout=PATIENCE_S)
    assert (err, command.returncode) == ("", 0)
    assert out in ("{'save-1': 75, 'save-2': 75}\n", "{'save-2': 75, 'save-1': 75}\n")


def test_a_killed_command_takes_jobs_and_server_along(tmp_path: Path) -> None:
    with driver("local", tmp_path, "sleep-1", "stubborn-2") as command:
        pids = [pid_of(tmp_path, trial) for trial in ("sleep-1", "stubborn-2")]
        pids.append(parent_of(pids[0]))
        assert all(is_alive(pid) for pid in pids)
        command.kill()
        wait_for(lambda: not any(is_alive(pid) for pid in pids))


def test_each_job_sees_the_device_with_the_fewest_and_an_exclusive_one_runs_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of the three devices are allowed, two jobs on each: in turn, and never more than that."""
    install(tmp_path, monkeypatch, 3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,0,-1,1")
    trials = [f"4-{number}" for number in range(8)]
    alone = [Job(str(tmp_path), f"4-alone{number}", exclusive=True) for number in range(2)]
    recorder = run(local, tmp_path, *trials, *alone, work="tests.executors.jobs:stay", slots=4, device="cuda")
    assert set(recorder.statuses.values()) == {0} and recorder.most_at_once == 4
    found = {path.stem: path.read_text().split()[1:] for path in tmp_path.glob("*.stay")}
    stays = {trial: (float(began), float(ended)) for trial, (began, ended, _) in found.items()}
    assert [found[trial][2] for trial in trials[:4]] == ["<2>", "<0>"] * 2
    for device in ("0", "2"):
        here = [stays[trial] for trial in trials if found[trial][2] == f"<{device}>"]
        assert max(sum(other[0] <= one[0] < other[1] for other in here) for one in here) == 2
    for job in alone:
        began, ended = stays.pop(job.trial)
        assert all(other[1] <= began or other[0] >= ended for other in stays.values())
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2,0,-1,1"


def test_a_process_answers_or_is_gone(tmp_path: Path) -> None:
    where = "tests.executors.jobs:answer"
    assert (
        local.answer(where, Job(str(tmp_path), "say-7"), StopWhen(tmp_path / "never")) == "say-7 from another process"
    )
    assert local.answer(where, Job(str(tmp_path), "kill-1"), StopWhen(tmp_path / "never")) == -9
    asked = StopWhen(tmp_path / "sleep-1.began")
    assert local.answer(where, Job(str(tmp_path), "sleep-1"), asked) == -9
