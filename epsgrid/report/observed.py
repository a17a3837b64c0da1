"""Which trials' snapshots a report shows: those of the best narrowed setting and of the default ε, the first seed's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from epsgrid.numerics.series import Series
from epsgrid.report.cells import Cell, TrialRow
from epsgrid.report.figures.adaptable import adaptable_numbers
from epsgrid.report.figures.over_time import drift
from epsgrid.report.load import StoredExperiment, load_observations
from epsgrid.report.rows import DEFAULT, NARROWED, BestRow, ObservedRow


@dataclass(frozen=True)
class Observed:
    """A trial whose snapshots are shown.

    Attributes:
        name: whose trial it is: "narrowed" or "default".
        cell: its setting.
        trial: itself.
        series: its snapshots; at least one.
    """

    name: str
    cell: Cell
    trial: TrialRow
    series: Series


def observed(stored: StoredExperiment, rows: Sequence[BestRow]) -> tuple[Observed, ...]:
    """Return the trials to show; a setting that is chosen twice is shown once.

    Args:
        stored: the experiment.
        rows: the best settings.

    Raises:
        CorruptRecordError: the observations of one of these trials are damaged.
    """
    found: list[Observed] = []
    for name in (NARROWED, DEFAULT):
        cell = next((row.choice.cell for row in rows if row.name == name), None)
        if cell is not None and all(cell is not other.cell for other in found):
            found += _of_cell(stored, name, cell)
    return tuple(found)


def _of_cell(stored: StoredExperiment, name: str, cell: Cell) -> list[Observed]:
    """Return the cell's first seed that was observed; none where none was."""
    for trial in cell.trials:
        series = load_observations(stored, trial.id) if trial.state == "done" else None
        if series is not None and series.snapshots:
            return [Observed(name, cell, trial, series)]
    return []


def observed_row(each: Observed, stored: StoredExperiment, optimizer: str) -> ObservedRow:
    """Return what the snapshots of a trial say in numbers."""
    snapshots = each.series.snapshots
    shares = adaptable_numbers(each.series, optimizer=optimizer)
    drifts = drift(each.series, stored.bounds) if stored.bounds else ()
    moved, ends = drifts[-1:], [end for row in drifts for end in (row.low_moved, row.high_moved) if end is not None]
    return ObservedRow(
        name=each.name,
        id=each.trial.id,
        cell=each.cell.words,
        seed=each.trial.seed,
        snapshots=len(snapshots),
        first=snapshots[0].epoch,
        last=snapshots[-1].epoch,
        adaptable_first=shares.total[0] if shares else None,
        adaptable_last=shares.total[-1] if shares else None,
        low_moved=moved[0].low_moved if moved else None,
        high_moved=moved[0].high_moved if moved else None,
        most_moved=max(map(abs, ends), default=None),
    )
