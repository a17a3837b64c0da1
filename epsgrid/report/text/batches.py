"""Tables of other batch sizes: how the bounds move, and what each scaling rule makes of one setting."""

from __future__ import annotations

from collections.abc import Sequence

from epsgrid.report.batch_exponents import ExponentRows, Fitted, Miss, MovesRow, SizeRow, exponent
from epsgrid.report.batches import BASE, BatchesRow, TrainedBatches
from epsgrid.report.table import Table
from epsgrid.report.text.bounds import percentiles, signed_decades
from epsgrid.report.text.searches import difference_texts, seeds_text
from epsgrid.report.words import NOTHING, power, score


def batches_tables(batches: BatchesRow | None) -> tuple[Table, ...]:
    """Return the tables of other batch sizes; none where nothing is known of them."""
    if batches is None:
        return ()
    trained = () if batches.trained is None else (_trained_table(batches.trained),)
    return (*(exponent_tables(batches.exponents) if batches.exponents else ()), *trained)


def exponent_tables(rows: ExponentRows) -> tuple[Table, ...]:
    """Return the bounds at each size beside the scaled ones, and the exponents of kinds and layers."""
    ends = ("ε", "decade", "scaled", "scaling error")
    columns = ("batch", "κ", "steps", *(f"lower {ends[0]}", *ends[1:]), *(f"upper {ends[0]}", *ends[1:]))
    several = f", mean of {rows.seeds} seeds and 95 % interval" if rows.seeds > 1 else ""
    note = (
        f"scaled: the decade that the bounds of batch {rows.base_batch_size} give at 1/√κ of their magnitude; scaling "
        f"error: decades by which the scaled magnitude lies above the measured one{several}"
    )
    points = (f"{rows.verdict}.", *(f"{note}." for note in rows.notes))
    sizes = Table(
        "Batch sizes: the bounds at each", columns, tuple(_size_row(row, rows) for row in rows.sizes), note, points
    )
    kinds = [_moves_table("kind of layer", rows.kinds, rows)] if rows.kinds else []
    return (sizes, *kinds, _moves_table("layer", rows.layers, rows))


def _size_row(row: SizeRow, rows: ExponentRows) -> tuple[str, ...]:
    is_base = row.batch_size == rows.base_batch_size
    ends = (
        (row.low, row.low_decade, row.carried_low_decade, row.low_miss),
        (row.high, row.high_decade, row.carried_high_decade, row.high_miss),
    )
    texts = (
        (power(epsilon), power(decade), NOTHING if is_base else power(carried), _miss(miss))
        for epsilon, decade, carried, miss in ends
    )
    size = f"{row.batch_size}{' (spec)' if is_base else ''}"
    return (size, f"{row.kappa:.4g}", str(row.steps), *(text for end in texts for text in end))


def _miss(miss: Miss | None) -> str:
    if miss is None:
        return NOTHING
    mean, low, high = (signed_decades(decades, digits=2) for decades in (miss.mean, miss.low, miss.high))
    return mean if miss.low is None else f"{mean} [{low}, {high}]"


def _moves_table(what: str, moves: Sequence[MovesRow], rows: ExponentRows) -> Table:
    """Return the exponents of kinds or of layers."""
    low, high = percentiles(rows.tail_fraction)
    of_layers = what == "layer"

    def fitted(end: Fitted | None) -> str:
        return NOTHING if end is None else exponent(end)

    texts = tuple(
        (
            row.name + (" (rounding noise)" if row.is_rounding_noise else ""),
            row.kind if of_layers else str(row.layers),
            f"{row.entries:,}",
            *map(fitted, (row.low, row.median, row.high)),
            row.median.regime if row.median else NOTHING,
            NOTHING if row.miss is None else f"{row.miss:.2f}",
        )
        for row in moves
    )
    second = "kind" if of_layers else "layers"
    columns = (what, second, "entries", low, "median", high, "median is", "largest scaling error")
    note = (
        "exponents p in √v̂ ∝ B^p with 95 % interval, −1/2: noise-dominated, 0: signal-dominated; largest scaling "
        "error: decades between scaled and measured, over all sizes and the three percentiles"
    )
    title = f"Batch sizes: exponents of √v̂ by {what}"
    return Table(title, columns, texts, note if of_layers else None, texts=2 if of_layers else 1)


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
