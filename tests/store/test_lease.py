import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from epsgrid.errors import StoreError
from epsgrid.store import lease as lease_module
from epsgrid.store.lease import _STALE_S, Lease, is_held

LONG_AGO_S = 2 * _STALE_S
NOBODY = 2**22 + 1  # a pid beyond the largest that Linux gives


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "trial" / "lease"


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _claim(**changes: Any) -> dict[str, Any]:
    """Return the claim of a living process of this machine, with changes."""
    return {**dataclasses.asdict(lease_module._own_claim()), **changes}


def _put(folder: Path, content: bytes, number: int = 1, age_s: float = 0.0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{number}.json"
    path.write_bytes(content)
    os.utime(path, (time.time() - age_s,) * 2)


def _put_claim(folder: Path, number: int = 1, age_s: float = 0.0, **changes: Any) -> None:
    _put(folder, json.dumps(_claim(**changes)).encode(), number, age_s)


def _take(folder: Path) -> Lease:
    lease = Lease.take(folder)
    assert lease is not None
    return lease


@contextlib.contextmanager
def _worker() -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "tests.store.lease_worker"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            yield process
        finally:
            process.kill()


def _ask(worker: "subprocess.Popen[str]", folder: Path, moment: float = 0.0) -> None:
    assert worker.stdin is not None
    worker.stdin.write(f"{folder} {moment}\n")
    worker.stdin.flush()


def _answer(worker: "subprocess.Popen[str]") -> int:
    assert worker.stdout is not None
    return int(worker.stdout.readline())


def test_a_lease_is_held_by_one_until_released(folder: Path) -> None:
    assert not is_held(folder)
    lease = _take(folder)
    assert is_held(folder)
    assert Lease.take(folder) is None
    assert not lease.lost(max_age_s=0)
    lease.release()
    lease.release()
    assert not is_held(folder)
    claim = json.loads((folder / "1.json").read_text())
    assert (claim["pid"], claim["released"]) == (os.getpid(), True)
    assert {"host", "created", "owner"} <= set(claim), "for people"
    second = _take(folder)
    assert _names(folder) == ["2.json"]
    assert lease.lost(max_age_s=0)
    second.release()


def test_the_lease_of_a_killed_process_is_free_at_once(folder: Path) -> None:
    with _worker() as worker:
        _ask(worker, folder)
        assert _answer(worker) == 1
        assert is_held(folder)
        assert Lease.take(folder) is None
        worker.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)  # dead, and a zombie for as long as we like
        assert not is_held(folder)
        _take(folder).release()


def test_a_holder_that_is_only_stopped_keeps_its_lease_however_long(folder: Path) -> None:
    with _worker() as worker:
        _ask(worker, folder)
        assert _answer(worker) == 1
        worker.send_signal(signal.SIGSTOP)
        os.utime(folder / "1.json", (0, 0))
        assert Lease.take(folder) is None


@pytest.mark.parametrize(
    ("changes", "age_s", "is_free"),
    [
        ({}, LONG_AGO_S, False),  # a living process of this machine needs no heartbeat
        ({"released": True}, 0, True),
        ({"process_start": "1"}, 0, True),  # the pid belongs to another process now
        ({"process_start": None}, 0, False),  # a system that does not say when a process began: by heartbeat
        ({"process_start": None}, LONG_AGO_S, True),
        ({"machine": "elsewhere"}, 0, False),
        ({"machine": "elsewhere"}, LONG_AGO_S, True),
        ({"machine": "elsewhere"}, -LONG_AGO_S, True),  # a time in the future is nobody's heartbeat
        ({"pid": NOBODY}, 0, True),  # dead, which needs no waiting
        ({"machine": "elsewhere", "pid": NOBODY}, 0, False),  # whether that pid lives here says nothing
        ({"version": 2, "machine": "elsewhere"}, 0, False),  # of another version of epsgrid: by heartbeat
        ({"version": 2}, LONG_AGO_S, True),
    ],
)
def test_who_counts_as_alive(folder: Path, changes: dict[str, Any], age_s: float, is_free: bool) -> None:
    _put_claim(folder, age_s=age_s, **changes)
    assert is_held(folder) is not is_free
    lease = Lease.take(folder)
    assert (lease is not None) is is_free
    if lease is not None:
        lease.release()


@pytest.mark.parametrize("content", [b"", b'{"owner": "ab', b"\xff\xfe", b"[]"])
def test_a_claim_that_is_not_written_yet_is_given_time(folder: Path, content: bytes) -> None:
    _put(folder, content)
    assert Lease.take(folder) is None
    _put(folder, content, age_s=LONG_AGO_S)
    _take(folder).release()


def test_a_process_of_another_user_is_alive(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module.os, "kill", Mock(side_effect=PermissionError))
    _put_claim(folder)
    assert Lease.take(folder) is None


def test_without_proc_the_name_of_the_host_and_the_heartbeat_decide(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease_module._machine.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(lease_module.Path, "read_text", Mock(side_effect=FileNotFoundError))
        lease = _take(folder)
        assert lease_module._machine() == lease_module.platform.node()
        assert Lease.take(folder) is None
        os.utime(folder / "1.json", (0, 0))
        assert not is_held(folder)
        lease.release()
    lease_module._machine.cache_clear()


def test_clocks_that_differ_between_hosts_do_not_matter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _put_claim(folder, machine="elsewhere")
    monkeypatch.setattr(lease_module.time, "time", lambda: 1e9)
    assert Lease.take(folder) is None
    assert _names(folder) == ["1.json"]


def test_where_nothing_may_be_written_our_own_clock_must_do(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _put_claim(folder, machine="elsewhere")
    monkeypatch.setattr(lease_module.Path, "touch", Mock(side_effect=PermissionError))
    assert is_held(folder)
    os.utime(folder / "1.json", (0, 0))
    assert not is_held(folder)


def test_a_holder_touches_its_claim(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "_HEARTBEAT_S", 0.01)
    lease = _take(folder)
    os.utime(folder / "1.json", (0, 0))
    deadline = time.monotonic() + 20
    while (folder / "1.json").stat().st_mtime == 0 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert (folder / "1.json").stat().st_mtime > 0
    lease.release()


def test_a_holder_finds_out_that_another_took_over_and_keeps_its_hands_off(folder: Path) -> None:
    lease = _take(folder)
    _put_claim(folder, number=2)
    assert not lease.lost(max_age_s=60)  # asked before every step: not every answer costs a look at the disk
    assert lease.lost(max_age_s=0)
    assert lease.lost()
    before = (folder / "1.json").read_bytes()
    lease.release()
    assert (folder / "1.json").read_bytes() == before
    assert is_held(folder)


def test_a_disk_that_does_not_answer_is_no_loss(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = _take(folder)
    with monkeypatch.context() as patch:
        patch.setattr(lease_module.os, "listdir", Mock(side_effect=OSError(5, "Input/output error")))
        assert not lease.lost(max_age_s=0)
    lease.release()


@pytest.mark.parametrize("gone", [".", "1.json"])
def test_a_trial_or_a_claim_removed_under_the_holder_is_lost(folder: Path, gone: str) -> None:
    lease = _take(folder)
    (folder / gone).rename(folder.with_name("gone"))
    assert lease.lost(max_age_s=0)
    lease.release()
    assert not (folder / "1.json").exists()


def test_a_trial_removed_and_taken_again_belongs_to_the_new_holder(folder: Path) -> None:
    """The new claim has the old one's number."""
    lease = _take(folder)
    folder.rename(folder.with_name("gone"))
    second = _take(folder)
    assert lease.lost(max_age_s=0)
    lease.release()
    assert is_held(folder)
    assert not second.lost(max_age_s=0)
    second.release()


def test_a_lease_that_cannot_be_written_is_taken_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(lease_module.json, "dumps", full)
    with pytest.raises(StoreError, match=r"cannot take the lease .*lease: the disk is full"):
        Lease.take(folder)
    assert _names(folder) == []


def _slow_taker(monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], None]) -> None:
    """Let the next taker be slow: between its finding that the lease is free and its claim, `meanwhile` happens."""
    create = lease_module._create

    def late(path: Path, claim: Any) -> bool:
        monkeypatch.setattr(lease_module, "_create", create)
        meanwhile()
        return create(path, claim)

    monkeypatch.setattr(lease_module, "_create", late)


def test_a_slow_taker_does_not_win_beside_a_quick_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _put_claim(folder, pid=NOBODY)
    quick = []
    _slow_taker(monkeypatch, lambda: quick.append(_take(folder)))
    assert Lease.take(folder) is None
    assert not quick[0].lost(max_age_s=0)
    quick[0].release()


def test_a_taker_that_slept_through_two_owners_does_not_win_beside_the_second(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trap of leases that are replaced: the number it waits for was used, given back and cleared away."""
    second = []

    def two_owners() -> None:
        _take(folder).release()
        second.append(_take(folder))

    _put_claim(folder, pid=NOBODY)
    _slow_taker(monkeypatch, two_owners)
    assert Lease.take(folder) is None
    assert not second[0].lost(max_age_s=0)
    assert _names(folder) == ["3.json"]
    second[0].release()


def test_a_claim_that_vanishes_while_it_is_judged_was_taken_over(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _put_claim(folder, number=2, pid=NOBODY)
    numbers = iter([[1], [2]])
    monkeypatch.setattr(lease_module, "_numbers", lambda _: next(numbers))
    assert Lease.take(folder) is None


@pytest.mark.parametrize("before", ["nothing", "released", "dead here", "stale elsewhere", "torn"])
def test_of_many_processes_exactly_one_wins(tmp_path: Path, before: str) -> None:
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(_worker()) for _ in range(3)]
        for number in range(15):
            folder = tmp_path / f"round{number}"
            if before == "released":
                _put_claim(folder, released=True)
            elif before == "dead here":
                _put_claim(folder, pid=NOBODY)
            elif before == "stale elsewhere":
                _put_claim(folder, machine="elsewhere", age_s=LONG_AGO_S)
            elif before == "torn":
                _put(folder, b"", age_s=LONG_AGO_S)
            moment = time.time() + 0.004
            for worker in workers:
                _ask(worker, folder, moment)
            assert sum(_answer(worker) for worker in workers) == 1
