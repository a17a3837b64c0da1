"""ONE FILE PER PLACE TO RUN: takes jobs, runs each in its own place, tells how each ended.

A file `executors/NAME.py` defines `def run(jobs, work, *, slots, notify, stop, execution) -> None`. Results travel
through the store, never through return values; an executor knows only that a job is a call `work(job)` whose exit
status says how it went. It knows nothing of training.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol

from epsgrid import plugins
from epsgrid.spec.model import Execution

NO_SETTINGS = Execution()
"""What an executor runs with where a spec says nothing of it."""


class Alone(IntEnum):
    """What a job has for itself while it runs: the last resort of one for which memory ran out beside others."""

    NO = 0
    ON_DEVICE = 1
    ON_MACHINE = 2


@dataclass(frozen=True)
class Job:
    """One piece of work, small and picklable.

    Attributes:
        experiment: the experiment's folder, absolute.
        trial: the trial's id.
        alone: what it needs for itself. A job is the same job with or without.
    """

    experiment: str
    trial: str
    alone: Alone = field(default=Alone.NO, compare=False)


class JobStatus(IntEnum):
    """Exit statuses by which a job says how it went; the last one says the executor of a job that cannot itself.

    OUT_OF_MEMORY is of the machine's memory, DEVICE_OUT_OF_MEMORY of a CUDA device's; either job has said so itself, as
    one that failed. KILLED_FOR_MEMORY: the system ended it to get memory back.
    """

    FINISHED = 0
    FAILED = 1
    STOPPED = 75
    HELD_ELSEWHERE = 76
    OUT_OF_MEMORY = 77
    DEVICE_OUT_OF_MEMORY = 78
    KILLED_FOR_MEMORY = 79


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


class StopRequest(Protocol):
    """How much of a hurry there is; asked between jobs and while waiting."""

    def level(self) -> int:
        """Return 0: go on; 1: start nothing more and let running jobs save and end; 2: kill them."""
        ...


class ExecutorPlugin(Protocol):
    """What a file of this folder provides; see the module's own words."""

    def run(
        self,
        jobs: Sequence[Job],
        work: Callable[[Job], int],
        *,
        slots: int,
        notify: Callable[[JobEvent], None],
        stop: StopRequest,
        execution: Execution = NO_SETTINGS,
    ) -> None:
        """Run all jobs, at most `slots` at once, in order; return when all have ended or the stop is obeyed.

        A job that is to be alone has no other job of this call beside it: on its CUDA device, or where it has none or
        wants so, on its machine.

        `work` is a module-level function. `notify` is called in the caller's thread. `execution` holds the spec's
        settings of the executors; each takes its own.
        """
        ...


def in_hand(executor: ExecutorPlugin, jobs: Sequence[Job]) -> frozenset[Job]:
    """Return those of some jobs that an executor can watch although another command started them.

    An executor whose jobs outlive the command has a function `in_hand(jobs)` that says so; the others have none.
    """
    asked: Callable[[Sequence[Job]], Collection[Job]] = getattr(executor, "in_hand", lambda jobs: ())
    return frozenset(asked(jobs)) if jobs else frozenset()


def load(name: str) -> ExecutorPlugin:
    """Return the executor plug-in called `name`."""
    plugin: ExecutorPlugin = plugins.load("executors", name)
    return plugin
