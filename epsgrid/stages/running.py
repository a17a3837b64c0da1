"""Train planned trials: what every kind of sweep shares, from the plan to how each of its trials ended."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from epsgrid import executors
from epsgrid.executors import (
    Alone,
    ExecutorPlugin,
    Job,
    JobEnded,
    JobEvent,
    JobStarted,
    JobStatus,
    StopRequest,
    _devices,
)
from epsgrid.grids._plan import Plan
from epsgrid.numerics.precision import underflow_warning
from epsgrid.observing.trackers import require_installed
from epsgrid.spec.model import Execution, Spec
from epsgrid.spec.trial import Trial
from epsgrid.stages import out_of_memory
from epsgrid.stages.experiment import Asked
from epsgrid.stages.extension import extending
from epsgrid.stages.pruning import Watch
from epsgrid.store.atomic import seal, write_json
from epsgrid.store.paths import ExperimentFolder, TrialFolder
from epsgrid.store.pruning import Pruning, read_pruning, unprune
from epsgrid.store.records import TrialFailure, TrialResult
from epsgrid.store.state import FINISHED, PRUNED, summary, trial_state

_POLL_S = 0.5
_CLUSTER_SLOTS = 64
_TOLD = (JobStatus.FAILED, JobStatus.STOPPED, JobStatus.OUT_OF_MEMORY, JobStatus.DEVICE_OUT_OF_MEMORY)


@dataclass(frozen=True)
class SweepPlan:
    """What a sweep would do, by trial.

    Attributes:
        plan: all cells of the grids.
        states: state of each trial by id; "pending" where nothing is stored.
        mean_seconds: mean cost of the finished trials; None while there is none.
        slots: trials that run at once.
        extending: which trials go on from shorter ones and which start anew although there are such, a sentence each.
        unknown: what is not known yet, a sentence each; only a dry run leaves anything open.
        settled: the states in which a trial is left as it is.
    """

    plan: Plan
    states: dict[str, str]
    mean_seconds: float | None
    slots: int
    extending: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    settled: tuple[str, ...] = FINISHED

    def count(self, *states: str) -> int:
        """Return the number of trials in one of these states."""
        return sum(state in states for state in self.states.values())

    @property
    def to_run(self) -> int:
        """Trials without a result, but those that were pruned and are left so."""
        return len(self.states) - self.count(*self.settled)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is to be said of values of ε that float32, in which every optimizer here keeps v, cannot hold."""
        values = sorted({epsilon for epsilons in self.plan.epsilons.values() for epsilon in epsilons})
        return tuple(line for line in map(underflow_warning, values) if line is not None)

    @property
    def estimated_seconds(self) -> float | None:
        """Wall time that the trials without a result will take; None while no trial has been timed."""
        return None if self.mean_seconds is None else self.mean_seconds * self.to_run / self.slots


@dataclass(frozen=True)
class TrialStarted:
    """A trial has begun, or goes on from its checkpoint."""

    trial: Trial


@dataclass(frozen=True)
class TrialEnded:
    """A trial has ended: `done` or `diverged` with its result, `failed` or `pruned` with why, or `interrupted`."""

    trial: Trial
    state: str
    result: TrialResult | None
    failure: TrialFailure | None
    pruning: Pruning | None = None


SweepEvent = SweepPlan | TrialStarted | TrialEnded


@dataclass(frozen=True)
class SweepSummary:
    """How a sweep ended.

    Attributes:
        folder: the experiment's folder.
        states: state of each trial by id.
        failures: of the trials that failed.
        trained: trials that got their result in this call.
        seconds: wall time of this call.
        settled: the states in which a trial is left as it is.
    """

    folder: ExperimentFolder
    states: dict[str, str]
    failures: tuple[TrialFailure, ...]
    trained: int
    seconds: float
    settled: tuple[str, ...] = FINISHED

    @property
    def counts(self) -> dict[str, int]:
        """Number of trials by state."""
        return dict(sorted(Counter(self.states.values()).items()))

    @property
    def complete(self) -> bool:
        """Whether every trial has a result, or was pruned and is left so."""
        return all(state in self.settled for state in self.states.values())


def train_planned(
    asked: Asked,
    planned: Plan,
    *,
    workers: int | None,
    fail_fast: bool,
    notify: Callable[[SweepEvent], None],
    stop: StopRequest,
) -> SweepSummary:
    """Train the trials of a plan that have no result yet; arguments and result as of `sweep`."""
    start = time.perf_counter()
    log = asked.spec.execution.log
    require_installed(name for name in ("tensorboard", "mlflow", "wandb") if getattr(log, name))
    _store_trials(asked.folder, planned)
    todo = with_states(planned, asked, workers)
    notify(todo)
    runner = _Runner(asked, planned, todo.slots, fail_fast, notify, stop)
    left = [trial for trial in planned.trials if todo.states[trial.id] not in todo.settled]
    if asked.spec.sweep.prune is None:
        for trial in left:
            unprune(asked.folder.trial(trial.id))
    with runner.watching(todo.states):
        runner.run(left)
    states = {trial.id: trial_state(asked.folder.trial(trial.id)) for trial in planned.trials}
    failures = tuple(_failure(asked.folder, trial) for trial, state in states.items() if state == "failed")
    return SweepSummary(asked.folder, states, failures, runner.trained, time.perf_counter() - start, todo.settled)


class _Runner:
    """Hands trials to the executor until each has a result, was tried often enough, or the sweep is stopped."""

    def __init__(
        self,
        asked: Asked,
        planned: Plan,
        slots: int,
        fail_fast: bool,
        notify: Callable[[SweepEvent], None],
        stop: StopRequest,
    ) -> None:
        self.folder, self.slots, self.notify = asked.folder, slots, notify
        self.execution = asked.spec.execution
        self.stop = _StopOnFailure(stop) if fail_fast else stop
        self.trials = {trial.id: trial for trial in planned.trials}
        self.attempts: Counter[str] = Counter()
        self.alone: dict[str, Alone] = {}
        self.asked_about: set[Job] = set()
        self.trained = 0
        self.settled = _settled(asked.spec)
        prune = asked.spec.sweep.prune
        self.watch = Watch(self.folder, prune, asked.spec.training.epochs) if prune is not None else None

    @contextmanager
    def watching(self, states: Mapping[str, str]) -> Iterator[None]:
        """Follow the trials and end those early that fall behind, where the spec wants it; `states` were before."""
        if self.watch is None:
            yield
            return
        self.watch.learn(states)
        with self.watch.looking():
            yield

    def run(self, trials: Sequence[Trial]) -> None:
        executor = executors.load(self.execution.executor)
        left = list(trials)
        while left and not self.stop.level():
            jobs = self._ready(executor, left)
            if jobs:
                executor.run(
                    jobs, _work, slots=self.slots, notify=self._on_job, stop=self.stop, execution=self.execution
                )
            else:
                time.sleep(_POLL_S)  # another sweep on this folder holds all that is left
            left = [trial for trial in left if self._is_left(trial)]

    def _ready(self, executor: ExecutorPlugin, left: Sequence[Trial]) -> list[Job]:
        """Return the jobs that nobody is at work on, and those that an earlier command left to the executor.

        The latter are asked for once: to look into a cluster's queue is not for every half second. Jobs that are to be
        alone come last, so that no slot stays empty for one while others wait.
        """
        jobs = [Job(str(self.folder.root), trial.id, self.alone.get(trial.id, Alone.NO)) for trial in left]
        jobs.sort(key=lambda job: job.alone)
        running = {job for job in jobs if trial_state(self.folder.trial(job.trial)) == "running"}
        watched = executors.in_hand(executor, [job for job in jobs if job in running - self.asked_about])
        self.asked_about |= running
        return [job for job in jobs if job not in running or job in watched]

    def _is_left(self, trial: Trial) -> bool:
        state = trial_state(self.folder.trial(trial.id))
        return state not in self.settled and self.attempts[trial.id] <= self.execution.retries

    def _on_job(self, event: JobEvent) -> None:
        trial = self.trials[event.job.trial]
        if isinstance(event, JobStarted):
            if self.watch is not None:
                self.watch.start(trial.id)
            self.notify(TrialStarted(trial))
        elif event.status != JobStatus.HELD_ELSEWHERE:
            self._on_end(trial, event)

    def _on_end(self, trial: Trial, event: JobEnded) -> None:
        folder = self.folder.trial(trial.id)
        if event.status != JobStatus.FINISHED and not self.stop.level():
            self.attempts[trial.id] += 1
            again = self.attempts[trial.id] <= self.execution.retries
            if event.status in out_of_memory.NEEDS:
                needs = out_of_memory.NEEDS[JobStatus(event.status)]
                self.alone[trial.id] = max(needs, event.job.alone)
                why = out_of_memory.words(event, self.execution, again=again)
                _store_out_of_memory(folder, trial.id, event.status, why, self.attempts[trial.id])
            elif event.status not in _TOLD and not again:
                _store_silent_end(folder, trial.id, event.status, self.attempts[trial.id])
        state = trial_state(folder)
        if self.watch is not None:
            self.watch.end(trial.id, state)
        result = _result(folder) if state in FINISHED else None
        failure = _failure(self.folder, trial.id) if state == "failed" else None
        self.trained += result is not None
        if failure is not None and isinstance(self.stop, _StopOnFailure):
            self.stop.failed = True
        self.notify(TrialEnded(trial, state, result, failure, read_pruning(folder) if state == PRUNED else None))


class _StopOnFailure:
    """A stop request that also starts nothing more once a trial has failed."""

    def __init__(self, stop: StopRequest) -> None:
        self.stop, self.failed = stop, False

    def level(self) -> int:
        return max(self.stop.level(), int(self.failed))


def _work(job: Job) -> int:
    """Run a job; torch is imported where the job runs, not where it is planned."""
    from epsgrid.worker import run_job

    return run_job(job)


def with_states(planned: Plan, asked: Asked, workers: int | None) -> SweepPlan:
    """Return a plan with what is stored of its trials; `workers` as of `sweep`.

    Raises:
        ExecutionError: trials train on this machine, which does not compute in `training.precision`.
    """
    _require_precision(asked.spec)
    seen = {trial.id: summary(asked.folder.trial(trial.id)) for trial in planned.trials}
    states = {trial: found.state for trial, found in seen.items()}
    done = [found.seconds for found in seen.values() if found.state == "done" and found.seconds is not None]
    mean = sum(done) / len(done) if done else None
    slots = slots_of(asked.spec, workers)
    return SweepPlan(
        planned,
        states,
        mean,
        slots,
        extending(asked.spec, asked.folder, planned.trials, states),
        settled=_settled(asked.spec),
    )


def _require_precision(spec: Spec) -> None:
    """Refuse a precision that this machine does not compute in; trials elsewhere find that out there.

    Raises:
        ExecutionError: it is refused.
    """
    if spec.training.precision != "float32" and spec.execution.executor in ("inline", "local"):
        from epsgrid.trials.device import resolve_device  # torch, only where there is something to find out

        resolve_device(spec.execution.device, spec.training.precision)


def _settled(spec: Spec) -> tuple[str, ...]:
    """Return the states in which a trial is left as it is."""
    return FINISHED if spec.sweep.prune is None else (*FINISHED, PRUNED)


def slots_of(spec: Spec, workers: int | None = None) -> int:
    """Return how many trials run at once.

    Args:
        spec: where CUDA devices of this machine train, they have room for `execution.trials_per_device` each, and more
            workers are not used.
        workers: how many are asked for; None means those of the spec, or without any one per processor, as many as the
            CUDA devices have room for, and `_CLUSTER_SLOTS` where other machines than this one train.
    """
    execution = spec.execution
    asked = workers or execution.workers
    if execution.executor == "slurm" or (execution.executor == "ray" and execution.ray.address is not None):
        return asked or _CLUSTER_SLOTS
    room = _room_on_devices(execution)
    if room is None:
        return asked or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    return min(asked or room, room)


def _room_on_devices(execution: Execution) -> int | None:
    """Return how many trials this machine's CUDA devices have room for; None where they are not used."""
    if execution.executor == "ray" and execution.ray.gpus == 0:
        return None
    devices = len(_devices.training(execution, os.environ))
    if not devices:
        return None
    if execution.executor == "inline":
        return 1
    if execution.executor == "ray" and execution.ray.gpus is not None:
        return max(1, int(devices / execution.ray.gpus))
    return devices * execution.trials_per_device


def _store_trials(folder: ExperimentFolder, planned: Plan) -> None:
    """Write down each trial's settings, before anything runs."""
    for trial in planned.trials:
        path = folder.trial(trial.id).spec_json
        if not path.exists():
            write_json(path, seal(trial.identity))


def _result(folder: TrialFolder) -> TrialResult:
    return TrialResult.read(folder.result_json)


def _failure(experiment: ExperimentFolder, trial: str) -> TrialFailure:
    path = experiment.trial(trial).failure_json
    return TrialFailure.read(path)


def _store_out_of_memory(folder: TrialFolder, trial: str, status: int, why: str, attempts: int) -> None:
    """Keep what follows from a trial's want of memory, with the trial's own words where it had any."""
    if status == JobStatus.KILLED_FOR_MEMORY:
        _store_end(folder, trial, f"{why}; the system ended its process", attempts)
    elif folder.failure_json.exists():
        failure = TrialFailure.read(folder.failure_json)
        replace(failure, error=f"{why} ({failure.error})").write(folder.failure_json)


def _store_silent_end(folder: TrialFolder, trial: str, status: int, attempts: int) -> None:
    """Keep that a trial's process ended without saying why, as one that a signal killed does."""
    if status < 0:
        why = f"its process was killed by signal {-status}" + (" (often: out of memory)" if status == -9 else "")
    else:
        why = f"its process ended with status {status} and told nothing; see the command's own messages"
    _store_end(folder, trial, why, attempts)


def _store_end(folder: TrialFolder, trial: str, why: str, attempts: int) -> None:
    """Keep why a trial's process ended, which could not do so itself."""
    ended = datetime.now(UTC).isoformat(timespec="seconds")
    failure = TrialFailure(id=trial, error=why, trace="", log=str(folder.log), attempts=attempts, ended=ended)
    failure.write(folder.failure_json)
