"""Helpers for the processes that run trials: their environment, how they end, and what killed them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

from epsgrid.executors import JobStatus

_VMSTAT = Path("/proc/vmstat")
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_POLL_S = 0.5


def python_environment() -> dict[str, str]:
    """Return variables for a new Python: one thread per numerical library, and the modules that this process finds."""
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    return {**dict.fromkeys(_THREADS, "1"), "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}


def set_variables(values: Mapping[str, str | None]) -> None:
    """Set variables of this process's environment; None removes one."""
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def end_with_parents() -> None:
    """Kill this process as soon as the process that asked for it, or the one that forked it, is gone."""
    command, forked_by = multiprocessing.parent_process(), os.getppid()
    assert command is not None

    def watch() -> None:
        while command.is_alive() and os.getppid() == forked_by:
            command.join(_POLL_S)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="watch the parents", daemon=True).start()


def oom_kills() -> int | None:
    """Return how many processes Linux has killed for memory since it started; None where it does not say.

    The number includes processes killed at the limit of a container or batch job.
    """
    try:
        lines = _VMSTAT.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)


def job_status(exit_status: int, kills_before: int | None) -> int:
    """Return how a job ended.

    Args:
        exit_status: that of the job's process; −9 where anybody killed it.
        kills_before: `oom_kills()` when the job began.

    Returns:
        `JobStatus.KILLED_FOR_MEMORY` where the process was killed and the system has killed processes for memory since
        the job began; else the exit status.
    """
    if exit_status != -signal.SIGKILL or kills_before is None or (oom_kills() or 0) <= kills_before:
        return exit_status
    return JobStatus.KILLED_FOR_MEMORY
