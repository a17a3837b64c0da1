"""Run jobs in this very process, one after another: the simplest place to run, and the one to debug in."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Sequence

from epsgrid.executors import NO_SETTINGS, Job, JobEnded, JobEvent, JobStarted, JobStatus, StopRequest
from epsgrid.spec.model import Execution


def run(
    jobs: Sequence[Job],
    work: Callable[[Job], int],
    *,
    slots: int,
    notify: Callable[[JobEvent], None],
    stop: StopRequest,
    execution: Execution = NO_SETTINGS,
) -> None:
    """Run all jobs in order; see `ExecutorPlugin.run`.

    `slots` is of no use here: there is one. A job that raises ends with `JobStatus.FAILED` and its traceback on stderr.
    A stop is noticed between jobs; a job that is running notices signals by itself, and nothing kills it.
    """
    for job in jobs:
        if stop.level():
            return
        notify(JobStarted(job))
        notify(JobEnded(job, _status(work, job)))


def _status(work: Callable[[Job], int], job: Job) -> int:
    try:
        return work(job)
    except Exception:  # one failed job must not end the others
        traceback.print_exc(file=sys.stderr)
        return JobStatus.FAILED
