"""How a sweep stands, from its files alone: any number of people may look while it runs, anywhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from epsgrid.errors import StoreError
from epsgrid.spec import spec_from_json
from epsgrid.spec.trial import Trial
from epsgrid.stages.experiment import read_experiment
from epsgrid.store.cells import asked_cells
from epsgrid.store.lease import holder
from epsgrid.store.paths import ExperimentFolder
from epsgrid.store.records import EpochRecord, TrialFailure, read_epochs
from epsgrid.store.state import FINISHED, PRUNED, STATES, Summary, summary


@dataclass(frozen=True)
class RunningTrial:
    """A trial that somebody is at work on.

    Attributes:
        cell: which.
        host: where, as the machine calls itself; "" where the claim was given back just now.
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
    """How a sweep stands.

    Attributes:
        folder: the experiment's folder.
        name: the experiment's name.
        probed: whether bounds are stored.
        states: number of trials by state, every state named.
        grids: the same for each grid, and for each batch size with its rule; they share trials, so that their sums may
            exceed the whole.
        running: the trials under way.
        failures: why the failed trials failed.
        cells: every trial and its state, in the order of training.
        trained_seconds: training time of all finished trials together.
        left_seconds: training time that the trials without a result will take, one after another, pruned ones left
            out; None while none has been timed.
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
        """Trials that have a result."""
        return sum(self.states[state] for state in FINISHED)

    @property
    def missing(self) -> int:
        """Trials without a result, but those that were pruned."""
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
    pruned = sum(found.state == PRUNED for found in seen.values())
    by_state = {state: [cell for cell in cells if seen[cell.id].state == state] for state in ("running", "failed")}
    epochs = spec_from_json(experiment.spec, str(folder.experiment_json)).training.epochs if by_state["running"] else 0
    return Status(
        folder=folder,
        name=experiment.name,
        probed=folder.bounds_json.exists(),
        states=_counted(seen.values()),
        grids=_by_grid(cells, seen),
        running=tuple(_running(folder, cell, epochs) for cell in by_state["running"]),
        failures=tuple(_failures(folder, by_state["failed"])),
        cells=tuple((cell, seen[cell.id].state) for cell in cells),
        trained_seconds=sum(seconds),
        left_seconds=sum(seconds) / len(seconds) * (len(cells) - len(seconds) - pruned) if seconds else None,
    )


def _counted(seen: Iterable[Summary]) -> dict[str, int]:
    counts = Counter(found.state for found in seen)
    return {state: counts[state] for state in STATES}


def _by_grid(cells: Sequence[Trial], seen: Mapping[str, Summary]) -> dict[str, dict[str, int]]:
    names = dict.fromkeys(name for cell in cells for name in cell.grids)
    return {name: _counted([seen[cell.id] for cell in cells if name in cell.grids]) for name in names}


def _running(folder: ExperimentFolder, cell: Trial, epochs: int) -> RunningTrial:
    trial = folder.trial(cell.id)
    try:
        done = read_epochs(trial.metrics_jsonl)
    except StoreError:  # being rewritten at this moment
        done = ()
    return RunningTrial(cell, str(holder(trial.lease) or ""), len(done), epochs, done[-1] if done else None)


def _failures(folder: ExperimentFolder, cells: Sequence[Trial]) -> list[TrialFailure]:
    paths = [folder.trial(cell.id).failure_json for cell in cells]
    return [TrialFailure.read(path) for path in paths if path.exists()]  # one may have been tried again since
