"""Watch memory, so that no trial is started where it would push another out: the machine's own and that of devices.

How much a trial takes is not known before one has run. So all slots are filled at first; before another trial is
started beside others, there must be room for the largest that was seen, after those beside it have grown as large. One
trial always runs. Where nothing can be told, as of the machine's memory without Linux's `/proc`, nothing is held back.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from epsgrid.executors import JobStatus, _devices

_PROC = Path("/proc")
_GROUPS = Path("/sys/fs/cgroup")
_LOOK_S = 1.0
_GIB = 2**30


@dataclass(frozen=True)
class Room:
    """What a look at a memory tells, in bytes.

    Attributes:
        spare: free when all that runs has grown to `peak`.
        peak: what a trial takes at most, as far as was seen.
    """

    spare: float
    peak: float


class Watch:
    """One memory, looked at now and then; what is started in between is reckoned with.

    Args:
        name: what the memory is called in a message.
        look: returns what is there; None where it cannot be told.
        clock: in seconds.
    """

    def __init__(self, name: str, look: Callable[[], Room | None], clock: Callable[[], float] = time.monotonic) -> None:
        self._name, self._look, self._clock = name, look, clock
        self._looked = -float("inf")
        self._room: Room | None = None
        self._started = 0
        self._told = False

    def allows_another(self) -> bool:
        """Say whether another trial fits beside those that run."""
        if self._clock() - self._looked >= _LOOK_S:
            self._room, self._looked, self._started = self._look(), self._clock(), 0
        if self._room is None or self._room.spare >= (self._started + 1) * self._room.peak:
            return True
        self._tell_once(self._room)
        return False

    def note_started(self) -> None:
        """Reckon with one more trial, whose memory is not seen yet."""
        self._started += 1

    def _tell_once(self, room: Room) -> None:
        if not self._told:
            self._told = True
            print(
                f"fewer trials at once than could be: a trial takes up to {room.peak / _GIB:.1f} GiB, and"
                f" {max(0.0, room.spare) / _GIB:.1f} GiB of {self._name} are left",
                file=sys.stderr,
            )


class MachineMemory:
    """Looks at the machine's memory and at what processes have of it for themselves."""

    def __init__(self, pids: Callable[[], Collection[int]]) -> None:
        self._pids = pids
        self._peak = 0

    def look(self) -> Room | None:
        """Return the room there is; pages that processes share, or that can be read again from a file, cost nothing."""
        free = _free_bytes()
        if free is None:
            return None
        each = [_own_bytes(pid) for pid in self._pids()]
        self._peak = max([self._peak, *(peak for _, peak in each)])
        growing = sum(self._peak - now for now, _ in each)
        return Room(free - growing, self._peak)


class DeviceMemory:
    """Looks at one device's memory.

    What a trial takes is told by the whole: what is used beyond what was used when this was made, before any trial,
    divided by the trials. That counts what CUDA itself takes for each process, and works where processes of a container
    cannot be told apart from outside. Another program that comes later makes it too large, which is on the safe side.
    """

    def __init__(self, device: str, trials: Callable[[], int], meter: DeviceMeter) -> None:
        self._device, self._trials, self._meter = device, trials, meter
        now = meter.read().get(device)
        self._before, self._peak = (now.used if now is not None else 0), 0.0

    def look(self) -> Room | None:
        """Return the room there is, the trials that run counting with at least the largest that was seen."""
        now, trials = self._meter.read().get(self._device), self._trials()
        if now is None:
            return None
        self._peak = max(self._peak, (now.used - self._before) / max(1, trials))
        return Room(now.total - max(now.used, self._before + trials * self._peak), self._peak)


class DeviceMeter:
    """Asks for the memory of all devices at once, at most once a second; tells once of which nothing is known."""

    def __init__(self, devices: Sequence[str], environment: Mapping[str, str]) -> None:
        self._devices, self._environment = tuple(devices), environment
        self._seen: dict[str, _devices.Memory] = {}
        self._looked = -float("inf")
        self._told = False

    def read(self) -> dict[str, _devices.Memory]:
        """Return how full each device is; see `_devices.memory`."""
        if time.monotonic() - self._looked >= _LOOK_S:
            self._seen = _devices.memory(self._devices, self._environment)
            self._looked = time.monotonic()
            unknown = [device for device in self._devices if device not in self._seen]
            if unknown and not self._told:
                self._told = True
                print(
                    f"nvidia-smi does not tell the memory of {', '.join(unknown)}, so it is not watched; a trial that"
                    " runs out of it is tried again alone",
                    file=sys.stderr,
                )
        return self._seen


def oom_kills() -> int | None:
    """Return how many processes Linux has killed since it started because memory ran out; None where it is not told.

    It counts those of a container's or a batch job's own limit as well.
    """
    lines = _lines(_PROC / "vmstat")
    return next((int(line.partition(" ")[2]) for line in lines if line.startswith("oom_kill ")), None)


def seen_status(status: int, kills_before: int | None) -> int:
    """Return how a job ended, as its exit status and the system's own count of what it killed tell.

    Args:
        status: of the job's process; −9 where it was killed, by anybody.
        kills_before: what `oom_kills` told when the job began.

    Returns:
        `JobStatus.KILLED_FOR_MEMORY` where the process was killed and the system has killed some for memory meanwhile;
        the status itself otherwise.
    """
    if status != -signal.SIGKILL or kills_before is None:
        return status
    kills = oom_kills()
    return status if kills is None or kills <= kills_before else JobStatus.KILLED_FOR_MEMORY


def _free_bytes() -> float | None:
    """Return what is free on the machine, and within the limits of a container or batch job; None if not told."""
    found = _kilobytes(_PROC / "meminfo", "MemAvailable")
    return None if found is None else min([found["MemAvailable"], *_free_within_limits()])


def _free_within_limits() -> Iterator[float]:
    """Yield what each control group (version 2) around this process has left; files' pages can be given up."""
    lines = _lines(_PROC / "self" / "cgroup")
    inside = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), None)
    if inside is None:
        return
    for path in (Path(inside), *Path(inside).parents):
        limit, used, details = (_lines(_GROUPS / path / f"memory.{name}") for name in ("max", "current", "stat"))
        if limit and limit[0].isdecimal() and used:
            files = next((line.partition(" ")[2] for line in details if line.startswith("inactive_file ")), "0")
            yield int(limit[0]) - int(used[0]) + int(files)


def _own_bytes(pid: int) -> tuple[int, int]:
    """Return what a process has of memory for itself, now and at most; 0 of one that is gone."""
    found = _kilobytes(_PROC / str(pid) / "status", "VmHWM", "RssAnon", "RssFile", "RssShmem")
    if found is None:
        return 0, 0
    return found["RssAnon"], max(found["RssAnon"], found["VmHWM"] - found["RssFile"] - found["RssShmem"])


def _kilobytes(path: Path, *names: str) -> dict[str, int] | None:
    """Return some lines of a file of Linux's, `NAME: NUMBER kB`, in bytes; None where one is missing."""
    pairs = (line.partition(":")[::2] for line in _lines(path))
    found = {name: 1024 * int(value.split()[0]) for name, value in pairs if name in names and value.endswith("kB")}
    return found if len(found) == len(names) else None


def _lines(path: Path) -> list[str]:
    """Return the lines of a file of Linux's; none where there is no such file."""
    try:
        return path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []
