"""What killed a process, with a stand-in for Linux's counter."""

import signal
from pathlib import Path

import pytest

from epsgrid.executors import JobStatus, _process
from epsgrid.executors._process import job_status, oom_kills


def test_a_killed_process_was_killed_for_memory_where_the_system_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_process, "_VMSTAT", tmp_path / "vmstat")
    assert oom_kills() is None
    assert job_status(-signal.SIGKILL, 6) == job_status(-signal.SIGKILL, None) == -signal.SIGKILL
    (tmp_path / "vmstat").write_text("nr_free_pages 12\noom_kill 7\npgfault 3\n")
    assert oom_kills() == 7
    assert job_status(-signal.SIGKILL, 6) == JobStatus.KILLED_FOR_MEMORY
    assert job_status(-signal.SIGKILL, 7) == -signal.SIGKILL, "somebody else killed it"
    assert job_status(-signal.SIGTERM, 6) == -signal.SIGTERM
    assert job_status(0, 6) == 0
