import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path

import pytest

from epsgrid.errors import ExecutionError
from epsgrid.executors import Exclusive, Job, JobStatus, _process, local
from epsgrid.executors._process import job_status, oom_kills
from epsgrid.executors.local import _Slots
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
    statuses = {"short-1": 0, "short-2": local._CANNOT_START, "short-3": 0}
    assert run(local, tmp_path, "short-1", "short-2", "short-3").statuses == statuses
    assert "no process could be started for trial short-2: [Errno 11] Resource" in capsys.readouterr().err


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


def test_a_stop_is_noticed_while_the_server_still_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began, main = tmp_path / "began", sys.modules["__main__"]
    (tmp_path / "slow_module.py").write_text(
        f"import pathlib, time\npathlib.Path({str(began)!r}).touch()\ntime.sleep(0.5)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    forkserver._forkserver._stop()
    stop = StopWhen(began)
    assert run(local, tmp_path, "short-1", work="slow_module:work", stop=stop).events == []
    assert len(stop.asked) > 1
    assert run(local, tmp_path, "short-1").statuses == {"short-1": 0}  # while the first call's server still starts
    assert sys.modules["__main__"] is main


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


def test_a_killed_process_was_killed_for_memory_where_the_system_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a stand-in for Linux's counter."""
    monkeypatch.setattr(_process, "_VMSTAT", tmp_path / "vmstat")
    assert oom_kills() is None
    assert job_status(-signal.SIGKILL, 6) == job_status(-signal.SIGKILL, None) == -signal.SIGKILL
    (tmp_path / "vmstat").write_text("nr_free_pages 12\noom_kill 7\npgfault 3\n")
    assert job_status(-signal.SIGKILL, 6) == JobStatus.KILLED_FOR_MEMORY
    assert (job_status(-signal.SIGTERM, 6), job_status(0, 6)) == (-signal.SIGTERM, 0)
    assert run(local, tmp_path, "kill-1").statuses == {"kill-1": -signal.SIGKILL}, "somebody else killed it"
    monkeypatch.setattr(local, "oom_kills", lambda: 6)  # as if it had gone up while the job ran
    assert run(local, tmp_path, "kill-1").statuses == {"kill-1": JobStatus.KILLED_FOR_MEMORY}


# --- where jobs run


def _job(number: int, exclusive: Exclusive = Exclusive.NO) -> Job:
    return Job("nowhere", str(number), exclusive)


def _take(slots: _Slots, *jobs: Job) -> list[str | None]:
    return [slots.take(job) for job in jobs]


@pytest.mark.parametrize(
    ("devices", "slots", "expected"),
    [
        (("a", "b", "c"), 6, ["a", "b", "c", "a", "b", "c", None]),
        (("a", "b"), 3, ["a", "b", "a", None]),
        ((), 3, ["", "", "", None]),
    ],
)
def test_jobs_go_to_the_device_with_the_fewest(devices: tuple[str, ...], slots: int, expected: list[str]) -> None:
    taken = _Slots(devices, slots)
    assert _take(taken, *map(_job, range(len(expected)))) == expected
    taken.leave(_job(1), expected[1])
    assert _take(taken, _job(10), _job(11)) == [expected[1], None]


def test_exclusive_on_a_device_and_beside_other_devices() -> None:
    slots = _Slots(("a", "b"), 4)
    assert _take(slots, _job(0), _job(1, Exclusive.DEVICE)) == ["a", "b"]
    assert _take(slots, _job(2), _job(3)) == ["a", None], "nothing joins the exclusive one"
    slots.leave(_job(0), "a")
    assert _take(slots, _job(4, Exclusive.DEVICE)) == [None], "one is still there"
    slots.leave(_job(2), "a")
    assert _take(slots, _job(4, Exclusive.DEVICE)) == ["a"]


def test_whatever_comes_and_goes_the_rules_hold() -> None:
    """A random sequence: nothing is overfull, exclusive jobs are so, and nothing stands still."""
    chance = random.Random(0)
    for devices, most in (((), 3), (("a", "b"), 2), (("a", "b", "c"), 7)):
        slots, running = _Slots(devices, most), list[tuple[Job, str]]()
        for number in range(300):
            job = _job(number, chance.choice([*[Exclusive.NO] * 3, Exclusive.DEVICE, Exclusive.MACHINE]))
            while (device := slots.take(job)) is None:
                assert running, "nothing runs, and yet the job must wait"
                ended, left = running.pop(chance.randrange(len(running)))
                slots.leave(ended, left)
            running.append((job, device))
            load = Counter(device for _, device in running)
            assert sum(load.values()) <= most
            assert max(load.values()) <= -(-most // max(1, len(devices)))
            for one, device in running:
                assert not (one.exclusive and load[device] > 1)
                assert not (one.exclusive == Exclusive.MACHINE and len(running) > 1)


def test_each_job_sees_the_one_device_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of the three devices are allowed, two jobs on each: in turn, and never more than that."""
    install(tmp_path, monkeypatch, 3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,0,-1,1")
    trials = [f"4-{number}" for number in range(8)]
    recorder = run(local, tmp_path, *trials, work="tests.executors.jobs:stay", slots=4, device="cuda")
    assert set(recorder.statuses.values()) == {0}
    found = [(tmp_path / f"{trial}.stay").read_text().split()[1:] for trial in trials]
    assert [device for _, _, device, _ in found[:4]] == ["2", "0"] * 2
    assert {check for *_, check in found} == {"None"}, "how torch looks for CUDA is changed in the server only"
    for device in ("0", "2"):
        stays = [(float(began), float(ended)) for began, ended, there, _ in found if there == device]
        assert max(sum(other[0] <= one[0] < other[1] for other in stays) for one in stays) == 2
    assert {device for _, _, device, _ in found} == {"0", "2"}
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2,0,-1,1"
