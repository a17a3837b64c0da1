"""Who is at work on a trial: a lease that one process holds at a time, on one machine or many, NFS included.

The lease is a folder of numbered claims, `1.json`, `2.json`, ...; the newest counts. To take the lease is to create the
file of the next number exclusively, which the file system grants once, and only after the newest claim was found
released or its holder dead. That finding never turns wrong again, numbers are never used twice (the newest file is
kept for ever, released or not), and whoever created a number that is not the newest has come too late and gives up. So
two takers cannot both win, whatever the moment at which either is slow or killed. No flock: NFS may not have it.

A holder on this machine is alive while its process is: same pid and same start time, no zombie. A holder elsewhere is
alive while it touches its claim; age is told by the file system's own clock, so the clocks of the hosts do not matter.
A holder that was stopped for so long that another took over finds out by `lost`.
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

HEARTBEAT_S = 10.0
STALE_S = 60.0
_LOOK_AGAIN_S = 1.0


@dataclass(frozen=True)
class _Claim:
    """What a claim's file says: for people `host` and `created`, for takers the rest."""

    owner: str
    host: str
    machine: str
    pid: int
    process_start: str | None
    created: str
    released: bool


class Lease:
    """A lease this process holds; made by `take`, ended by `release` or with the process."""

    def __init__(self, folder: Path, number: int, claim: _Claim, heartbeat_s: float) -> None:
        self._folder, self._number, self._claim = folder, number, claim
        self._is_lost, self._looked = False, time.monotonic()
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._beat, args=(heartbeat_s,), name="lease heartbeat", daemon=True)
        self._heart.start()

    @classmethod
    def take(cls, path: Path, *, heartbeat_s: float = HEARTBEAT_S, stale_s: float = STALE_S) -> Self | None:
        """Take the lease if nobody alive holds it.

        Args:
            path: the lease's folder, created if missing; `TrialFolder.lease`.
            heartbeat_s: seconds between two signs of life.
            stale_s: seconds without one after which a holder on another machine counts as dead; all takers use the
                same, a small multiple of `heartbeat_s`.

        Returns:
            The lease, or None: somebody alive holds it, or was quicker.

        Raises:
            StoreError: the folder cannot be written.
        """
        atomic.make_folder(path)
        with atomic.store_errors("take the lease", path):
            newest = max(_numbers(path), default=0)
            if newest and _is_live(path, newest, stale_s):
                return None
            claim = _own_claim()
            if not _create(_file(path, newest + 1), claim):
                return None
            if max(_numbers(path)) != newest + 1:
                _file(path, newest + 1).unlink(missing_ok=True)
                return None
            for number in _numbers(path):
                if number <= newest:
                    _file(path, number).unlink(missing_ok=True)
        return cls(path, newest + 1, claim, heartbeat_s)

    def lost(self, max_age_s: float = _LOOK_AGAIN_S) -> bool:
        """Say whether another process has taken over, or the trial was removed; then nothing more may be written.

        Args:
            max_age_s: how old the answer may be, so that it can be asked before every step; 0 looks at the disk, as is
                right just before a result is written.
        """
        if not self._is_lost and time.monotonic() - self._looked >= max_age_s:
            with contextlib.suppress(OSError):  # the disk does not answer: then we do not know of any loss
                self._is_lost = not self._is_newest()
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
                atomic.write_json(_file(self._folder, self._number), document)

    def _is_newest(self) -> bool:
        """Look whether our claim is there and newest; its number alone would not tell of a trial that was made anew."""
        try:
            claim = _parse(_file(self._folder, self._number).read_bytes())
            is_ours = claim is not None and claim.owner == self._claim.owner
            return is_ours and max(_numbers(self._folder)) == self._number
        except FileNotFoundError:
            return False

    def _beat(self, heartbeat_s: float) -> None:
        """Touch the claim until the end; the server sets the time, so it is the file system's."""
        while not self._ended.wait(heartbeat_s):
            with contextlib.suppress(OSError):  # a server that is away for a while, or a claim that is gone: see `lost`
                os.utime(_file(self._folder, self._number))


def is_held(path: Path, stale_s: float = STALE_S) -> bool:
    """Say whether somebody alive holds the lease in the folder `path`; nothing is written but the clock's probe."""
    try:
        newest = max(_numbers(path), default=0)
    except FileNotFoundError:
        return False
    with atomic.store_errors("read the lease", path):
        return newest > 0 and _is_live(path, newest, stale_s)


@dataclass(frozen=True)
class Holder:
    """Who holds a lease: a process of a machine, as it calls itself."""

    host: str
    pid: int

    def __str__(self) -> str:
        return f"{self.host}, process {self.pid}"


def holder(path: Path) -> Holder | None:
    """Return who took the lease last and has not given it back, dead or alive; None where nobody has."""
    try:
        newest = max(_numbers(path), default=0)
        claim = _parse(_file(path, newest).read_bytes())
    except FileNotFoundError:
        return None
    return None if claim is None or claim.released else Holder(claim.host, claim.pid)


def _file(folder: Path, number: int) -> Path:
    return folder / f"{number}.json"


def _numbers(folder: Path) -> list[int]:
    stems = [name.removesuffix(".json") for name in os.listdir(folder)]  # noqa: PTH208 - names only
    return [int(stem) for stem in stems if stem.isdecimal()]


def _create(path: Path, claim: _Claim) -> bool:
    """Create the claim's file if there is none; say whether we did."""
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    except FileExistsError:
        return False
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
            file.write(json.dumps(dataclasses.asdict(claim)).encode())
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return True


def _is_live(folder: Path, number: int, stale_s: float) -> bool:
    """Say whether the holder of a claim may still be at work; a claim that just vanished was taken over: it is."""
    try:
        with _file(folder, number).open("rb") as file:  # to open asks an NFS server anew
            content = file.read()
            touched = os.fstat(file.fileno()).st_mtime
    except FileNotFoundError:
        return True
    claim = _parse(content)
    if claim is not None and claim.released:
        return False
    is_running = _is_running(claim) if claim is not None and claim.machine == _machine() else None
    return abs(_clock(folder) - touched) <= stale_s if is_running is None else is_running


def _parse(content: bytes) -> _Claim | None:
    """Return the claim, or None for one that is not written yet, or by another version: its age decides."""
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
    """Say whether the process of a claim made on this machine lives; None when that cannot be told from outside."""
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
    """Return what tells apart two machines, two boots of one, and containers that count pids by themselves."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115 - not a path
    except OSError:
        return platform.node()


def _clock(folder: Path) -> float:
    """Return the time by the clock of the file system that holds `folder`, or ours where we may not write there."""
    probe = folder / f".clock.{uuid.uuid4().hex}"
    try:
        probe.touch(exist_ok=False)
        try:
            return probe.stat().st_mtime
        finally:
            probe.unlink(missing_ok=True)
    except OSError:
        return time.time()
