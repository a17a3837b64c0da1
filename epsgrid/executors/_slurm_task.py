"""Be one task of a job array: `python -m epsgrid.executors._slurm_task ARRAY_FOLDER`, in Slurm's environment.

The trial runs in a child process, so that its end is seen and noted whatever ends it. Slurm's signals reach this
process: SIGUSR1 says that the time limit is near, SIGTERM that the sweep was stopped. Either way the child is asked to
save itself; after SIGUSR1 the task is queued again, to go on from there.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from multiprocessing.context import ForkProcess
from pathlib import Path
from types import FrameType

from epsgrid.executors import Job, JobStatus, call_work, slurm
from epsgrid.executors._process import end_with_parents
from epsgrid.store.atomic import write_text
from epsgrid.streams import protect_standard_streams

_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
_SAVED = (JobStatus.STOPPED, -signal.SIGTERM)  # with a checkpoint, or before there was anything to save


def run_job(work: str, job: Job) -> tuple[int, bool]:
    """Run the job in a child; return its exit status, and whether the time limit is near.

    Signals wait while the child starts, so that they find it, and find it ready.
    """
    came: set[int] = set()
    children: list[ForkProcess] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        came.add(number)
        for child in children:
            child.terminate()

    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    for number in _SIGNALS:
        signal.signal(number, pass_on)
    child = multiprocessing.get_context("fork").Process(target=_run_in_child, args=(work, job))
    child.start()
    children.append(child)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    child.join()
    children.clear()
    assert child.exitcode is not None
    return child.exitcode, signal.SIGUSR1 in came


def _run_in_child(work: str, job: Job) -> None:
    """Run the job; the child takes signals as any process does, and ends with the task."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # a site may signal all processes; the task passes it on as SIGTERM
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    end_with_parents()
    protect_standard_streams()
    sys.exit(call_work(work, job))


def main(folder: Path) -> int:
    """Run the task that Slurm's environment names; return its exit status."""
    index = os.environ["SLURM_ARRAY_TASK_ID"]
    array = slurm.Array.read(folder / "array.json")
    write_text(folder / f"{index}.started", "")
    status, time_is_up = run_job(array.work, Job(array.experiment, array.trials[int(index)]))
    if time_is_up and status in _SAVED:
        if not slurm.call("scontrol", "requeue", f"{os.environ['SLURM_ARRAY_JOB_ID']}_{index}").returncode:
            return JobStatus.STOPPED
        print("the time limit is near, and scontrol did not queue the task again", file=sys.stderr)
    write_text(folder / f"{index}.ended", str(status))
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
