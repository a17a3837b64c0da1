"""The state of a sweep, from its files alone: anybody may look while it runs, anywhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from epsgrid.errors import StoreError
from epsgrid.selection.load import code_changes, code_now, read_experiment
from epsgrid.spec.trial import Trial
from epsgrid.store.cells import asked_cells
from epsgrid.store.lease import holder
from epsgrid.store.paths import ExperimentFolder
from epsgrid.store.records import TrialFailure, read_epochs
from epsgrid.store.state import PRUNED, STATES, summary


@dataclass(frozen=True)
class _RunningTrial:
    """A trial that is being trained: its setting, the machine, the epochs done so far and their final number."""

    cell: Trial
    host: str
    epoch: int
    epochs: int


@dataclass(frozen=True)
class Status:
    """The state of a sweep: every trial and its state in the order of training, and the seconds of finished ones.

    `changes` say what of the user's code has changed since.
    """

    name: str
    probed: bool
    cells: tuple[tuple[Trial, str], ...]
    running: tuple[_RunningTrial, ...]
    failures: tuple[TrialFailure, ...]
    seconds: tuple[float, ...]
    changes: tuple[str, ...] = ()

    @property
    def states(self) -> dict[str, int]:
        """Number of trials in every state."""
        return _counted(state for _, state in self.cells)

    @property
    def grids(self) -> dict[str, dict[str, int]]:
        """The same for each grid, and for each batch size with its rule; grids share trials."""
        names = dict.fromkeys(name for cell, _ in self.cells for name in cell.grids)
        return {name: _counted(state for cell, state in self.cells if name in cell.grids) for name in names}

    @property
    def finished(self) -> int:
        """Number of trials with a result."""
        return len(self.seconds)

    @property
    def missing(self) -> int:
        """Number of trials without a result, pruned ones left out."""
        return len(self.cells) - self.finished - self.states[PRUNED]

    @property
    def left_seconds(self) -> float | None:
        """Estimated training time of the missing trials, one after another; None while none has been timed."""
        return sum(self.seconds) / self.finished * self.missing if self.seconds else None


def status(folder: ExperimentFolder) -> Status:
    """Look at all trials of the grids and batch sizes that were swept here; nothing is written."""
    experiment = read_experiment(folder)
    seen = [(cell, summary(folder.trial(cell.id))) for cell in asked_cells(folder)]
    failures = [folder.trial(cell.id).failure_json for cell, found in seen if found.state == "failed"]
    running = []
    for cell in (cell for cell, found in seen if found.state == "running"):
        trial, epoch = folder.trial(cell.id), 0
        with suppress(StoreError):  # being rewritten at this moment
            epoch = len(read_epochs(trial.metrics_jsonl))
        host = str(holder(trial.lease) or "")
        epochs = max(epoch, experiment.spec["training"]["epochs"])  # a training of the user's own may report more
        running.append(_RunningTrial(cell, host, epoch, epochs))
    return Status(
        name=experiment.name,
        probed=folder.bounds_json.exists(),
        cells=tuple((cell, found.state) for cell, found in seen),
        running=tuple(running),
        failures=tuple(TrialFailure.read(path) for path in failures if path.exists()),  # one may be running again
        seconds=tuple(found.seconds for _, found in seen if found.seconds is not None),
        changes=code_changes(folder, code_now(folder, experiment)),
    )


def _counted(states: Iterable[str]) -> dict[str, int]:
    counts = Counter(states)
    return {state: counts[state] for state in STATES}
