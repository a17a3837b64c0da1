"""Tables of other batch sizes: how the bounds move, and what each scaling rule makes of one setting."""

from __future__ import annotations

from dataclasses import replace

from epsgrid.numerics.statistics import Interval
from epsgrid.report.batches import BASE, BatchesRow, NoiseRows, TrainedBatches
from epsgrid.report.table import Table
from epsgrid.report.text.bounds import signed_decades
from epsgrid.report.text.predictions import laws_table
from epsgrid.report.text.searches import difference_texts, seeds_text
from epsgrid.selection.formatting import NOTHING, power, score


def batches_tables(batches: BatchesRow | None) -> tuple[Table, ...]:
    """Return the tables of other batch sizes; none where nothing is known of them."""
    if batches is None:
        return ()
    noise = noise_tables(batches.noise) if batches.noise else ()
    return (*noise, _trained_table(batches.trained)) if batches.trained else noise


def noise_tables(rows: NoiseRows) -> tuple[Table, ...]:
    """Return the bounds at each size with the errors of scaling, and the laws of every layer."""
    note = (
        f"scaling error: decades by which the bounds of batch {rows.base_batch_size}, at 1/√κ of their magnitude, lie "
        "above those measured" + (f", mean of {rows.seeds} seeds and 95 % interval" if rows.seeds > 1 else "")
    )
    sizes = tuple(
        (
            f"{row.batch_size}{' (spec)' if row.batch_size == rows.base_batch_size else ''}",
            *(f"{row.kappa:.4g}", str(row.steps)),
            *(power(row.low), _scaling_error(row.low_scaling_error)),
            *(power(row.high), _scaling_error(row.high_scaling_error)),
        )
        for row in rows.sizes
    )
    columns = ("batch", "κ", "steps", "lower ε", "scaling error", "upper ε", "scaling error")
    points = tuple(f"{point}." for point in (rows.verdict, *rows.notes))
    bounds = Table("Batch sizes: the bounds at each", columns, sizes, note, points)
    if not rows.laws:
        return (bounds,)
    laws = laws_table(rows.laws, rows.tail_fraction, rows.base_batch_size, rows.sizes[-1].batch_size)
    law = f"p: the slope of log √v̂ at batch {rows.base_batch_size}, −1/2 where v̂ is all noise and 0 where none of it is"
    return (bounds, replace(laws, title="Batch sizes: laws by layer", note=f"{law}; {laws.note}"))


def _scaling_error(error: Interval | None) -> str:
    if error is None:
        return NOTHING
    mean, low, high = (signed_decades(decades, digits=2) for decades in (error.mean, error.low, error.high))
    return mean if error.low is None else f"{mean} [{low}, {high}]"


def _trained_table(trained: TrainedBatches) -> Table:
    """Return one row per rule and batch size, below what scaling ε along with the learning rate gains."""
    metric = trained.metric
    gains = []
    for row in trained.forgetting:
        mean, ends = difference_texts(row.gain, metric)
        known = "" if row.gain.mean is None else f" on test, 95 % interval {ends}"
        gains.append(f"ε moved along against ε kept, batch {row.batch_size}: {mean}{known}.")
    skipped = [f"{place} was left out: {why}." for place, why in trained.skipped]
    note = (
        f"{trained.setting} of batch {trained.base_batch_size}, {trained.origin}, trained for as many epochs at every "
        f"batch size; gap: {metric.name} there − at the base, positive where it is better there, by seed"
    )
    splits = tuple(dict.fromkeys((trained.selection, "test")))
    rows = tuple(
        (
            row.rule + (f": {row.changes}" if row.changes else ""),
            str(row.batch_size),
            power(row.cell.learning_rate),
            power(row.cell.epsilon),
            seeds_text(row.cell.tally, row.cell.tally.trials),
            *(
                NOTHING if spread is None else score(spread.mean, spread.sd, metric)
                for spread in (row.cell.score, row.cell.test)[-len(splits) :]
            ),
            *((NOTHING, NOTHING) if row.rule == BASE else difference_texts(row.gap, metric)),
        )
        for row in trained.rows
    )
    columns = ("rule", "batch", "learning rate", "ε", "seeds", *splits, "gap on test", "95 % interval")
    return Table("Batch sizes: one setting at each", columns, rows, note, (*gains, *skipped))
