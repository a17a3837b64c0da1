"""Run jobs on a Slurm cluster: one job array, a task per trial, so that no allocation is held idle.

The array's script and the list of its trials lie in the experiment's folder, which every node must see under the same
path, as it must this Python. A task marks there that it has begun and how it ended; the command watches these marks,
and asks Slurm's queue only now and then, to notice tasks that went without a word: cancelled by hand, out of memory, on
a node that failed. Slurm itself queues a task of a failed node again.

`execution.slurm.signal_s` before its time limit a task gets SIGUSR1; the trial saves itself and the task goes back into
the queue. On a stop, waiting tasks are cancelled and running ones save themselves; a second stop kills them. When the
command dies, the array goes on: the same command finds what is still queued by the array's name, watches it, and
submits the rest only.

Limits: an array takes at most 1,000 tasks, and longer lists are submitted one array after another. A task that was
cancelled by hand counts as failed and is tried again, since the queue does not say why it went. Two commands that watch
one array share its end: a stop of either stops it. Tasks that were queued by an earlier command run with the settings
that it had. Each task starts Python and imports torch, some seconds, so it is for trials of minutes. The tests run the
scripts with a stand-in for Slurm's commands; Slurm itself was tried by hand, version 22.05 on one node.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from epsgrid.errors import ExecutionError
from epsgrid.executors import NO_SETTINGS, Job, JobEnded, JobEvent, JobStarted, JobStatus, StopRequest, _slurm_queue
from epsgrid.executors._slurm_array import Array, read_all
from epsgrid.executors._slurm_script import script
from epsgrid.spec.model import Execution, Slurm
from epsgrid.store.atomic import write_text
from epsgrid.store.paths import ExperimentFolder

VANISHED = 254
"""Status of a job whose task left Slurm's queue without having told its end; where its output is, is on stderr."""

KILLED = -9
"""Status of a job whose task was killed on request."""

MOST_TASKS = 1000
"""Tasks of one array; Slurm's own limit is 1,001 unless a site changes it."""

_POLL_S = 0.5
_LOOK_S = 15.0
_LOOK_LATER_S = 60.0
_LOOK_WHEN_STOPPING_S = 2.0
_VANISHED_S = 90.0  # a shared file system may show a mark up to a minute late
_TELL_NOTHING = (JobStatus.FINISHED, JobStatus.STOPPED, JobStatus.HELD_ELSEWHERE)
_WORDS = {VANISHED: "its task left Slurm's queue without a word: cancelled, out of memory, or its node failed"}


def run(
    jobs: Sequence[Job],
    work: Callable[[Job], int],
    *,
    slots: int,
    notify: Callable[[JobEvent], None],
    stop: StopRequest,
    execution: Execution = NO_SETTINGS,
) -> None:
    """Run all jobs as tasks of a job array, at most `slots` at once; see `ExecutorPlugin.run`.

    Args:
        jobs: what to run, all of one experiment; those that an earlier call left in the queue are not submitted again.
        work: a function of a module that every node can import.
        slots: at least 1.
        notify: called in the caller's thread. Tasks begin in order, as far as Slurm keeps it.
        stop: asked twice a second.
        execution: its `slurm` says what each task asks for.

    Raises:
        ExecutionError: Slurm's commands are not here, a setting cannot be written into a script, or sbatch refused it.
        StoreError: the experiment's folder cannot be written.
    """
    assert slots >= 1, "a job needs a slot"
    assert work.__module__ != "__main__", "the main script is not run again in a job's process"
    if not jobs or stop.level():
        return
    _slurm_queue.require_slurm()
    slurm_dir = ExperimentFolder(Path(jobs[0].experiment)).slurm_dir
    queued = _queued(slurm_dir, jobs)
    if queued:
        print(f"{len(queued)} trials are in Slurm's queue already; they are not submitted again", file=sys.stderr)
    left = [job for job in jobs if job not in queued]
    while queued or left:
        now, left = left[:MOST_TASKS], left[MOST_TASKS:]
        tasks = {**queued, **(_submitted(slurm_dir, work, now, slots, execution.slurm) if now else {})}
        _Watch(tasks, notify).run(stop)
        if stop.level():
            return
        queued = {}


def in_hand(jobs: Sequence[Job]) -> frozenset[Job]:
    """Return those of some jobs that an earlier command submitted and that Slurm has still; `run` watches them."""
    if not jobs:
        return frozenset()
    _slurm_queue.require_slurm()
    return frozenset(_queued(ExperimentFolder(Path(jobs[0].experiment)).slurm_dir, jobs))


@dataclass(frozen=True)
class _Task:
    """One job in Slurm's hands: its array, Slurm's number of that, its index."""

    array: Array
    job_id: str
    index: int


def _queued(slurm_dir: Path, jobs: Sequence[Job]) -> dict[Job, _Task]:
    """Return the jobs that an earlier call submitted and that are not over, each with its task."""
    arrays = {array.name: array for array in read_all(slurm_dir)}
    if not arrays:
        return {}
    found = _slurm_queue.look(arrays)
    if found is None:
        raise ExecutionError(
            f"squeue does not answer, so what is still queued of {slurm_dir} is not known; try again when it does"
        )
    tasks = {
        arrays[queued.array].job(queued.index): _Task(arrays[queued.array], queued.job_id, queued.index)
        for queued in found
        if queued.index not in arrays[queued.array].ended()
    }
    return {job: tasks[job] for job in jobs if job in tasks}


def _submitted(
    slurm_dir: Path, work: Callable[[Job], int], jobs: Sequence[Job], slots: int, settings: Slurm
) -> dict[Job, _Task]:
    """Submit an array of these jobs; return the task of each."""
    array = Array.create(slurm_dir, f"{work.__module__}:{work.__qualname__}", tuple(jobs))
    write_text(array.script, script(array, settings, slots, os.environ))
    job_id = _slurm_queue.submit(array.script)
    array.note_id(job_id)
    return {job: _Task(array, job_id, index) for index, job in enumerate(jobs)}


class _Watch:
    """Tasks until they are over."""

    def __init__(self, tasks: Mapping[Job, _Task], notify: Callable[[JobEvent], None]) -> None:
        self.left, self.notify = dict(tasks), notify
        self.begun: set[Job] = set()
        self.missing: dict[Job, float] = {}  # since when Slurm's queue does not know a task
        self.level, self.silent = 0, False
        self.looked, self.pause_s = time.monotonic(), _LOOK_S

    def run(self, stop: StopRequest) -> None:
        while self.left:
            if stop.level() > self.level:
                self.level = stop.level()
                self._end_tasks()
            self._read_marks()
            if self.left and time.monotonic() - self.looked >= (_LOOK_WHEN_STOPPING_S if self.level else self.pause_s):
                self._look()
                self.looked = time.monotonic()
            if self.left:
                time.sleep(_POLL_S)

    def _read_marks(self) -> None:
        """Take in what tasks tell; of two that shared a slot, the end of one before the beginning of the other."""
        arrays = {task.array for task in self.left.values()}
        started = {array: array.started() for array in arrays}
        ended = {array: array.ended() for array in arrays}  # read later: whatever ended before a start is in it
        over = [job for job, task in self.left.items() if task.index in ended[task.array]]
        for job in sorted(over, key=lambda job: job not in self.begun):
            self._end(job, self.left[job].array.status(self.left[job].index))
        for job, task in self.left.items():
            if task.index in started[task.array]:
                self._begin(job)

    def _begin(self, job: Job) -> None:
        if job not in self.begun:
            self.begun.add(job)
            self.pause_s = _LOOK_S
            self.notify(JobStarted(job))

    def _end(self, job: Job, status: int) -> None:
        self._begin(job)
        task = self.left.pop(job)
        self.pause_s = _LOOK_S
        if status not in _TELL_NOTHING:
            print(
                f"trial {job.trial}: {_WORDS.get(status, f'ended with status {status}')}; what it printed is in"
                f" {task.array.log(task.index)}",
                file=sys.stderr,
            )
        self.notify(JobEnded(job, status))

    def _look(self) -> None:
        """Ask Slurm which tasks it still knows; give up those that it has not known for long and that told no end."""
        if self.level:
            self._end_tasks()
        found = _slurm_queue.look({task.array.name for task in self.left.values()})
        if found is None:
            self._say_once("squeue does not answer; trials go on, and their ends are seen all the same")
            return
        known = {(queued.array, queued.index) for queued in found}
        self.pause_s = min(2 * self.pause_s, _LOOK_LATER_S)
        now, patience_s = time.monotonic(), 0.0 if self.level else _VANISHED_S
        missing = [job for job, task in self.left.items() if (task.array.name, task.index) not in known]
        self.missing = {job: self.missing.get(job, now) for job in missing}
        self._read_marks()  # a task tells its end before it leaves the queue
        for job, since in self.missing.items():
            if job in self.left and now - since >= patience_s:
                self._give_up(job)

    def _give_up(self, job: Job) -> None:
        if not self.level:
            self._end(job, VANISHED)
        elif job in self.begun:
            self._end(job, JobStatus.STOPPED if self.level == 1 else KILLED)
        else:
            del self.left[job]

    def _end_tasks(self) -> None:
        """Do what a stop asks; done again at every look, for a task may have begun, or been queued again, meanwhile."""
        job_ids = sorted({task.job_id for task in self.left.values()})
        done = _slurm_queue.let_save(job_ids) if self.level == 1 else _slurm_queue.kill(job_ids)
        if not done and self.level > 1:
            print(f"scancel failed; to end the trials, call `scancel {' '.join(job_ids)}`", file=sys.stderr)
            self.left.clear()

    def _say_once(self, words: str) -> None:
        if not self.silent:
            self.silent = True
            print(words, file=sys.stderr)
