"""The state of a sweep, from its files alone: anybody may look while it runs, anywhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from epsgrid.errors import StoreError
from epsgrid.spec.loading import spec_from_json
from epsgrid.spec.trial import Trial
from epsgrid.stages.experiment import read_experiment
from epsgrid.store.cells import asked_cells
from epsgrid.store.lease import holder
from epsgrid.store.paths import ExperimentFolder
from epsgrid.store.records import EpochRecord, TrialFailure, read_epochs
from epsgrid.store.state import FINISHED, PRUNED, STATES, summary


@dataclass(frozen=True)
class RunningTrial:
    """A trial that is being trained.

    Attributes:
        cell: its id and setting.
        host: the machine's own name; "" where the lease was given back just now.
        epoch: whole epochs done.
        epochs: epochs in all.
        last: the latest epoch; None before the first has ended.
    """

    cell: Trial
    host: str
    epoch: int
    epochs: int
    last: EpochRecord | None


@dataclass(frozen=True)
class Status:
    """The state of a sweep.

    Attributes:
        folder: the experiment's folder.
        name: the experiment's name.
        probed: whether bounds are stored.
        states: number of trials in every state.
        grids: the same for each grid, and for each batch size with its rule; they share trials, so that their sums may
            exceed the whole.
        running: the trials under way.
        failures: why the failed trials failed.
        cells: every trial and its state, in the order of training.
        trained_seconds: training time of all finished trials together.
        left_seconds: estimated training time of the trials without a result, one after another, pruned ones left out;
            None while none has been timed.
    """

    folder: ExperimentFolder
    name: str
    probed: bool
    states: Mapping[str, int]
    grids: Mapping[str, Mapping[str, int]]
    running: tuple[RunningTrial, ...]
    failures: tuple[TrialFailure, ...]
    cells: tuple[tuple[Trial, str], ...]
    trained_seconds: float
    left_seconds: float | None

    @property
    def total(self) -> int:
        """Number of trials."""
        return sum(self.states.values())

    @property
    def finished(self) -> int:
        """Number of trials with a result."""
        return sum(self.states[state] for state in FINISHED)

    @property
    def missing(self) -> int:
        """Number of trials without a result, pruned ones left out."""
        return self.total - self.finished - self.states[PRUNED]


def status(folder: ExperimentFolder) -> Status:
    """Look at all trials of the grids and batch sizes that were swept here; nothing is written.

    Raises:
        StoreError: there is no experiment in this folder.
        CorruptRecordError: a stored file is damaged; the message names it.
    """
    experiment = read_experiment(folder)
    cells = asked_cells(folder)
    seen = {cell.id: summary(folder.trial(cell.id)) for cell in cells}
    seconds = [found.seconds for found in seen.values() if found.seconds is not None]
    states = {trial: found.state for trial, found in seen.items()}
    grids = dict.fromkeys(name for cell in cells for name in cell.grids)
    running = [cell for cell in cells if states[cell.id] == "running"]
    epochs = spec_from_json(experiment.spec, str(folder.experiment_json)).training.epochs if running else 0
    failures = [folder.trial(trial).failure_json for trial, state in states.items() if state == "failed"]
    counts = _counted(states.values())
    left = len(cells) - len(seconds) - counts[PRUNED]
    return Status(
        folder=folder,
        name=experiment.name,
        probed=folder.bounds_json.exists(),
        states=counts,
        grids={name: _counted(states[cell.id] for cell in cells if name in cell.grids) for name in grids},
        running=tuple(_running(folder, cell, epochs) for cell in running),
        failures=tuple(TrialFailure.read(path) for path in failures if path.exists()),  # one may be running again
        cells=tuple((cell, states[cell.id]) for cell in cells),
        trained_seconds=sum(seconds),
        left_seconds=sum(seconds) / len(seconds) * left if seconds else None,
    )


def _counted(states: Iterable[str]) -> dict[str, int]:
    counts = Counter(states)
    return {state: counts[state] for state in STATES}


def _running(folder: ExperimentFolder, cell: Trial, epochs: int) -> RunningTrial:
    trial = folder.trial(cell.id)
    try:
        done = read_epochs(trial.metrics_jsonl)
    except StoreError:  # being rewritten at this moment
        done = ()
    return RunningTrial(cell, str(holder(trial.lease) or ""), len(done), epochs, done[-1] if done else None)
