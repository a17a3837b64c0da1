"""Run jobs in this process, one after another: the simplest executor, and the one to debug in."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence

from epsgrid.executors import Job, JobEnded, JobStarted, JobStatus, Notify, StopRequest, call_work
from epsgrid.spec.model import Execution


def run(jobs: Sequence[Job], work: str, *, slots: int, notify: Notify, stop: StopRequest, execution: Execution) -> None:
    """Run all jobs in order; see `ExecutorPlugin.run`.

    `slots` and `execution` are not used. A job that raises ends with `JobStatus.FAILED` and its traceback on stderr. A
    stop is noticed between jobs; a running job notices signals itself, and nothing kills it.
    """
    for job in jobs:
        if stop.level():
            return
        notify(JobStarted(job))
        try:
            status = call_work(work, job)
        except Exception:  # one failed job must not end the others
            traceback.print_exc(file=sys.stderr)
            status = JobStatus.FAILED
        notify(JobEnded(job, status))
