"""How the bounds move with the batch size, as tables of text."""

from __future__ import annotations

from collections.abc import Sequence

from epsgrid.report.batch_exponents import ExponentRows, Fitted, Miss, MovesRow, SizeRow, exponent
from epsgrid.report.table import Table
from epsgrid.report.text.bounds import percentiles
from epsgrid.report.words import NOTHING, power


def exponent_tables(rows: ExponentRows) -> tuple[Table, ...]:
    """Return the bounds at each size, and the exponents of kinds and layers."""
    return (sizes_table(rows), *([moves_table("kind", rows.kinds, rows)] if rows.kinds else []), layers_table(rows))


def sizes_table(rows: ExponentRows) -> Table:
    """Return the bounds at each size beside those carried there, below the verdict."""
    columns = (
        "batch",
        "κ",
        "steps",
        "lower ε",
        "decade",
        "carried",
        "missed by",
        "upper ε",
        "decade",
        "carried",
        "missed by",
    )
    note = (
        f"carried: the decade that the bounds of batch {rows.base_batch_size} give at 1/√κ of their magnitude; missed "
        "by: decades by which the carried magnitude lies above the measured one"
        + (f", mean of {rows.seeds} seeds and 95 % interval" if rows.seeds > 1 else "")
    )
    points = (f"{rows.verdict}.", *(f"{note}." for note in rows.notes))
    texts = tuple(_size_row(row, rows) for row in rows.sizes)
    return Table("Batch sizes: the bounds at each", columns, texts, note, points)


def _size_row(row: SizeRow, rows: ExponentRows) -> tuple[str, ...]:
    is_base = row.batch_size == rows.base_batch_size
    return (
        f"{row.batch_size}{' (spec)' if is_base else ''}",
        f"{row.kappa:.4g}",
        str(row.steps),
        power(row.low),
        power(row.low_decade),
        NOTHING if is_base else power(row.carried_low_decade),
        _miss(row.low_miss),
        power(row.high),
        power(row.high_decade),
        NOTHING if is_base else power(row.carried_high_decade),
        _miss(row.high_miss),
    )


def layers_table(rows: ExponentRows) -> Table:
    """Return the exponents of every layer."""
    return moves_table("layer", rows.layers, rows)


def moves_table(what: str, moves: Sequence[MovesRow], rows: ExponentRows) -> Table:
    """Return the exponents of kinds or of layers.

    Args:
        what: "kind" or "layer".
        moves: their rows.
        rows: of which they are a part.
    """
    low, high = percentiles(rows.tail_fraction)
    is_kind = what == "kind"
    texts = tuple(
        (
            row.name + (" (rounding noise)" if row.is_rounding_noise else ""),
            str(row.layers) if is_kind else row.kind,
            f"{row.entries:,}",
            *(_fitted(end) for end in (row.low, row.median, row.high)),
            row.median.regime if row.median else NOTHING,
            NOTHING if row.miss is None else f"{row.miss:.2f}",
        )
        for row in moves
    )
    second = "layers" if is_kind else "kind"
    columns = (
        what if not is_kind else "kind of layer",
        second,
        "entries",
        low,
        "median",
        high,
        "median is",
        "missed by at most",
    )
    note = (
        "exponents p in √v̂ ∝ B^p with 95 % interval, −1/2: noise-dominated, 0: signal-dominated; missed by at most: "
        "decades between carried and measured, over all sizes and the three percentiles"
    )
    title = f"Batch sizes: exponents of √v̂ by {'kind of layer' if is_kind else 'layer'}"
    return Table(title, columns, texts, None if is_kind else note, texts=1 if is_kind else 2)


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
