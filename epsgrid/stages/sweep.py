"""The second stage: train every cell of the grids that has no result yet."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from epsgrid import executors, grids, optimizers, plugins
from epsgrid.errors import DataError, SpecError, StoreError
from epsgrid.executors import ExecutorPlugin, Job, JobEnded, JobEvent, JobStarted, JobStatus, StopRequest
from epsgrid.grids._plan import Plan, PlannedTrial, plan
from epsgrid.grids._rates import EffectiveRates
from epsgrid.observing.trackers import require_installed
from epsgrid.spec import differences
from epsgrid.spec.model import Spec
from epsgrid.stages.experiment import Asked, enter, prepare_data
from epsgrid.stages.extension import extending
from epsgrid.stages.probe import bounds_identity, probe_identity, read_probe
from epsgrid.stages.pruning import Watch, import_optuna
from epsgrid.store.atomic import seal, write_json
from epsgrid.store.paths import ExperimentFolder, TrialFolder
from epsgrid.store.pruning import Pruning, read_pruning, spare
from epsgrid.store.records import GridCell, GridRecord, ProbeRecord, TrialFailure, TrialResult
from epsgrid.store.state import FINISHED, PRUNED, glance, trial_state

GridChoice = Literal["narrowed", "conventional", "both", "default"]
_POLL_S = 0.5
_CLUSTER_SLOTS = 64
_ADDRESS = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):[0-9]{1,5}")


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
    def estimated_seconds(self) -> float | None:
        """Wall time that the trials without a result will take; None while no trial has been timed."""
        return None if self.mean_seconds is None else self.mean_seconds * self.to_run / self.slots


@dataclass(frozen=True)
class TrialStarted:
    """A trial has begun, or goes on from its checkpoint."""

    trial: PlannedTrial


@dataclass(frozen=True)
class TrialEnded:
    """A trial has ended: `done` or `diverged` with its result, `failed` or `pruned` with why, or `interrupted`."""

    trial: PlannedTrial
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


def on_ray(asked: Asked, address: str) -> Asked:
    """Return the same with its trials on the Ray cluster at an address.

    Args:
        asked: the spec and its folder.
        address: HOST:PORT of the cluster's head.

    Raises:
        SpecError: it is no address, or the spec names an executor that has nothing to do with Ray.
    """
    execution = asked.spec.execution
    if execution.executor not in ("local", "ray"):
        raise SpecError(
            f"--address joins a Ray cluster, but execution.executor is {execution.executor!r}: leave --address out, or"
            " take the other out of the spec"
        )
    if not _ADDRESS.fullmatch(address):
        raise SpecError(
            f"--address: expected HOST:PORT of a Ray cluster's head, such as 10.0.0.1:6379, got {address!r}"
        )
    ray = execution.ray.model_copy(update={"address": address})
    joined = execution.model_copy(update={"executor": "ray", "ray": ray})
    return replace(asked, spec=asked.spec.model_copy(update={"execution": joined}))


def plan_sweep(asked: Asked, grid: GridChoice, workers: int | None) -> SweepPlan:
    """Return what `sweep` would do, without writing into the experiment's folder or importing torch.

    Where the data are not here yet, every trial counts as one to run; where the bounds are not measured yet, the
    narrowed grid is left out, and effective learning rates are taken to be the spec's. All of it is told.

    Raises:
        StoreError: stored bounds were measured with other settings.
    """
    unknown, names, checksum = [], _chosen(grid), ""
    try:
        checksum = prepare_data(asked.spec).checksum
    except DataError as error:
        unknown.append(f"the data are not ready, so all trials count as to run: {error}")
    has_epsilon = optimizers.load(asked.spec.optimizer.name).HAS_EPSILON
    is_unprobed = has_epsilon and read_probe(asked.folder) is None
    if is_unprobed and "narrowed" in names:
        names = tuple(name for name in names if name != "narrowed")
        unknown.append("the narrowed grid is known after `epsgrid probe`; it is left out here")
    if is_unprobed and asked.spec.sweep.lr_mode == "effective":
        asked = _with_sweep(asked, lr_mode="fixed")
        unknown.append("the learning rates to train with are known after `epsgrid probe`; here they are the spec's")
    planned = with_states(_plan(asked, names, checksum), asked, workers)
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

    Trials that were pruned earlier are left so while the spec prunes, and trained to their end where it does not.

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
        ExecutionError: the spec prunes, and Optuna is not installed.
    """
    if asked.spec.sweep.prune is not None:
        import_optuna()
    data = prepare_data(asked.spec)
    planned = _only(_plan(asked, _chosen(grid), data.checksum), only)
    enter(asked, data)
    _store_grids(asked, _chosen(grid), data.checksum)
    return train_planned(asked, planned, workers=workers, fail_fast=fail_fast, notify=notify, stop=stop)


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
            spare(asked.folder.trial(trial.id))
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

    def run(self, trials: Sequence[PlannedTrial]) -> None:
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

    def _ready(self, executor: ExecutorPlugin, left: Sequence[PlannedTrial]) -> list[Job]:
        """Return the jobs that nobody is at work on, and those that an earlier command left to the executor.

        The latter are asked for once: to look into a cluster's queue is not for every half second.
        """
        jobs = [Job(str(self.folder.root), trial.id) for trial in left]
        running = {job for job in jobs if trial_state(self.folder.trial(job.trial)) == "running"}
        watched = executors.in_hand(executor, [job for job in jobs if job in running - self.asked_about])
        self.asked_about |= running
        return [job for job in jobs if job not in running or job in watched]

    def _is_left(self, trial: PlannedTrial) -> bool:
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

    def _on_end(self, trial: PlannedTrial, event: JobEnded) -> None:
        folder = self.folder.trial(trial.id)
        if event.status != JobStatus.FINISHED and not self.stop.level():
            self.attempts[trial.id] += 1
            told = event.status in (JobStatus.FAILED, JobStatus.STOPPED)
            if not told and self.attempts[trial.id] > self.execution.retries:
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


def _with_sweep(asked: Asked, **changes: Any) -> Asked:
    return replace(asked, spec=asked.spec.model_copy(update={"sweep": asked.spec.sweep.model_copy(update=changes)}))


def _chosen(grid: GridChoice) -> tuple[str, ...]:
    """Return the names of the grids; the default ε needs no name, for `plan` adds it where no grid holds it."""
    choices: dict[GridChoice, tuple[str, ...]] = {"both": ("narrowed", "conventional"), "default": ()}
    return choices.get(grid, (grid,))


def _plan(asked: Asked, names: Sequence[str], data_checksum: str) -> Plan:
    spec = asked.spec
    has_epsilon = optimizers.load(spec.optimizer.name).HAS_EPSILON
    needs = [f"the {name} grid needs measured bounds" for name in names if grids.load(name).NEEDS_BOUNDS]
    if spec.sweep.lr_mode == "effective":
        needs.append("sweep.lr_mode: effective needs the measured median magnitude")
    if not has_epsilon or not needs:
        return plan(spec, data_checksum, None, names, has_epsilon=has_epsilon)
    probe = _probe(asked, data_checksum, needs[0])
    bounds = probe.bounds()
    rates = EffectiveRates.of(bounds, probe.placement) if spec.sweep.lr_mode == "effective" else None
    return plan(spec, data_checksum, bounds, names, has_epsilon=has_epsilon, rates=rates)


def _only(planned: Plan, ids: Collection[str] | None) -> Plan:
    if ids is None:
        return planned
    return replace(planned, trials=tuple(trial for trial in planned.trials if trial.id in ids))


def _probe(asked: Asked, data_checksum: str, need: str) -> ProbeRecord:
    """Return the stored probe of exactly these settings; `need` says what for."""
    record = read_probe(asked.folder)
    path = asked.folder.bounds_json
    if record is None:
        raise StoreError(f"{path} is missing, and {need}; run `epsgrid probe SPEC` first")
    asked_for = bounds_identity(probe_identity(asked.spec, data_checksum))
    lines = differences(bounds_identity(record.identity), asked_for)
    if lines:
        listed = "\n  ".join(lines)
        raise StoreError(f"{path} was measured with other settings:\n  {listed}\nRun `epsgrid probe` with these again.")
    return record


def with_states(planned: Plan, asked: Asked, workers: int | None) -> SweepPlan:
    """Return a plan with what is stored of its trials; `workers` as of `sweep`."""
    seen = {trial.id: glance(asked.folder.trial(trial.id)) for trial in planned.trials}
    states = {trial: found.state for trial, found in seen.items()}
    done = [found.seconds for found in seen.values() if found.state == "done" and found.seconds is not None]
    mean = sum(done) / len(done) if done else None
    slots = workers or asked.spec.execution.workers or default_slots(asked.spec)
    return SweepPlan(
        planned,
        states,
        mean,
        slots,
        extending(asked.spec, asked.folder, planned.trials, states),
        settled=_settled(asked.spec),
    )


def _settled(spec: Spec) -> tuple[str, ...]:
    """Return the states in which a trial is left as it is."""
    return FINISHED if spec.sweep.prune is None else (*FINISHED, PRUNED)


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
        cells=tuple(map(_cell, planned.trials)),
        bounds_checksum=probe.checksum if probe is not None else None,
    )
    record.write(asked.folder.grid_json)


def _cell(trial: PlannedTrial) -> GridCell:
    asked_rate = None if trial.grid_rate == trial.learning_rate else trial.grid_rate
    return GridCell(trial.id, trial.learning_rate, trial.epsilon, trial.seed, trial.grids, asked_rate)


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
