"""Train the trials of a plan: the one place that does, whatever made the plan."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from epsgrid import executors, plugins
from epsgrid.errors import SpecError
from epsgrid.executors import (
    ExecutorPlugin,
    Job,
    JobEnded,
    JobEvent,
    JobStarted,
    JobStatus,
    StopRequest,
    _devices,
    local,
)
from epsgrid.grids._plan import Plan
from epsgrid.numerics.precision import underflow_warning
from epsgrid.observing.trackers import require_installed
from epsgrid.selection.answers import Answers
from epsgrid.selection.load import code_changes
from epsgrid.spec.model import Execution, Spec
from epsgrid.spec.trial import Trial
from epsgrid.stages.experiment import Asked
from epsgrid.stages.pruning import Watch
from epsgrid.store.atomic import seal, write_json
from epsgrid.store.paths import TrialFolder
from epsgrid.store.pruning import Pruning, unprune
from epsgrid.store.records import TrialFailure, TrialResult
from epsgrid.store.state import FINISHED, PRUNED, summary, trial_state

_POLL_S = 0.5
_CLUSTER_SLOTS = 64
_WORK = "epsgrid.worker:run_job"  # imports torch, so it is imported where jobs run
_REHEARSE = "epsgrid.worker:rehearse_job"
_STORED_BY_TRIAL = (JobStatus.FAILED, JobStatus.OUT_OF_MEMORY, JobStatus.REFUSED)
_ALIKE = 3
"""Trainings of the user's own that fail in the same way before any has a result, after which no more are started."""
_NO_MEMORY = (JobStatus.OUT_OF_MEMORY, -signal.SIGKILL)  # as the system kills a process to get memory back


@dataclass(frozen=True)
class SweepPlan:
    """What a sweep is going to do.

    `states` holds the state of each trial by id, and `settled` those in which a trial is left as it is. `mean_seconds`
    of the finished trials is None while there is none; `unknown` has a sentence for each thing that a dry run cannot
    know, and `changes` one for code of the user's that has changed.
    """

    plan: Plan
    states: dict[str, str]
    mean_seconds: float | None
    slots: int
    unknown: tuple[str, ...] = ()
    settled: tuple[str, ...] = FINISHED
    changes: tuple[str, ...] = ()

    def count(self, *states: str) -> int:
        """Return the number of trials in one of these states."""
        return sum(state in states for state in self.states.values())

    @property
    def to_run(self) -> int:
        """Number of trials that are not settled."""
        return len(self.states) - self.count(*self.settled)

    @property
    def warnings(self) -> tuple[str, ...]:
        """A sentence for each change of code, and ε that float32, in which optimizers keep v, cannot hold."""
        values = sorted({epsilon for epsilons in self.plan.epsilons.values() for epsilon in epsilons})
        return (*self.changes, *filter(None, map(underflow_warning, values)))

    @property
    def estimated_seconds(self) -> float | None:
        """Wall time of the trials to run; None while no trial has been timed."""
        return None if self.mean_seconds is None else self.mean_seconds * self.to_run / self.slots


@dataclass(frozen=True)
class TrialEvent:
    """A trial has begun, or goes on from its checkpoint ("running"), or has ended in `state`, with what was stored."""

    trial: Trial
    state: str
    result: TrialResult | None = None
    failure: TrialFailure | None = None
    pruning: Pruning | None = None


SweepEvent = SweepPlan | TrialEvent


@dataclass(frozen=True)
class HowToRun:
    """How a command runs trials.

    Attributes:
        workers: trials at once; None means the number in the spec, or one per core or GPU slot.
        notify: receives the plan, then each trial's start and end.
        stop: is asked whether to stop.
        fail_fast: start nothing more after the first failure.
        say: receives a sentence before each further round of trials.
    """

    workers: int | None
    notify: Callable[[SweepEvent], None]
    stop: StopRequest
    fail_fast: bool = False
    say: Callable[[str], None] = lambda sentence: None


@dataclass(frozen=True)
class SweepSummary:
    """How a sweep ended: states by trial, whether none is left, how many got their result now, and the wall seconds.

    `why` says why it stopped by itself, or ended without an answer that it was to find; "" elsewhere. `answers` is None
    where it was stopped before, or was not asked to decide the questions.
    """

    states: dict[str, str]
    complete: bool
    failures: tuple[TrialFailure, ...]
    trained: int
    seconds: float
    why: str = ""
    answers: Answers | None = None

    @property
    def counts(self) -> dict[str, int]:
        """Number of trials by state."""
        return dict(sorted(Counter(self.states.values()).items()))


def train_planned(asked: Asked, planned: Plan, how: HowToRun) -> SweepSummary:
    """Train the trials of a plan that have no result yet, in its order; see `epsgrid.stages.sweep.sweep`.

    Raises SpecError where trials of none has begun, and a rehearsal shows that none can be trained: on this machine, or
    on that of a cluster which was the first to try.
    """
    start = time.perf_counter()
    spec, folder = asked.spec, asked.folder
    require_installed(name for name in ("tensorboard", "mlflow", "wandb") if getattr(spec.execution.log, name))
    for trial in planned.trials:  # every trial's settings are stored before anything runs
        path = folder.trial(trial.id).spec_json
        if not path.exists():
            write_json(path, seal(trial.identity))
    todo = with_states(planned, asked, how.workers)
    how.notify(todo)
    left = [trial for trial in planned.trials if todo.states[trial.id] not in todo.settled]
    if todo.count("done", "diverged", "interrupted", "running", PRUNED) == 0:
        todo = _rehearse(asked, todo, left, how)
    watch = None
    if spec.sweep.prune is not None:
        watch = Watch(folder, spec.sweep.prune, spec.training.epochs, todo.states)
    else:
        for trial in left:
            unprune(folder.trial(trial.id))
    runner = _Runner(asked, todo, how, watch)
    with nullcontext() if watch is None else watch.looking():
        runner.run(left)
    if runner.refusal:
        raise SpecError(runner.refusal)
    states = {trial.id: trial_state(folder.trial(trial.id)) for trial in planned.trials}
    complete = all(state in todo.settled for state in states.values())
    failures = tuple(
        TrialFailure.read(folder.trial(trial).failure_json) for trial, state in states.items() if state == "failed"
    )
    seconds = time.perf_counter() - start
    return SweepSummary(states, complete, failures, runner.trained, seconds, runner.hopeless())


def _rehearse(asked: Asked, todo: SweepPlan, trials: Sequence[Trial], how: HowToRun) -> SweepPlan:
    """Rehearse one trial of each optimizer and batch size; a SpecError says why there can be none.

    Returns the plan with no more slots than memory has room for, unless their number is asked for by the user.
    """
    kinds = {repr((each.identity["optimizer"], each.identity["training"])): each for each in reversed(trials)}
    execution, devices = asked.spec.execution, _devices.training_devices(asked.spec.execution, os.environ)
    for trial in kinds.values():
        job = Job(str(asked.folder.root), trial.id)
        if execution.executor == "inline":
            answer = plugins.load("executors", _REHEARSE)(job)
        else:
            answer = local.answer(_REHEARSE, job, how.stop)
        if how.stop.level():
            return todo
        if isinstance(answer, int):
            raise SpecError(_death_message(answer, asked.spec))
        why, size, memory = answer
        if why:
            raise SpecError(why)
        room = max(1, memory // size * max(1, len(devices))) if size else todo.slots
        if room < todo.slots:
            where, is_kept = "its GPU" if devices else "this machine", how.workers or execution.workers or devices
            so = f"{todo.slots} at once may not fit" if is_kept else f"{room} run at once, not {todo.slots}"
            print(
                f"warning: a trial takes about {size / 2**30:.2g} GiB of memory and {where} has {memory / 2**30:.3g}"
                f" GiB, so {so}; `execution.workers: {room}` fits",
                file=sys.stderr,
            )
            if not is_kept:
                todo = replace(todo, slots=room)
    return todo


def _death_message(status: int, spec: Spec) -> str:
    """Return a message about a rehearsal whose process has died, though it was alone."""
    who = "the process of the first step of training, and of the scoring after it,"
    if status >= 0:
        return f"{who} ended with status {status}; what it wrote is above"
    advice = "; see that the model and its dtypes suit this device, or take another execution.device"
    if status == -signal.SIGKILL:
        advice = (
            ", as happens without memory, though it ran alone; take a smaller training.batch_size than"
            f" {spec.training.batch_size:,}, training.precision: bfloat16, or another execution.device"
        )
    return f"{who} was killed by signal {-status} ({signal.strsignal(-status)}){advice}"


@dataclass(eq=False)
class _Runner:
    """Hands trials to the executor until each has a result, was tried often enough, or the sweep is stopped."""

    asked: Asked
    todo: SweepPlan
    how: HowToRun
    watch: Watch | None
    has_failed: bool = False
    refusal: str = ""
    attempts: Counter[str] = field(default_factory=Counter)
    exclusive: set[str] = field(default_factory=set)
    asked_about: set[Job] = field(default_factory=set)
    errors: dict[str, str] = field(default_factory=dict)
    trained: int = 0

    def level(self) -> int:
        """Return the stop level; `executors` ask. A refusal counts as a stop, and with `fail_fast` a failure."""
        is_over = bool(self.refusal or self.hopeless()) or (self.how.fail_fast and self.has_failed)
        return max(self.how.stop.level(), int(is_over))

    def has_results(self) -> bool:
        """Return whether any trial of the plan has come to its end."""
        return self.trained > 0 or self.todo.count(*FINISHED, PRUNED) > 0

    def hopeless(self) -> str:
        """Return why no training of the user's own would end otherwise than the first ones have; "" where one may."""
        is_own = self.asked.spec.task.trains_itself
        if not is_own or self.has_results() or len(self.errors) < _ALIKE or len({*self.errors.values()}) > 1:
            return ""
        return (
            f"Stopped: the first {len(self.errors)} trainings failed alike, and none has ended well. Correct it, and"
            " give the same command again. If they diverged, let them say so by a score of NaN, which is a result."
        )

    def run(self, trials: Sequence[Trial]) -> None:
        execution = self.asked.spec.execution
        executor = executors.load(execution.executor)
        left = list(trials)
        while left and not self.level():
            jobs = self._ready(executor, left)
            if jobs:
                executor.run(jobs, _WORK, slots=self.todo.slots, notify=self._on_job, stop=self, execution=execution)
            else:
                time.sleep(_POLL_S)  # another sweep on this folder holds all trials that are left
            states = {trial.id: trial_state(self.asked.folder.trial(trial.id)) for trial in left}
            left = [trial for trial in left if states[trial.id] not in self.todo.settled]
            left = [trial for trial in left if self.attempts[trial.id] <= execution.retries]

    def _ready(self, executor: ExecutorPlugin, left: Sequence[Trial]) -> list[Job]:
        """Return the jobs that nobody holds, and those that an earlier command submitted to the executor.

        The executor is asked about each of the latter once. Exclusive jobs come last, so that no slot waits for one.
        """
        jobs = [Job(str(self.asked.folder.root), trial.id, trial.id in self.exclusive) for trial in left]
        jobs.sort(key=lambda job: job.exclusive)
        held = {job for job in jobs if trial_state(self.asked.folder.trial(job.trial)) == "running"}
        submitted = executors.already_submitted(executor, [job for job in jobs if job in held - self.asked_about])
        self.asked_about |= held
        return [job for job in jobs if job not in held or job in submitted]

    def _on_job(self, event: JobEvent) -> None:
        trial = next(each for each in self.todo.plan.trials if each.id == event.job.trial)
        folder = self.asked.folder.trial(trial.id)
        if isinstance(event, JobStarted):
            if self.watch is not None:
                self.watch.start(trial.id)
            self.how.notify(TrialEvent(trial, "running"))
            return
        if event.status == JobStatus.HELD_ELSEWHERE:
            return
        is_refused = event.status == JobStatus.REFUSED
        if is_refused and not self.has_results():  # what the first is refused for holds for all
            if not self.refusal:
                is_stored = folder.failure_json.exists()
                self.refusal = TrialFailure.read(folder.failure_json).trace if is_stored else f"see {folder.log}"
            return
        if event.status != JobStatus.FINISHED and not self.level():
            self.attempts[trial.id] += 1 + is_refused * self.asked.spec.execution.retries
            self._note_failure(folder, event)
        state = trial_state(folder)
        if self.watch is not None:
            self.watch.end(trial.id, state)
        result = TrialResult.read(folder.result_json) if state in FINISHED else None
        failure = TrialFailure.read(folder.failure_json) if state == "failed" else None
        self.trained += result is not None
        self.has_failed = self.has_failed or failure is not None
        if failure is not None:
            self.errors[trial.id] = failure.error.replace(trial.id, "")
        pruning = Pruning.find(folder.prune_json) if state == PRUNED else None
        self.how.notify(TrialEvent(trial, state, result, failure, pruning))

    def _note_failure(self, folder: TrialFolder, event: JobEnded) -> None:
        """Store why a trial failed where it could not do so itself; one without memory is tried again alone."""
        attempts = self.attempts[folder.id]
        is_tried_again = attempts <= self.asked.spec.execution.retries
        if event.status in _NO_MEMORY:
            self.exclusive.add(folder.id)
            error = _out_of_memory_message(event, self.asked.spec.execution, is_tried_again=is_tried_again)
            if event.status in _STORED_BY_TRIAL and folder.failure_json.exists():
                failure = TrialFailure.read(folder.failure_json)
                replace(failure, error=f"{error} ({failure.error})").write(folder.failure_json)
                return
        elif is_tried_again or event.status in (*_STORED_BY_TRIAL, JobStatus.STOPPED):
            return
        elif event.status < 0:
            error = f"its process was killed by signal {-event.status}"
        else:
            error = f"its process ended with status {event.status} and stored no reason; see the command's own messages"
        ended = datetime.now(UTC).isoformat(timespec="seconds")
        failure = TrialFailure(folder.id, error, trace="", log=str(folder.log), attempts=attempts, ended=ended)
        failure.write(folder.failure_json)


def _out_of_memory_message(event: JobEnded, execution: Execution, *, is_tried_again: bool) -> str:
    """Return a message about a job that ran out of memory: what happens next, or what the user can do."""
    was_killed, executor, trial = event.status < 0, execution.executor, event.job.trial
    what = "its process was killed by signal 9 (often: out of memory)" if was_killed else "out of memory"
    if event.job.exclusive or executor in ("inline", "slurm"):  # there a trial always is alone
        what += ", though it ran alone"
    if is_tried_again:
        return f"{what}; it is tried again alone"
    advice = "a smaller training.batch_size, execution.workers or execution.trials_per_device needs less"
    if executor == "slurm":
        advice += ", and execution.slurm.memory gives more"
    return f"{what}: {advice}; then `epsgrid retry {trial}`"


def with_states(planned: Plan, asked: Asked, workers: int | None) -> SweepPlan:
    """Return a plan with the stored states of its trials; `workers` as in `train_planned`.

    Raises ExecutionError where trials train on this machine, which does not compute in `training.precision`, or lacks
    CUDA.
    """
    spec, execution = asked.spec, asked.spec.execution
    if execution.is_here and (spec.training.precision != "float32" or execution.device == "cuda"):
        from epsgrid.trials.device import resolve_device  # torch, only where there is something to find out

        resolve_device(execution.device, spec.training.precision)
    found = {trial.id: summary(asked.folder.trial(trial.id)) for trial in planned.trials}
    states = {trial: one.state for trial, one in found.items()}
    done = [one.seconds for one in found.values() if one.state == "done" and one.seconds is not None]
    mean = sum(done) / len(done) if done else None
    settled = FINISHED if spec.sweep.prune is None else (*FINISHED, PRUNED)
    changes = code_changes(asked.folder, planned.trials[0].identity) if planned.trials else ()
    return SweepPlan(planned, states, mean, _slots_of(spec, workers), settled=settled, changes=changes)


def _slots_of(spec: Spec, workers: int | None = None) -> int:
    """Return how many trials run at once: as many as are asked for, or as the spec says.

    CUDA devices of this machine have room for `execution.trials_per_device` each, and no more run. Without a number
    there is one per processor, as many as the CUDA devices have room for, and 64 where other machines train.
    """
    execution = spec.execution
    asked, executor, gpus = workers or execution.workers, execution.executor, execution.ray.gpus
    if executor == "slurm" or (executor == "ray" and execution.ray.address is not None):
        return asked or _CLUSTER_SLOTS
    devices = 0 if executor == "ray" and gpus == 0 else len(_devices.training_devices(execution, os.environ))
    if not devices:
        return asked or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    room = devices * execution.trials_per_device
    if executor == "inline":
        room = 1
    elif executor == "ray" and gpus is not None:
        room = max(1, int(devices / gpus))
    return min(asked or room, room)
