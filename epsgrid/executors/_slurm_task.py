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
from epsgrid.executors._process import end_with_parents, job_status, oom_kills
from epsgrid.store.atomic import write_text

_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
_SAVED = (JobStatus.STOPPED, -signal.SIGTERM)  # with a checkpoint, or before there was anything to save


class _Signals:
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

    def run(self, work: str, job: Job) -> int:
        """Run the job in a child; return its exit status.

        Signals wait while the child starts, so that they find it, and find it ready.
        """
        kills_before = oom_kills()
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            if self.any:
                return JobStatus.STOPPED
            child = multiprocessing.get_context("fork").Process(target=_run_job, args=(work, job))
            child.start()
            self.child = child
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        child.join()
        self.child = None
        assert child.exitcode is not None
        return job_status(child.exitcode, kills_before)


def _run_job(work: str, job: Job) -> None:
    """Run the job in the child, which takes signals as any process does and ends with the task."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # a site may signal all processes; the task passes it on as SIGTERM
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    end_with_parents()
    sys.exit(call_work(work, job))


if __name__ == "__main__":
    signals = _Signals()
    folder, index = Path(sys.argv[1]), os.environ["SLURM_ARRAY_TASK_ID"]
    array = slurm.Array.read(folder / "array.json")
    write_text(folder / f"{index}.started", "")
    status = signals.run(array.work, Job(array.experiment, array.trials[int(index)]))
    if signals.time_is_up and status in _SAVED:
        if not slurm.call("scontrol", "requeue", f"{os.environ['SLURM_ARRAY_JOB_ID']}_{index}").returncode:
            sys.exit(JobStatus.STOPPED)
        print("the time limit is near, and scontrol did not queue the task again", file=sys.stderr)
    write_text(folder / f"{index}.ended", str(status))
    sys.exit(status if status >= 0 else 128 - status)
