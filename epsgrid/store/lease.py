"""A lease on a trial that one process holds at a time, on one machine or many, NFS included.

The lease is a folder of numbered claims, `1.json`, `2.json`, ...; the newest counts. To take the lease is to create the
file of the next number exclusively, which the file system grants once, and only after the newest claim was found
released or its holder dead. A released claim stays released and a dead holder dead, numbers are never used twice (the
newest file is never removed), and whoever created a number that is not the newest has come too late and gives up. So
two takers cannot both win, however slow either is and wherever it is killed. No flock: NFS may not have it.

A holder on this machine is alive while its process is: same pid and same start time, no zombie. A holder elsewhere is
alive while it touches its claim; the age of a claim is measured by the file system's own clock, so the clocks of the
hosts do not matter. A holder that was stopped for so long that another took over finds out by `lost`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import platform
import socket
import threading
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Self

from epsgrid import codec
from epsgrid.errors import CorruptRecordError
from epsgrid.store import atomic

_HEARTBEAT_S = 10.0
_STALE_S = 60.0  # without a heartbeat for so long, a holder on another machine counts as dead
_LOOK_AGAIN_S = 1.0


@dataclass(frozen=True)
class _Claim:
    """The content of a claim's file: `host` and `created` are for people, the rest for takers."""

    owner: str
    host: str
    machine: str
    pid: int
    process_start: str | None
    created: str
    released: bool

    def __str__(self) -> str:
        return f"{self.host}, process {self.pid}"


class Lease:
    """A lease this process holds; made by `take`, ended by `release` or with the process."""

    def __init__(self, folder: Path, number: int, claim: _Claim) -> None:
        self._folder, self._number, self._claim = folder, number, claim
        self._file = folder / f"{number}.json"
        self._is_lost, self._looked = False, time.monotonic()
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="lease heartbeat", daemon=True)
        self._heart.start()

    @classmethod
    def take(cls, path: Path) -> Self | None:
        """Take the lease if nobody alive holds it.

        `path` is the lease's folder, `TrialFolder.lease`, created if missing. Returns None where somebody alive holds
        it, or was quicker; raises StoreError where the folder cannot be written.
        """
        atomic.make_folder(path)
        with atomic.store_errors("take the lease", path):
            newest = max(_numbers(path), default=0)
            if newest and _is_live(path, newest):
                return None
            claim = _own_claim()
            if not _create(path / f"{newest + 1}.json", claim):
                return None
            if max(_numbers(path)) != newest + 1:
                (path / f"{newest + 1}.json").unlink(missing_ok=True)
                return None
            for number in _numbers(path):
                if number <= newest:
                    (path / f"{number}.json").unlink(missing_ok=True)
        return cls(path, newest + 1, claim)

    def lost(self, max_age_s: float = _LOOK_AGAIN_S) -> bool:
        """Return whether another process has taken over, or the trial was removed; then nothing more may be written.

        The answer may be `max_age_s` old, so that it can be asked before every step; 0 looks at the disk, as is right
        just before a result is written.
        """
        if not self._is_lost and time.monotonic() - self._looked >= max_age_s:
            with contextlib.suppress(OSError):  # the disk does not answer: then we do not know of any loss
                try:
                    # A trial that was removed and planned again may have a claim of the same number.
                    claim = _parse(self._file.read_bytes())
                    is_ours = claim is not None and claim.owner == self._claim.owner
                    self._is_lost = not is_ours or max(_numbers(self._folder)) != self._number
                except FileNotFoundError:
                    self._is_lost = True
                self._looked = time.monotonic()
        return self._is_lost

    def release(self) -> None:
        """Give the lease back; a second call, or one after it was lost, does nothing."""
        if self._ended.is_set():
            return
        self._ended.set()
        self._heart.join()
        if not self.lost(max_age_s=0):
            with contextlib.suppress(Exception):  # an unwritable folder: the claim dies with this process anyway
                document = dataclasses.asdict(dataclasses.replace(self._claim, released=True))
                atomic.write_json(self._file, document)

    def _beat(self) -> None:
        """Touch the claim until it is released; the file system sets the time."""
        while not self._ended.wait(_HEARTBEAT_S):
            with contextlib.suppress(OSError):  # a server that is away for a while, or a claim that is gone: see `lost`
                os.utime(self._file)


def is_held(path: Path) -> bool:
    """Return whether a living process holds the lease in the folder `path`."""
    try:
        newest = max(_numbers(path), default=0)
    except FileNotFoundError:
        return False
    with atomic.store_errors("read the lease", path):
        return newest > 0 and _is_live(path, newest)


def holder(path: Path) -> _Claim | None:
    """Return the latest claim, of a process dead or alive; None where there is none or it was released."""
    try:
        claim = _parse((path / f"{max(_numbers(path), default=0)}.json").read_bytes())
    except FileNotFoundError:
        return None
    return None if claim is None or claim.released else claim


def _numbers(folder: Path) -> list[int]:
    stems = [name.removesuffix(".json") for name in os.listdir(folder)]  # noqa: PTH208 - names only
    return [int(stem) for stem in stems if stem.isdecimal()]


def _create(path: Path, claim: _Claim) -> bool:
    """Create the claim's file if there is none; return whether we did."""
    try:
        with path.open("xb") as file:
            file.write(json.dumps(dataclasses.asdict(claim)).encode())
    except FileExistsError:
        return False
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return True


def _is_live(folder: Path, number: int) -> bool:
    """Return whether the holder of a claim may be alive; a claim that just vanished was taken over, so it may."""
    try:
        with (folder / f"{number}.json").open("rb") as file:  # opening asks an NFS server again
            content = file.read()
            touched = os.fstat(file.fileno()).st_mtime
    except FileNotFoundError:
        return True
    claim = _parse(content)
    if claim is not None and claim.released:
        return False
    is_running = _is_running(claim) if claim is not None and claim.machine == _machine() else None
    return abs(_clock(folder) - touched) <= _STALE_S if is_running is None else is_running


def _parse(content: bytes) -> _Claim | None:
    """Return the claim; None for one that is not written yet, or by another version: then its age decides."""
    try:
        return codec.from_document(_Claim, json.loads(content), "claim")
    except (ValueError, CorruptRecordError):
        return None


def _own_claim() -> _Claim:
    return _Claim(
        owner=uuid.uuid4().hex,
        host=socket.gethostname(),
        machine=_machine(),
        pid=os.getpid(),
        process_start=_process_start(os.getpid()),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        released=False,
    )


def _is_running(claim: _Claim) -> bool | None:
    """Return whether the process of a claim made on this machine lives; None when the system does not say."""
    try:
        os.kill(claim.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's process, and it is there
    start = _process_start(claim.pid)
    if start is None or claim.process_start is None:
        return None
    return start == claim.process_start


def _process_start(pid: int) -> str | None:
    """Return when a process began, in the kernel's ticks; "dead" for a zombie, None where the kernel does not say."""
    try:
        fields_after_name = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
    except OSError:
        return None
    state, *others = fields_after_name.split()
    return "dead" if state in "ZXx" else others[18]  # `man 5 proc`: state is field 3, starttime field 22


@cache
def _machine() -> str:
    """Return a name that differs between machines, boots of a machine, and containers that count pids by themselves."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115 - not a path
    except OSError:
        return platform.node()


def _clock(folder: Path) -> float:
    """Return the time of the clock of `folder`'s file system, or of ours where we may not write there."""
    probe = folder / f".clock.{uuid.uuid4().hex}"
    try:
        probe.touch(exist_ok=False)
        try:
            return probe.stat().st_mtime
        finally:
            probe.unlink(missing_ok=True)
    except OSError:
        return time.time()
