"""Be one task of a job array: `python -m epsgrid.executors._slurm_task ARRAY_FOLDER`, in Slurm's environment.

The trial runs in a child process, so that its end is seen and written down whatever ends it. Slurm's signals reach this
process: SIGUSR1 says that the time limit is near, SIGTERM that the sweep was stopped; either way the child is told to
save itself, and after SIGUSR1 the task is put back into the queue, to go on from there.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.context import ForkProcess
from pathlib import Path
from types import FrameType

from epsgrid.executors import Job, JobStatus, _slurm_queue
from epsgrid.executors._memory import oom_kills, seen_status
from epsgrid.executors._slurm_array import Array
from epsgrid.store.lease import STALE_S

_TRY_AGAIN_S = 5.0
_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
_SAVED = (JobStatus.STOPPED, -signal.SIGTERM)  # by checkpoint, or told before there was anything to save


class _Told:
    """The signals that came, and the child that each is passed on to."""

    def __init__(self) -> None:
        self.time_is_up = self.any = False
        self.child: ForkProcess | None = None
        for number in _SIGNALS:
            signal.signal(number, self._take)

    def _take(self, number: int, frame: FrameType | None) -> None:
        self.any = True
        self.time_is_up = self.time_is_up or number == signal.SIGUSR1
        if self.child is not None:
            self.child.terminate()

    def run(self, work: Callable[[Job], int], job: Job) -> int:
        """Run the job in a child; return its exit status.

        Signals wait while the child starts: what comes meanwhile must find it, and find it ready.
        """
        kills_before = oom_kills()
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            if self.any:
                return JobStatus.STOPPED
            child = multiprocessing.get_context("fork").Process(target=_be_the_trial, args=(work, job))
            child.start()
            self.child = child
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        child.join()
        self.child = None
        assert child.exitcode is not None
        return seen_status(child.exitcode, kills_before)


def main(arguments: list[str]) -> int:
    """Run the task that the environment names; return its exit status."""
    told = _Told()
    array, index = Array.read(Path(arguments[0])), int(os.environ["SLURM_ARRAY_TASK_ID"])
    array.note_started(index)
    status = _run(told, _function(array.work), array.job(index))
    if told.time_is_up and status in _SAVED:
        if _slurm_queue.requeue(f"{os.environ['SLURM_ARRAY_JOB_ID']}_{index}"):
            return JobStatus.STOPPED
        print("the time limit is near, and scontrol did not put the task back into the queue", file=sys.stderr)
    array.note_ended(index, status)
    return status if status >= 0 else 128 - status


def _run(told: _Told, work: Callable[[Job], int], job: Job) -> int:
    """Run the job; where it runs again because its node failed, wait until the lease taken there counts as dead."""
    status = told.run(work, job)
    deadline = time.monotonic() + STALE_S + 2 * _TRY_AGAIN_S
    runs_again = int(os.environ.get("SLURM_RESTART_COUNT", "0")) > 0
    while status == JobStatus.HELD_ELSEWHERE and runs_again and not told.any and time.monotonic() < deadline:
        time.sleep(_TRY_AGAIN_S)
        status = told.run(work, job)
    return status


def _function(name: str) -> Callable[[Job], int]:
    module, _, function = name.partition(":")
    work: Callable[[Job], int] = getattr(importlib.import_module(module), function)
    return work


def _be_the_trial(work: Callable[[Job], int], job: Job) -> None:
    """Be the child: take signals as any process does, and end with the task."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # a site may signal all processes; the task passes it on as SIGTERM
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    threading.Thread(target=_die_with_the_task, name="watch the task", daemon=True).start()
    sys.exit(work(job))


def _die_with_the_task() -> None:
    task = multiprocessing.parent_process()
    assert task is not None
    task.join()
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
