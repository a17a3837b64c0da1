"""The second stage: train every cell of the grids that has no result yet."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from epsgrid import executors, grids, optimizers, plugins
from epsgrid.errors import DataError, StoreError
from epsgrid.executors import Job, JobEnded, JobEvent, JobStarted, JobStatus, StopRequest
from epsgrid.grids._plan import Plan, PlannedTrial, plan
from epsgrid.spec import differences
from epsgrid.spec.model import Spec
from epsgrid.stages.experiment import Asked, enter, prepare_data
from epsgrid.stages.probe import bounds_identity, probe_identity, read_probe
from epsgrid.store.atomic import seal, write_json
from epsgrid.store.paths import ExperimentFolder, TrialFolder
from epsgrid.store.records import GridCell, GridRecord, ProbeRecord, TrialFailure, TrialResult
from epsgrid.store.state import FINISHED, glance, trial_state

GridChoice = Literal["narrowed", "conventional", "both", "default"]
_POLL_S = 0.5
_CLUSTER_SLOTS = 64


@dataclass(frozen=True)
class SweepPlan:
    """What a sweep would do, by trial.

    Attributes:
        plan: all cells of the grids.
        states: state of each trial by id; "pending" where nothing is stored.
        mean_seconds: mean cost of the finished trials; None while there is none.
        slots: trials that run at once.
        unknown: what is not known yet, a sentence each; only a dry run leaves anything open.
    """

    plan: Plan
    states: dict[str, str]
    mean_seconds: float | None
    slots: int
    unknown: tuple[str, ...] = ()

    def count(self, *states: str) -> int:
        """Return the number of trials in one of these states."""
        return sum(state in states for state in self.states.values())

    @property
    def to_run(self) -> int:
        """Trials without a result."""
        return len(self.states) - self.count(*FINISHED)

    @property
    def estimated_seconds(self) -> float | None:
        """Wall time that the trials without a result will take; None while no trial has been timed."""
        return None if self.mean_seconds is None else self.mean_seconds * self.to_run / self.slots


@dataclass(frozen=True)
class TrialStarted:
    """A trial has begun, or goes on from its checkpoint."""

    trial: PlannedTrial


@dataclass(frozen=True)
class TrialEnded:
    """A trial has ended: `done` or `diverged` with its result, `failed` with its failure, or `interrupted`."""

    trial: PlannedTrial
    state: str
    result: TrialResult | None
    failure: TrialFailure | None


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
    """

    folder: ExperimentFolder
    states: dict[str, str]
    failures: tuple[TrialFailure, ...]
    trained: int
    seconds: float

    @property
    def counts(self) -> dict[str, int]:
        """Number of trials by state."""
        return dict(sorted(Counter(self.states.values()).items()))

    @property
    def complete(self) -> bool:
        """Whether every trial has a result."""
        return all(state in FINISHED for state in self.states.values())


def swept(folder: ExperimentFolder) -> GridChoice:
    """Return the grids that were swept here so far.

    Raises:
        StoreError: none was.
    """
    if not folder.grid_json.exists():
        raise StoreError(f"{folder.root}: nothing was swept here yet; `epsgrid sweep` does it")
    names = GridRecord.read(folder.grid_json).epsilons
    if "narrowed" in names:
        return "both" if "conventional" in names else "narrowed"
    return "conventional" if "conventional" in names else "default"


def plan_sweep(asked: Asked, grid: GridChoice, workers: int | None) -> SweepPlan:
    """Return what `sweep` would do, without writing into the experiment's folder or importing torch.

    Where the data are not here yet, every trial counts as one to run; where the bounds are not measured yet, the
    narrowed grid is left out. Both are told.

    Raises:
        StoreError: stored bounds were measured with other settings.
    """
    unknown, names, checksum = [], _chosen(grid), ""
    try:
        checksum = prepare_data(asked.spec).checksum
    except DataError as error:
        unknown.append(f"the data are not ready, so all trials count as to run: {error}")
    has_epsilon = optimizers.load(asked.spec.optimizer.name).HAS_EPSILON
    if has_epsilon and "narrowed" in names and read_probe(asked.folder) is None:
        names = tuple(name for name in names if name != "narrowed")
        unknown.append("the narrowed grid is known after `epsgrid probe`; it is left out here")
    planned = _with_states(_plan(asked, names, checksum), asked, workers)
    return replace(planned, unknown=tuple(unknown))


def sweep(
    asked: Asked,
    grid: GridChoice,
    *,
    workers: int | None,
    fail_fast: bool,
    notify: Callable[[SweepEvent], None],
    stop: StopRequest,
    only: Collection[str] | None = None,
) -> SweepSummary:
    """Train the trials that have no result yet; those that failed earlier are tried again.

    Args:
        asked: the spec and its folder.
        grid: which grids to train.
        workers: trials at once; None means as the spec says, or one per core.
        fail_fast: start nothing more after the first failure.
        notify: told the plan, then each trial's start and end.
        stop: asked whether to stop.
        only: ids of the trials to train; None for all that have no result.

    Returns:
        The states of all trials at the end, whether or not the sweep was stopped.

    Raises:
        StoreError: no bounds for the narrowed grid, or the folder is another experiment's or cannot be written.
        DataError: the data are missing or damaged.
    """
    start = time.perf_counter()
    data = prepare_data(asked.spec)
    planned = _only(_plan(asked, _chosen(grid), data.checksum), only)
    enter(asked, data)
    _store_grids(asked, _chosen(grid), data.checksum)
    _store_trials(asked.folder, planned)
    todo = _with_states(planned, asked, workers)
    notify(todo)
    runner = _Runner(asked, planned, todo.slots, fail_fast, notify, stop)
    runner.run([trial for trial in planned.trials if todo.states[trial.id] not in FINISHED])
    states = {trial.id: trial_state(asked.folder.trial(trial.id)) for trial in planned.trials}
    failures = tuple(_failure(asked.folder, trial) for trial, state in states.items() if state == "failed")
    return SweepSummary(asked.folder, states, failures, runner.trained, time.perf_counter() - start)


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
        self.trained = 0

    def run(self, trials: Sequence[PlannedTrial]) -> None:
        executor = executors.load(self.execution.executor)
        left = list(trials)
        while left and not self.stop.level():
            ready = [trial for trial in left if trial_state(self.folder.trial(trial.id)) != "running"]
            if ready:
                jobs = [Job(str(self.folder.root), trial.id) for trial in ready]
                executor.run(
                    jobs, _work, slots=self.slots, notify=self._on_job, stop=self.stop, execution=self.execution
                )
            else:
                time.sleep(_POLL_S)  # another sweep on this folder holds all that is left
            left = [trial for trial in left if self._is_left(trial)]

    def _is_left(self, trial: PlannedTrial) -> bool:
        state = trial_state(self.folder.trial(trial.id))
        return state not in FINISHED and self.attempts[trial.id] <= self.execution.retries

    def _on_job(self, event: JobEvent) -> None:
        trial = self.trials[event.job.trial]
        if isinstance(event, JobStarted):
            self.notify(TrialStarted(trial))
        elif event.status != JobStatus.HELD_ELSEWHERE:
            self._on_end(trial, event)

    def _on_end(self, trial: PlannedTrial, event: JobEnded) -> None:
        folder = self.folder.trial(trial.id)
        if event.status != JobStatus.FINISHED and not self.stop.level():
            self.attempts[trial.id] += 1
            told = event.status in (JobStatus.FAILED, JobStatus.STOPPED)
            if not told and self.attempts[trial.id] > self.execution.retries:
                _store_silent_end(folder, trial.id, event.status, self.attempts[trial.id])
        state = trial_state(folder)
        result = _result(folder) if state in FINISHED else None
        failure = _failure(self.folder, trial.id) if state == "failed" else None
        self.trained += result is not None
        if failure is not None and isinstance(self.stop, _StopOnFailure):
            self.stop.failed = True
        self.notify(TrialEnded(trial, state, result, failure))


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


def _chosen(grid: GridChoice) -> tuple[str, ...]:
    """Return the names of the grids; the default ε needs no name, for `plan` adds it where no grid holds it."""
    choices: dict[GridChoice, tuple[str, ...]] = {"both": ("narrowed", "conventional"), "default": ()}
    return choices.get(grid, (grid,))


def _plan(asked: Asked, names: Sequence[str], data_checksum: str) -> Plan:
    spec = asked.spec
    has_epsilon = optimizers.load(spec.optimizer.name).HAS_EPSILON
    needs_bounds = has_epsilon and any(grids.load(name).NEEDS_BOUNDS for name in names)
    bounds = _probe(asked, data_checksum).bounds() if needs_bounds else None
    return plan(spec, data_checksum, bounds, names, has_epsilon=has_epsilon)


def _only(planned: Plan, ids: Collection[str] | None) -> Plan:
    if ids is None:
        return planned
    return replace(planned, trials=tuple(trial for trial in planned.trials if trial.id in ids))


def _probe(asked: Asked, data_checksum: str) -> ProbeRecord:
    """Return the stored probe of exactly these settings."""
    record = read_probe(asked.folder)
    path = asked.folder.bounds_json
    if record is None:
        raise StoreError(
            f"{path} is missing, and the narrowed grid needs measured bounds; run `epsgrid probe SPEC` first"
        )
    asked_for = bounds_identity(probe_identity(asked.spec, data_checksum))
    lines = differences(bounds_identity(record.identity), asked_for)
    if lines:
        listed = "\n  ".join(lines)
        raise StoreError(f"{path} was measured with other settings:\n  {listed}\nRun `epsgrid probe` with these again.")
    return record


def _with_states(planned: Plan, asked: Asked, workers: int | None) -> SweepPlan:
    seen = {trial.id: glance(asked.folder.trial(trial.id)) for trial in planned.trials}
    states = {trial: found.state for trial, found in seen.items()}
    done = [found.seconds for found in seen.values() if found.state == "done" and found.seconds is not None]
    mean = sum(done) / len(done) if done else None
    return SweepPlan(planned, states, mean, workers or asked.spec.execution.workers or default_slots(asked.spec))


def default_slots(spec: Spec) -> int:
    """Return how many trials run at once unless asked otherwise.

    That is one per core, one where a GPU trains, and `_CLUSTER_SLOTS` where other machines than this one do.
    """
    execution = spec.execution
    if execution.executor == "slurm" or (execution.executor == "ray" and execution.ray.address is not None):
        return _CLUSTER_SLOTS
    if spec.execution.device != "cpu" and Path("/dev/nvidia0").exists():
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _store_grids(asked: Asked, names: Sequence[str], data_checksum: str) -> None:
    """Write down which trials belong to which grid: those of this call, and those swept here before."""
    before = GridRecord.read(asked.folder.grid_json).epsilons if asked.folder.grid_json.exists() else {}
    swept = [name for name in plugins.names("grids") if name in (*before, *names)]
    probe = read_probe(asked.folder)
    planned = _plan(asked, swept, data_checksum)
    record = GridRecord(
        optimizer=asked.spec.optimizer.name,
        epsilons=dict(planned.epsilons),
        default_epsilon=asked.spec.sweep.default_epsilon,
        cells=tuple(
            GridCell(trial.id, trial.learning_rate, trial.epsilon, trial.seed, trial.grids) for trial in planned.trials
        ),
        bounds_checksum=probe.checksum if probe is not None else None,
    )
    record.write(asked.folder.grid_json)


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


def _store_silent_end(folder: TrialFolder, trial: str, status: int, attempts: int) -> None:
    """Keep that a trial's process ended without saying why, as one that a signal killed does."""
    if status < 0:
        why = f"its process was killed by signal {-status}" + (" (often: out of memory)" if status == -9 else "")
    else:
        why = f"its process ended with status {status} and told nothing; see the command's own messages"
    ended = datetime.now(UTC).isoformat(timespec="seconds")
    failure = TrialFailure(id=trial, error=why, trace="", log=str(folder.log), attempts=attempts, ended=ended)
    failure.write(folder.failure_json)
