"""How the bounds move with the batch size, as tables of text."""

from __future__ import annotations

from epsgrid.report.batch_exponents import ExponentRows, Fitted, Miss, exponent
from epsgrid.report.table import Table
from epsgrid.report.text.bounds import percentiles
from epsgrid.selection.formatting import NOTHING, power


def exponent_tables(rows: ExponentRows) -> tuple[Table, ...]:
    """Return the bounds at each size, and the exponents of every layer."""
    return _sizes_table(rows), _layers_table(rows)


def _sizes_table(rows: ExponentRows) -> Table:
    """Return the bounds at each size and the errors of scaling, below the verdict."""
    columns = ("batch", "κ", "steps", "lower ε", "decade", "scaling error", "upper ε", "decade", "scaling error")
    note = (
        f"scaling error: decades by which the bounds of batch {rows.base_batch_size}, at 1/√κ of their magnitude, lie "
        "above those measured" + (f", mean of {rows.seeds} seeds and 95 % interval" if rows.seeds > 1 else "")
    )
    points = (f"{rows.verdict}.", *(f"{note}." for note in rows.notes))
    texts = tuple(
        (
            f"{row.batch_size}{' (spec)' if row.batch_size == rows.base_batch_size else ''}",
            f"{row.kappa:.4g}",
            str(row.steps),
            *(power(row.low), power(row.low_decade), _miss(row.low_miss)),
            *(power(row.high), power(row.high_decade), _miss(row.high_miss)),
        )
        for row in rows.sizes
    )
    return Table("Batch sizes: the bounds at each", columns, texts, note, points)


def _layers_table(rows: ExponentRows) -> Table:
    """Return the exponents of every layer."""
    low, high = percentiles(rows.tail_fraction)
    texts = tuple(
        (
            row.name + (" (rounding noise)" if row.is_rounding_noise else ""),
            row.kind,
            f"{row.entries:,}",
            *(_fitted(end) for end in (row.low, row.median, row.high)),
            row.median.regime if row.median else NOTHING,
        )
        for row in rows.layers
    )
    columns = ("layer", "kind", "entries", low, "median", high, "median is")
    note = "exponents p in √v̂ ∝ B^p with 95 % interval, −1/2: noise-dominated, 0: signal-dominated"
    return Table("Batch sizes: exponents of √v̂ by layer", columns, texts, note, texts=2)


def _fitted(fitted: Fitted | None) -> str:
    return NOTHING if fitted is None else exponent(fitted)


def _miss(miss: Miss | None) -> str:
    if miss is None:
        return NOTHING
    mean = _signed(miss.mean)
    return mean if miss.low is None or miss.high is None else f"{mean} [{_signed(miss.low)}, {_signed(miss.high)}]"


def _signed(decades: float) -> str:
    text = f"{abs(decades):.2f}"
    return "0" if not float(text) else f"{'−' if decades < 0 else '+'}{text}"
