"""Run trials, one file per place to run: this process, this machine, a Ray cluster, a Slurm cluster.

A file `executors/NAME.py` defines `run`, as `ExecutorPlugin` describes it. An executor knows nothing of training: a job
is a call of a function whose exit status says how it went. Results travel through the store, never through return
values.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol

from epsgrid import plugins
from epsgrid.errors import EpsgridError
from epsgrid.spec.model import Execution


@dataclass(frozen=True)
class Job:
    """A trial's id and its experiment's absolute folder.

    An `exclusive` job has run out of memory beside others, and runs alone; it is equal to one that is not.
    """

    experiment: str
    trial: str
    exclusive: bool = field(default=False, compare=False)


class JobStatus(IntEnum):
    """Exit statuses of jobs; an executor itself sets LOST, where a job's process or machine is gone.

    A job that is REFUSED is not tried again: its spec or code is at fault.
    """

    FINISHED = 0
    FAILED = 1
    STOPPED = 75
    HELD_ELSEWHERE = 76
    OUT_OF_MEMORY = 77
    LOST = 78
    REFUSED = 79


EXPECTED = (JobStatus.FINISHED, JobStatus.STOPPED, JobStatus.HELD_ELSEWHERE)
"""The statuses of jobs with which nothing went wrong."""


@dataclass(frozen=True)
class JobStarted:
    """A job has begun."""

    job: Job


@dataclass(frozen=True)
class JobEnded:
    """A job is over; `status` is its exit status, negative where a signal killed it (−9: SIGKILL)."""

    job: Job
    status: int


JobEvent = JobStarted | JobEnded
Notify = Callable[[JobEvent], None]


class StopRequest(Protocol):
    """Whether to stop; executors ask about 10 times a second, and between jobs."""

    def level(self) -> int:
        """Return 0: go on; 1: start no more jobs, let running ones save and end; 2: kill running jobs."""
        ...


class ExecutorPlugin(Protocol):
    """The function that each file of this folder defines."""

    def run(
        self, jobs: Sequence[Job], work: str, *, slots: int, notify: Notify, stop: StopRequest, execution: Execution
    ) -> None:
        """Run all jobs; return when all have ended, or after a stop when the running ones have.

        Args:
            jobs: started in this order. No other job of this call runs beside an exclusive one.
            work: the function to call with a job, as "package.module:name", imported where the job runs; it returns the
                exit status.
            slots: jobs at once, at least 1.
            notify: called in the caller's thread. If it raises, running jobs are killed and the error passes on.
            stop: whether to stop.
            execution: the spec's settings; each executor reads its own.

        Raises ExecutionError where jobs cannot be run here; the message says what is missing.
        """
        ...


def call_work(work: str, job: Job) -> int:
    """Call the function that a text such as "package.module:name" names; return the exit status of the job.

    An error that says what to do, as one of a full disk, is a line on stderr, and any other is raised.
    """
    try:
        return int(plugins.load("executors", work)(job))
    except EpsgridError as error:
        print(f"trial {job.trial}: {error}", file=sys.stderr)
        return JobStatus.FAILED


def already_submitted(executor: ExecutorPlugin, jobs: Sequence[Job]) -> frozenset[Job]:
    """Return the jobs that an earlier command submitted and that still wait or run; `run` watches them.

    Only an executor whose jobs outlive the command defines a function `already_submitted(jobs)`.
    """
    find: Callable[[Sequence[Job]], Collection[Job]] = getattr(executor, "already_submitted", lambda jobs: ())
    return frozenset(find(jobs)) if jobs else frozenset()


def load(name: str) -> ExecutorPlugin:
    """Return the executor plug-in called `name`."""
    plugin: ExecutorPlugin = plugins.load("executors", name)
    return plugin
