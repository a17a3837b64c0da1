"""The winners on fresh seeds: how much of a lead remains when the seeds that made the choice do not judge it.

The best of many cells is chosen with the seeds it has, and owes part of its lead to them. Trained again on seeds that
no choice has seen, the same settings are compared without that advantage. This stands beside the comparison and
changes nothing in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from epsgrid.numerics.statistics import mean_interval
from epsgrid.report.rows import Confirmation, ConfirmedRow
from epsgrid.selection.best import BestRow
from epsgrid.selection.cells import (
    CONVENTIONAL,
    DEFAULT,
    NARROWED,
    Cell,
    Choice,
    Difference,
    difference,
    read_cells,
    tally,
    unknown_difference,
)
from epsgrid.selection.formatting import Metric, count
from epsgrid.selection.load import StoredExperiment, of_trials
from epsgrid.store.records import ConfirmRecord, GridRecord


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
    used = {trial.seed for cell in cells for trial in cell.trials}
    fresh = tuple(seed for seed in record.seeds if seed not in used)
    own = {cell.id: cell for cell in record.cells if cell.seed in fresh}
    grid = GridRecord(record.optimizer, {}, 1.0, tuple(own.values()), None)
    trained = read_cells(of_trials(stored, grid))
    rows = [_row(name, cell, record, cells, best) for cell in trained for name in cell.grids]
    choices = {row.name: Choice(row.cell, None, 1, 0) for row in rows}
    return Confirmation(
        seeds=fresh,
        rows=tuple(sorted(rows, key=lambda row: list(record.chosen_from).index(row.name))),
        regret=_difference(choices, CONVENTIONAL, NARROWED, metric),
        gain_over_default=_difference(choices, NARROWED, DEFAULT, metric),
        notes=tuple(_notes(record, fresh, rows)),
    )


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
    for name in (better, worse):
        cell = choices[name].cell
        if cell is not None and not cell.tally.done and not cell.tally.diverged:
            return unknown_difference(f"{name}: no trial on a fresh seed has finished")
    return difference(choices[better], choices[worse], (better, worse), metric)


def _notes(record: ConfirmRecord, fresh: Sequence[int], rows: Sequence[ConfirmedRow]) -> Iterator[str]:
    if used := [str(seed) for seed in record.seeds if seed not in fresh]:
        yield f"left out, for a grid has used them since and they are not fresh: seeds {', '.join(used)}"
    if changed := [row.name for row in rows if not row.is_current]:
        yield (
            f"the best of {' and '.join(changed)} is another setting now than the one confirmed here; `epsgrid sweep "
            "--confirm N` trains the new one"
        )
    trials = tally(trial for row in rows for trial in row.cell.trials)
    if missing := trials.trials - trials.done - trials.diverged:
        again = f"`epsgrid sweep --confirm {len(record.seeds)}`"
        yield f"{missing} of {count(trials.trials, 'trial')} on fresh seeds have no result; {again} trains them"
