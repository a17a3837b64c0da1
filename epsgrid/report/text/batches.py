"""Bounds and trials at other batch sizes as tables of text; the exponents are in `exponents`."""

from __future__ import annotations

from epsgrid.report.batches import BASE, BatchesRow, TrainedBatches, TrainedRow
from epsgrid.report.table import Table
from epsgrid.report.text.exponents import exponent_tables
from epsgrid.selection.difference import Difference
from epsgrid.selection.formatting import NOTHING, Metric, gain, interval, power, score


def batches_tables(batches: BatchesRow | None) -> tuple[Table, ...]:
    """Return the tables of bounds and trials at other batch sizes; none where there are none."""
    if batches is None:
        return ()
    trained = () if batches.trained is None else (_trained_table(batches.trained),)
    return (*(exponent_tables(batches.exponents) if batches.exponents else ()), *trained)


def _trained_table(trained: TrainedBatches) -> Table:
    """Return one row per rule and batch size, below what forgetting ε costs."""
    scores = tuple(dict.fromkeys((trained.selection, "test")))
    columns = ("rule", "batch", "learning rate", "ε", "seeds", *scores, "gap on test", "95 % interval")
    points = []
    for each in trained.forgetting:
        mean, ends = _gap(each.gain, trained.metric)
        if each.gain.mean is not None:
            mean += " on test" + (
                f", 95 % interval {ends} over {each.gain.n} seeds" if ends != NOTHING else ", one seed"
            )
        points.append(f"ε moved along against ε kept, batch {each.batch_size}: {mean}.")
    points += [f"{place} was left out: {why}." for place, why in trained.skipped]
    note = (
        f"{trained.setting} of batch {trained.base_batch_size}, {trained.origin}, trained for as many epochs at every "
        f"batch size; gap: {trained.metric.name} there − at the base, positive where it is better there, by seed"
    )
    rows = tuple(_row(row, trained) for row in trained.rows)
    return Table("Batch sizes: one setting at each", columns, rows, note, tuple(points))


def _row(row: TrainedRow, trained: TrainedBatches) -> tuple[str, ...]:
    metric, tally = trained.metric, row.cell.tally
    spreads = (row.cell.score, row.cell.test) if trained.selection != "test" else (row.cell.test,)
    return (
        row.rule + (f": {row.changes}" if row.changes else ""),
        str(row.batch_size),
        power(row.cell.learning_rate),
        power(row.cell.epsilon),
        f"{tally.done}/{tally.trials}" + (f" ({tally.diverged} diverged)" if tally.diverged else ""),
        *(score(spread.mean, spread.sd, metric) if spread else NOTHING for spread in spreads),
        *((NOTHING, NOTHING) if row.rule == BASE else _gap(row.gap, metric)),
    )


def _gap(gap: Difference, metric: Metric) -> tuple[str, str]:
    if gap.mean is None:
        return f"not known: {gap.unknown}", NOTHING
    mean = f"{gain(gap.mean, metric)}{metric.difference_unit}"
    return mean, NOTHING if gap.low is None or gap.high is None else interval(gap.low, gap.high, metric)
