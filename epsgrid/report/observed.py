"""Which trials' snapshots a report shows: those of the best narrowed setting and of the default ε, the first seed's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from epsgrid.grids import DEFAULT, NARROWED
from epsgrid.numerics.series import Series
from epsgrid.report.figures.over_time import drift
from epsgrid.report.rows import MovedRow, ObservedRow
from epsgrid.selection.best import BestRow
from epsgrid.selection.cells import Cell, TrialRow
from epsgrid.selection.load import StoredExperiment
from epsgrid.store import observations


@dataclass(frozen=True)
class Observed:
    """A trial whose snapshots are shown.

    Attributes:
        name: whose trial it is: "narrowed" or "default".
        series: its snapshots; at least one.
    """

    name: str
    cell: Cell
    trial: TrialRow
    series: Series


def observed(stored: StoredExperiment, rows: Sequence[BestRow]) -> tuple[Observed, ...]:
    """Return the trials to show, of each setting the first seed that was observed.

    A setting that is chosen twice is shown once. The files are large, so only those of the trials shown are read.

    Raises:
        StoreError: a newer version of epsgrid wrote the observations of one of these trials.
        CorruptRecordError: they are damaged; the message names the file.
    """
    found: list[Observed] = []
    for name in (NARROWED, DEFAULT):
        cell = next((row.choice.cell for row in rows if row.name == name), None)
        if cell is None or any(cell is other.cell for other in found):
            continue
        for trial in cell.trials:
            series = _series(stored, trial)
            if series is not None and series.snapshots:
                found.append(Observed(name, cell, trial, series))
                break
    return tuple(found)


def _series(stored: StoredExperiment, trial: TrialRow) -> Series | None:
    """Return the snapshots of a trial; None where it is not done or kept none."""
    return observations.read(stored.folder.trial(trial.id).observations_jsonl) if trial.state == "done" else None


def observed_row(each: Observed, stored: StoredExperiment) -> ObservedRow:
    """Return what the snapshots of a trial say in numbers."""
    snapshots = each.series.snapshots
    shares = [share for _, share in each.series.adaptable()]
    drifts = drift(each.series, stored.bounds) if stored.bounds else ()
    return ObservedRow(
        name=each.name,
        id=each.trial.id,
        cell=each.cell.label,
        seed=each.trial.seed,
        snapshots=len(snapshots),
        first=snapshots[0].epoch,
        last=snapshots[-1].epoch,
        adaptable_first=shares[0] if shares else None,
        adaptable_last=shares[-1] if shares else None,
        low_moved=drifts[-1].low_moved if drifts else None,
        high_moved=drifts[-1].high_moved if drifts else None,
    )


def most_moved(stored: StoredExperiment, rows: Sequence[BestRow]) -> MovedRow | None:
    """Return the training at the best settings whose bounds moved farthest.

    None without a probe, or where none of these trainings kept two snapshots.

    Raises:
        StoreError, CorruptRecordError: see `observed`.
    """
    if stored.bounds is None:
        return None
    found: list[tuple[float, str, float | None]] = []
    for cell in {row.choice.cell.label: row.choice.cell for row in rows if row.choice.cell is not None}.values():
        for trial in cell.trials:
            series = _series(stored, trial)
            if series is None or len(series.snapshots) < 2:
                continue
            moved = [abs(end) for row in drift(series, stored.bounds) for end in (row.low_moved, row.high_moved) if end]
            label = f"{cell.label}, seed {trial.seed}"
            found.append((max(moved, default=0.0), label, series.snapshots[-1].epoch))
    return MovedRow(*max(found, key=lambda row: row[0]), len(found)) if found else None
