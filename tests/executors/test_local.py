import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing import forkserver
from pathlib import Path

import pytest

from epsgrid.errors import ExecutionError
from epsgrid.executors import Alone, Job, JobEnded, JobEvent, JobStatus, _memory, local
from epsgrid.spec.model import Execution
from tests.executors.fake_gpus import UUIDS, install
from tests.executors.jobs import StopWhen, Told, stay, work

PATIENCE_S = 60


def _run(folder: Path, *trials: str, slots: int = 2, stop: StopWhen | None = None) -> Told:
    """Run jobs; should the server have to be started, it imports nothing heavy."""
    told, all_jobs = Told(), [Job(str(folder), trial) for trial in trials]
    local.run(all_jobs, work, slots=slots, notify=told, stop=stop or StopWhen(), preload=("no_such_module",))
    return told


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


def _is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def _pid(folder: Path, trial: str) -> int:
    path = folder / f"{trial}.began"
    _wait_for(path.exists)
    return int(path.read_text().split()[1])


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@contextlib.contextmanager
def _driver(folder: Path, *trials: str) -> Iterator["subprocess.Popen[str]"]:
    """Run a command of its own process group, as a shell does."""
    root = Path(__file__).parents[2]
    command = [sys.executable, str(root / "tests" / "executors" / "driver.py"), str(folder), *trials]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, env=environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True, cwd=folder
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_each_job_has_a_process_of_its_own_that_cannot_hurt_the_others(tmp_path: Path) -> None:
    told = _run(tmp_path, "kill-1", "exit-200", "return-5", "short-1")
    assert told.statuses == {"kill-1": -signal.SIGKILL, "exit-200": 200, "return-5": 5, "short-1": 0}
    pids = {path.read_text() for path in tmp_path.glob("*.began")}
    assert len(pids) == 4
    assert f"began {os.getpid()}" not in pids


def test_what_a_job_raises_is_on_stderr(tmp_path: Path) -> None:
    with _driver(tmp_path, "raise-2") as driver:
        out, err = driver.communicate(timeout=PATIENCE_S)
    assert out == "{'raise-2': 1}\n"
    assert "RuntimeError: job 2 fails" in err


def test_slots_are_filled(tmp_path: Path) -> None:
    """The first two end only once both have begun, which is when the stop is asked for."""
    stop = StopWhen(tmp_path / "save-2.began")
    told = _run(tmp_path, "save-1", "save-2", "save-3", stop=stop)
    assert told.started == ["save-1", "save-2"]
    assert told.most_at_once == 2


def test_the_first_stop_lets_running_jobs_save(tmp_path: Path) -> None:
    told = _run(tmp_path, "save-1", "short-2", slots=1, stop=StopWhen(tmp_path / "save-1.began"))
    assert told.statuses["save-1"] in (75, -signal.SIGTERM)  # told before it could listen
    assert told.started == ["save-1"]


def test_the_second_stop_kills(tmp_path: Path) -> None:
    stop = StopWhen(tmp_path / "stubborn-1.began", tmp_path / "stubborn-1.ready")
    told = _run(tmp_path, "stubborn-1", "stubborn-2", slots=1, stop=stop)
    assert told.started == ["stubborn-1"]
    assert told.statuses["stubborn-1"] in (-signal.SIGKILL, -signal.SIGTERM)


def test_a_stop_that_comes_as_the_second_kills_at_once(tmp_path: Path) -> None:
    ready = tmp_path / "stubborn-1.ready"
    assert _run(tmp_path, "stubborn-1", stop=StopWhen(ready, ready)).statuses == {"stubborn-1": -signal.SIGKILL}


def test_whatever_is_raised_running_jobs_are_killed_first(tmp_path: Path) -> None:
    def notify(event: object) -> None:
        if isinstance(event, local.JobEnded):
            _pid(tmp_path, "sleep-1")
            raise RuntimeError("cannot draw")

    work_of = [Job(str(tmp_path), trial) for trial in ("sleep-1", "short-2")]
    with pytest.raises(RuntimeError, match="cannot draw"):
        local.run(work_of, work, slots=2, notify=notify, stop=StopWhen())
    assert not _is_alive(_pid(tmp_path, "sleep-1"))


def test_a_job_for_which_no_process_can_start_is_reported_and_the_others_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    start = local._started

    def start_all_but_one(target: Callable[..., object], *arguments: object) -> object:
        if arguments and arguments[1] == Job(str(tmp_path), "short-2"):
            raise OSError(11, "Resource temporarily unavailable")
        return start(target, *arguments)

    monkeypatch.setattr(local, "_started", start_all_but_one)
    assert _run(tmp_path, "short-1", "short-2", "short-3").statuses == {
        "short-1": 0,
        "short-2": local.CANNOT_START,
        "short-3": 0,
    }
    assert "no process could be started for trial short-2: [Errno 11] Resource" in capsys.readouterr().err


def test_a_server_that_dies_takes_its_jobs_along_and_is_replaced(tmp_path: Path) -> None:
    class KillServerOnce(StopWhen):
        def level(self) -> int:
            if self.paths[0].exists() and not self.asked:
                super().level()
                os.kill(_parent(_pid(tmp_path, "sleep-1")), signal.SIGKILL)
            return 0

    told = _run(tmp_path, "sleep-1", "short-2", slots=1, stop=KillServerOnce(tmp_path / "sleep-1.began"))
    assert told.statuses == {"sleep-1": local.SERVER_DIED, "short-2": 0}
    _wait_for(lambda: not _is_alive(_pid(tmp_path, "sleep-1")))


def test_a_server_that_cannot_import_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_preload.py").write_text("raise RuntimeError('broken on purpose')\n")
    monkeypatch.syspath_prepend(tmp_path)
    forkserver._forkserver._stop()
    told = Told()
    with pytest.raises(ExecutionError, match="could not import broken_preload; its own words are above"):
        local.run([Job("x", "y")], work, slots=1, notify=told, stop=StopWhen(), preload=("broken_preload",))
    assert told.events == []


def test_a_stop_is_noticed_while_the_server_still_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began, main = tmp_path / "began", sys.modules["__main__"]
    (tmp_path / "slow_preload.py").write_text(
        f"import pathlib, time\npathlib.Path({str(began)!r}).touch()\ntime.sleep(0.5)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    forkserver._forkserver._stop()
    told, stop = Told(), StopWhen(began)
    local.run([Job(str(tmp_path), "short-1")], work, slots=1, notify=told, stop=stop, preload=("slow_preload",))
    assert told.events == []
    assert len(stop.asked) > 1
    assert _run(tmp_path, "short-1").statuses == {"short-1": 0}  # while the first call's server still starts
    assert sys.modules["__main__"] is main


def test_the_main_script_is_no_place_for_work() -> None:
    def work(job: Job) -> int:
        return 0

    work.__module__ = "__main__"
    with pytest.raises(AssertionError, match="the main script is not run again"):
        local.run([], work, slots=1, notify=Told(), stop=StopWhen())


def test_the_environment_is_left_as_it_was(tmp_path: Path) -> None:
    before = dict(os.environ), sys.modules["__main__"], signal.pthread_sigmask(signal.SIG_BLOCK, ())
    _run(tmp_path, "return-0")
    assert before == (dict(os.environ), sys.modules["__main__"], signal.pthread_sigmask(signal.SIG_BLOCK, ()))


def test_a_job_has_one_thread_its_signals_and_no_second_run_of_the_main_script(tmp_path: Path) -> None:
    with _driver(tmp_path, "facts") as driver:
        out, err = driver.communicate(timeout=PATIENCE_S)
    assert (out, err) == ("{'facts': 0}\n", "")
    assert (tmp_path / "facts.facts").read_text() == "facts [] [True, False] ('1', '1') False"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_group_leaves_the_decision_to_the_command(tmp_path: Path, number: signal.Signals) -> None:
    """What a terminal does on Ctrl-C, and a batch system at its time limit."""
    with _driver(tmp_path, "save-1", "save-2", "save-3") as driver:
        for trial in ("save-1", "save-2"):
            _pid(tmp_path, trial)
        time.sleep(0.2)  # until they listen
        os.killpg(driver.pid, number)
        out, err = driver.communicate(timeout=PATIENCE_S)
    assert (err, driver.returncode) == ("", 0)
    assert out in ("{'save-1': 75, 'save-2': 75}\n", "{'save-2': 75, 'save-1': 75}\n")


def test_a_killed_command_takes_jobs_and_server_along(tmp_path: Path) -> None:
    with _driver(tmp_path, "sleep-1", "stubborn-2") as driver:
        pids = [_pid(tmp_path, trial) for trial in ("sleep-1", "stubborn-2")]
        pids.append(_parent(pids[0]))
        assert all(_is_alive(pid) for pid in pids)
        driver.kill()
        _wait_for(lambda: not any(_is_alive(pid) for pid in pids))


def _stay(folder: Path, *jobs: Job, slots: int) -> dict[str, tuple[float, float, str]]:
    """Run jobs where CUDA trains; return of each when it began, when it ended, and which devices it saw."""
    told, execution = Told(), Execution(device="cuda")
    local.run(jobs, stay, slots=slots, notify=told, stop=StopWhen(), execution=execution)
    assert set(told.statuses.values()) == {0}
    found = {}
    for job in jobs:
        _, began, ended, device, check = (folder / f"{job.trial}.stay").read_text().split()
        assert check == "None", "how torch looks for CUDA is changed in the server only"
        found[job.trial] = float(began), float(ended), device
    return found


def _most_at_once(stays: list[tuple[float, float, str]]) -> int:
    return max(sum(other[0] <= one[0] < other[1] for other in stays) for one in stays)


def test_each_job_sees_the_one_device_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two devices, two jobs on each: in turn, and never more than that."""
    install(tmp_path, monkeypatch, 2)
    found = _stay(tmp_path, *(Job(str(tmp_path), f"4-{number}") for number in range(8)), slots=4)
    assert [found[f"4-{number}"][2] for number in range(4)] == [UUIDS[0], UUIDS[1]] * 2
    by_device = {uuid: [each for each in found.values() if each[2] == uuid] for uuid in UUIDS[:2]}
    assert sum(map(len, by_device.values())) == 8
    assert all(_most_at_once(stays) == 2 for stays in by_device.values())
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_devices_are_those_that_the_environment_allows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, 3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,0,-1,1")
    found = _stay(tmp_path, *(Job(str(tmp_path), f"2-{number}") for number in range(2)), slots=2)
    assert [found["2-0"][2], found["2-1"][2]] == ["2", "0"]


def test_a_job_that_is_to_be_alone_has_its_device_for_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, 2)
    jobs = [Job(str(tmp_path), f"4-{number}") for number in range(4)]
    alone = [Job(str(tmp_path), f"6-alone-{number}", Alone.ON_DEVICE) for number in range(2)]
    last = Job(str(tmp_path), "0-last", Alone.ON_MACHINE)
    found = _stay(tmp_path, *jobs, *alone, last, slots=4)
    for job in alone:
        began, ended, device = found[job.trial]
        beside = [each for trial, each in found.items() if each[2] == device and trial != job.trial]
        assert all(other[1] <= began or ended <= other[0] for other in beside)
    assert [found[job.trial][2] for job in alone] in ([UUIDS[0], UUIDS[1]], [UUIDS[1], UUIDS[0]]), "one on each"
    assert found["0-last"][0] >= max(each[1] for trial, each in found.items() if trial != "0-last")


def test_a_job_that_the_system_killed_for_its_memory_is_told_from_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vmstat").write_text("oom_kill 3\n")
    monkeypatch.setattr(_memory, "_PROC", tmp_path)
    told, jobs = Told(), [Job(str(tmp_path), trial) for trial in ("kill-1", "kill-2")]

    def notify(event: JobEvent) -> None:
        told(event)
        if isinstance(event, JobEnded):
            (tmp_path / "vmstat").write_text("oom_kill 4\n")  # before the second begins, after the first has ended

    local.run(jobs, work, slots=1, notify=notify, stop=StopWhen())
    assert told.statuses == {"kill-1": -signal.SIGKILL, "kill-2": -signal.SIGKILL}
    monkeypatch.setattr(local, "oom_kills", lambda: 3)  # as if it had gone up while the jobs ran
    local.run(jobs, work, slots=1, notify=notify, stop=StopWhen())
    assert told.statuses == dict.fromkeys(("kill-1", "kill-2"), JobStatus.KILLED_FOR_MEMORY)
