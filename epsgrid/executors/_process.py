"""Helpers for the processes that run trials."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from pathlib import Path

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_POLL_S = 0.5


def python_environment() -> dict[str, str]:
    """Return variables for a new Python: one thread per numerical library, and the modules that this process finds.

    With the last one, torch finds out whether there is CUDA without calling it. The answer of CUDA itself would fail in
    every process forked later, or show all of them the same devices. EPSGRID_PYTHONPATH keeps the user's own path, for
    commands of the user's.
    """
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    threads = dict.fromkeys(_THREADS, "1")
    before = os.environ.get("EPSGRID_PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    own = {"PYTHONPATH": path, "PYTHONSAFEPATH": "1", "PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
    return {**threads, **own, "EPSGRID_PYTHONPATH": before}


def end_with_parents() -> None:
    """Kill this process as soon as the process that asked for it, or the one that forked it, is gone."""
    command, forked_by = multiprocessing.parent_process(), os.getppid()
    assert command is not None

    def watch() -> None:
        while command.is_alive() and os.getppid() == forked_by:
            command.join(_POLL_S)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="watch the parents", daemon=True).start()
