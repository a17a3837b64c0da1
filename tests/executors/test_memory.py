"""Memory told by stand-ins for /proc and nvidia-smi."""

import signal
from pathlib import Path

import pytest

from epsgrid.executors import JobStatus, _memory
from epsgrid.executors._memory import DeviceMemory, DeviceMeter, MachineMemory, Room, Watch, oom_kills, seen_status
from tests.executors.fake_gpus import UUIDS, FakeGpus, install

GIB = 2**30


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_what_is_started_between_looks_is_reckoned_with(capsys: pytest.CaptureFixture[str]) -> None:
    rooms, clock, looks = [Room(7 * GIB, 2 * GIB), Room(5 * GIB, 2 * GIB)], Clock(), []

    def look() -> Room:
        looks.append(clock.now)
        return rooms[len(looks) - 1]

    watch = Watch("memory", look, clock)
    allowed = []
    for _ in range(4):
        allowed.append(watch.allows_another())
        watch.note_started()
    assert allowed == [True, True, True, False], "three of 2 GiB fit into 7"
    assert looks == [0]
    clock.now = 1
    assert watch.allows_another(), "what was started before the second look is seen by it"
    assert looks == [0, 1]
    watch.note_started()
    watch.note_started()
    assert not watch.allows_another()
    told = capsys.readouterr().err
    assert told == "fewer trials at once than could be: a trial takes up to 2.0 GiB, and 7.0 GiB of memory are left\n"


def test_what_cannot_be_told_holds_nothing_back() -> None:
    watch = Watch("memory", lambda: None)
    assert all(watch.allows_another() for _ in range(3))


def _proc(folder: Path, free_kb: int, **processes: str) -> None:
    (folder / "meminfo").write_text(f"MemTotal: 99 kB\nMemAvailable: {free_kb} kB\nHugePages_Total: 0\n")
    for pid, status in processes.items():
        (folder / pid.strip("_")).mkdir(exist_ok=True)
        (folder / pid.strip("_") / "status").write_text(status)


def _status(peak: int, own: int, mapped: int, shared: int = 0) -> str:
    return (
        f"Name:\tpython\nVmHWM:\t{peak} kB\nVmRSS:\t{own + mapped + shared} kB\nRssAnon:\t{own} kB\n"
        f"RssFile:\t{mapped} kB\nRssShmem:\t{shared} kB\nThreads:\t1\n"
    )


def test_the_machine_has_room_for_those_that_run_to_grow_and_one_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_memory, "_PROC", tmp_path)
    monkeypatch.setattr(_memory, "_GROUPS", tmp_path)
    _proc(tmp_path, 5000, _1=_status(1500, 900, 400, 100), _2=_status(700, 250, 400, 50))
    watched = MachineMemory(lambda: [1, 2, 3])  # the third has just ended
    assert watched.look() == Room(1024 * (5000 - (1000 - 900) - (1000 - 250) - 1000), 1024 * 1000)
    only_last = MachineMemory(lambda: [2])
    assert only_last.look() == Room(1024 * 5000, 1024 * 250)


def test_the_largest_that_was_seen_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_memory, "_PROC", tmp_path)
    _proc(tmp_path, 5000, _1=_status(2000, 2000, 0))
    watched = MachineMemory(lambda: [1])
    assert watched.look() == Room(1024 * 5000, 1024 * 2000)
    _proc(tmp_path, 5000, _1=_status(300, 300, 0))
    assert watched.look() == Room(1024 * (5000 - 1700), 1024 * 2000)


def test_the_limit_of_a_container_or_batch_job_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_memory, "_PROC", tmp_path)
    monkeypatch.setattr(_memory, "_GROUPS", tmp_path)
    _proc(tmp_path, 5000)
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "cgroup").write_text("0::/slurm/job_7\n")
    (tmp_path / "slurm" / "job_7").mkdir(parents=True)

    def limit(group: str, most: str, used: int, files: int) -> None:
        (tmp_path / group / "memory.max").write_text(f"{most}\n")
        (tmp_path / group / "memory.current").write_text(f"{used}\n")
        (tmp_path / group / "memory.stat").write_text(f"anon 5\nfile 9\ninactive_file {files}\nactive_file 3\n")

    def spare() -> float:
        room = MachineMemory(list).look()
        assert room is not None
        return room.spare

    assert spare() == 1024 * 5000
    limit("slurm/job_7", "max", 100, 0)
    assert spare() == 1024 * 5000
    limit("slurm/job_7", "100000", 70000, 20000)
    assert spare() == 50000
    limit("slurm", "90000", 80000, 10000)
    assert spare() == 20000
    (tmp_path / "self" / "cgroup").write_text("1:memory:/slurm/job_7\n")  # version 1: not looked at
    assert spare() == 1024 * 5000


def test_without_proc_nothing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_memory, "_PROC", tmp_path)
    assert MachineMemory(list).look() is None
    assert oom_kills() is None
    assert seen_status(-signal.SIGKILL, None) == -signal.SIGKILL


def test_here_proc_tells_something() -> None:
    room = MachineMemory(lambda: [1]).look()
    assert room is not None and room.spare > 0


def test_a_killed_process_was_killed_for_memory_where_the_system_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_memory, "_PROC", tmp_path)
    (tmp_path / "vmstat").write_text("nr_free_pages 12\noom_kill 7\npgfault 3\n")
    assert oom_kills() == 7
    assert seen_status(-signal.SIGKILL, 6) == JobStatus.KILLED_FOR_MEMORY
    assert seen_status(-signal.SIGKILL, 7) == -signal.SIGKILL, "somebody else killed it"
    assert seen_status(-signal.SIGTERM, 6) == -signal.SIGTERM
    assert seen_status(0, 6) == 0


@pytest.fixture
def gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeGpus:
    monkeypatch.setattr(_memory, "_LOOK_S", 0.0)
    return install(tmp_path, monkeypatch, 2)


def _say(gpus: FakeGpus, *used_mib: int) -> None:
    gpus.memory(*(f"{number}, {UUIDS[number]}, H200, {used}, 10240" for number, used in enumerate(used_mib)))


def test_a_device_has_room_for_those_that_run_to_grow_and_one_more(gpus: FakeGpus) -> None:
    mib, trials = 2**20, [0]
    _say(gpus, 1000, 0)
    device = DeviceMemory(UUIDS[0], lambda: trials[0], DeviceMeter(UUIDS[:2], {}))
    trials[0] = 2
    _say(gpus, 7000, 9999)
    assert device.look() == Room((10240 - 7000) * mib, 3000 * mib)
    trials[0] = 3  # the third has nothing yet: it will take as much as the others
    assert device.look() == Room((10240 - 1000 - 3 * 3000) * mib, 3000 * mib)
    trials[0] = 1
    _say(gpus, 3000, 0)
    assert device.look() == Room((10240 - 4000) * mib, 3000 * mib), "it is remembered, and this one may grow"


def test_memory_that_is_not_told_is_said_once_and_not_watched(
    gpus: FakeGpus, capsys: pytest.CaptureFixture[str]
) -> None:
    meter = DeviceMeter(UUIDS[:2], {})
    devices = [DeviceMemory(uuid, lambda: 1, meter) for uuid in UUIDS[:2]]
    assert [device.look() for device in devices] == [None, None]
    told = capsys.readouterr().err
    assert told.count("nvidia-smi does not tell the memory of GPU-aaaa1111-0, GPU-bbbb2222-0") == 1
    assert told.count("\n") == 1


def test_all_devices_are_asked_for_at_once(
    gpus: FakeGpus, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_memory, "_LOOK_S", 60.0)
    _say(gpus, 1, 2)
    meter = DeviceMeter(UUIDS[:2], {})
    assert [meter.read()[uuid].used for uuid in UUIDS[:2]] == [2**20, 2**21]
    assert gpus.asked == 1
    assert capsys.readouterr().err == ""
