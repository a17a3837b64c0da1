"""The winners on fresh seeds: what is left of a choice when the seeds that made it do not judge it.

The best of many cells is chosen with the seeds it has, and owes part of its lead to them. Trained again on seeds that
no choice has seen, the same settings are compared without that advantage. This is told beside the comparison and
changes nothing in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from epsgrid.numerics.statistics import Interval, mean_interval
from epsgrid.report.cells import Cell, Choice, Spread, read_cells, tally
from epsgrid.report.load import StoredExperiment, of_trials
from epsgrid.report.verdict import Difference, difference, unknown_difference
from epsgrid.report.words import Metric, count
from epsgrid.store.records import ConfirmRecord, GridRecord

if TYPE_CHECKING:
    from epsgrid.report.rows import BestRow

NARROWED, CONVENTIONAL, DEFAULT = "narrowed", "conventional", "default"


@dataclass(frozen=True)
class ConfirmedRow:
    """A winner on fresh seeds.

    Attributes:
        name: whose: a grid, or "default".
        cell: its setting, with its trials on the fresh seeds alone.
        chosen_from: number of cells it was chosen from.
        when_chosen: test metric on the seeds that chose it; None where that is not there any more.
        interval: of the mean test metric on the fresh seeds; None without a score.
        is_current: whether the stored results would choose the same setting now.
    """

    name: str
    cell: Cell
    chosen_from: int
    when_chosen: Spread | None
    interval: Interval | None
    is_current: bool


@dataclass(frozen=True)
class Confirmation:
    """The winners compared on fresh seeds.

    Attributes:
        seeds: the fresh ones.
        rows: a row for each winner.
        regret: conventional − narrowed, as in the comparison, on fresh seeds alone.
        gain_over_default: narrowed − default, likewise.
        notes: what a reader must know, a sentence each.
    """

    seeds: tuple[int, ...]
    rows: tuple[ConfirmedRow, ...]
    regret: Difference
    gain_over_default: Difference
    notes: tuple[str, ...]


def confirmation(
    stored: StoredExperiment, cells: Sequence[Cell], best: Sequence[BestRow], metric: Metric | None
) -> Confirmation | None:
    """Return the winners on fresh seeds; None where that was not asked for.

    Args:
        stored: the experiment.
        cells: of its grids.
        best: its best settings now.
        metric: of the grids' trials; None while none has a result.

    Raises:
        CorruptRecordError: the record of a trial is damaged.
    """
    record = stored.confirm
    if record is None:
        return None
    fresh = _fresh_seeds(record, cells)
    own = {cell.id: cell for cell in record.cells if cell.seed in fresh}
    grid = GridRecord(record.optimizer, {}, 1.0, tuple(own.values()), None)
    trained = read_cells(of_trials(stored, grid), None)
    rows = tuple(_row(name, cell, record, cells, best) for cell in trained for name in cell.grids)
    choices = {row.name: Choice(row.cell, None, 1, 0) for row in rows}
    return Confirmation(
        seeds=tuple(fresh),
        rows=tuple(sorted(rows, key=lambda row: list(record.chosen_from).index(row.name))),
        regret=_difference(choices, CONVENTIONAL, NARROWED, metric),
        gain_over_default=_difference(choices, NARROWED, DEFAULT, metric),
        notes=tuple(_notes(record, fresh, rows)),
    )


def _fresh_seeds(record: ConfirmRecord, cells: Sequence[Cell]) -> list[int]:
    """Return the seeds that no grid has used since."""
    used = {trial.seed for cell in cells for trial in cell.trials}
    return [seed for seed in record.seeds if seed not in used]


def _row(name: str, cell: Cell, record: ConfirmRecord, cells: Sequence[Cell], best: Sequence[BestRow]) -> ConfirmedRow:
    place = (cell.learning_rate, cell.epsilon)
    there = next((other for other in cells if (other.learning_rate, other.epsilon) == place), None)
    current = next((row.choice.cell for row in best if row.name == name), None)
    scores = list(cell.test_by_seed().values())
    return ConfirmedRow(
        name=name,
        cell=cell,
        chosen_from=record.chosen_from.get(name, 0),
        when_chosen=there.test if there else None,
        interval=mean_interval(scores) if scores else None,
        is_current=current is not None and (current.learning_rate, current.epsilon) == place,
    )


def _difference(choices: Mapping[str, Choice], better: str, worse: str, metric: Metric | None) -> Difference:
    """Return the difference of two winners over the seeds on which both are done."""
    for name in (better, worse):
        if name not in choices:
            return unknown_difference(f"the best of {name} was not trained on fresh seeds")
    first, second = choices[better].cell, choices[worse].cell
    assert first is not None and second is not None
    for name, cell in ((better, first), (worse, second)):
        if not cell.tally.done and not cell.tally.diverged:
            return unknown_difference(f"{name}: no trial on a fresh seed has finished")
    return difference(choices[better], choices[worse], (better, worse), metric)


def _notes(record: ConfirmRecord, fresh: Sequence[int], rows: Sequence[ConfirmedRow]) -> list[str]:
    notes = []
    if used := [seed for seed in record.seeds if seed not in fresh]:
        listed = ", ".join(map(str, used))
        notes.append(f"left out, for a grid has used them since and they are not fresh: seeds {listed}")
    changed = [row.name for row in rows if not row.is_current]
    if changed:
        notes.append(
            f"the best of {' and '.join(changed)} is another setting now than the one confirmed here; `epsgrid sweep "
            "--confirm N` trains the new one"
        )
    trials = tally(trial for row in rows for trial in row.cell.trials)
    if missing := trials.trials - trials.done - trials.diverged:
        again = f"`epsgrid sweep --confirm {len(record.seeds)}`"
        notes.append(f"{missing} of {count(trials.trials, 'trial')} on fresh seeds have no result; {again} trains them")
    return notes
