"""Tables and lines of gradient magnitudes: what `epsgrid probe` prints, and `epsgrid inspect` of a probe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from epsgrid.cli.console import out
from epsgrid.cli.fitting import TOGETHER, Column, fitted, glyphs, in_columns, names_column
from epsgrid.cli.sparkline import Axis
from epsgrid.cli.tables import report_table
from epsgrid.selection.formatting import duration

if TYPE_CHECKING:
    from rich.console import RenderableType

    from epsgrid.numerics.bounds import EpsilonBounds
    from epsgrid.numerics.magnitudes import Bound, LayerStatistics
    from epsgrid.store.records import ProbeRecord

ROWS_IN_A_TERMINAL = 40
_NAMES_SHOWN = 3


def shown_rows(names: Sequence[str], first: Sequence[str], *, all_layers: bool) -> list[int]:
    """Return the rows to show: all, or in a terminal so many, those that come first before the others.

    Args:
        names: of all layers, in the model's order.
        first: those that set a bound.
        all_layers: show all in a terminal, too.
    """
    rows = range(len(names))
    if all_layers or not out().is_terminal or len(names) <= ROWS_IN_A_TERMINAL:
        return list(rows)
    ahead = [row for row in rows if names[row] in first]
    return [*ahead, *(row for row in rows if names[row] not in first)][:ROWS_IN_A_TERMINAL]


def hidden_line(shown: int, layers: int) -> list[str]:
    """Return the line that tells how many layers are left out; none where all are shown."""
    return [f"and {layers - shown} more layers: --all-layers shows them"] if shown < layers else []


def layers(bounds: EpsilonBounds, *, all_layers: bool) -> list[RenderableType]:
    """Return the table of a probe: one row per layer with its histogram, those that set a bound marked."""
    from rich.text import Text

    names = [layer.name for layer in bounds.layers]
    rows = shown_rows(names, (*bounds.low.layers, *bounds.high.layers), all_layers=all_layers)
    chosen = [bounds.layers[row] for row in rows]
    columns, width = fitted(_layer_columns(chosen, bounds))
    ends = (bounds.low.magnitude, bounds.high.magnitude)
    axis = Axis.of([layer.histogram for layer in bounds.layers], width, glyphs(), ends)
    columns.append(Column(axis.header(), tuple(axis.line(layer.histogram) for layer in chosen), is_text=True))
    blank = [""] * (len(columns) - 2)
    rows_below = [
        (TOGETHER, *blank, axis.line(*(layer.histogram for layer in bounds.layers))),
        ("bounds", *blank, axis.span(*ends)),
    ]
    made = in_columns(columns, [*zip(*(column.cells for column in columns), strict=True), *rows_below])
    return [made, *map(Text, hidden_line(len(rows), len(names)))]


def _layer_columns(chosen: Sequence[LayerStatistics], bounds: EpsilonBounds) -> list[Column]:
    low, high = f"{bounds.tail_fraction:.3g}", f"{1 - bounds.tail_fraction:.3g}"
    statistics = list(zip(*map(_statistics, chosen), strict=True))
    columns = [
        names_column(tuple(layer.name for layer in chosen)),
        Column("kind", tuple(layer.kind for layer in chosen), 3, is_text=True),
        Column("shape", tuple("×".join(map(str, layer.shape)) or "scalar" for layer in chosen), 1, is_text=True),
        Column("entries", tuple(f"{layer.entries:,}" for layer in chosen), 4),
        Column("non-zero", tuple(f"{layer.nonzero:,}" for layer in chosen), 2),
        Column(f"√v̂ at {low}", statistics[0]),
        Column("median", statistics[1], 5),
        Column(f"at {high}", statistics[2]),
        Column("sets", tuple(_mark(layer.name, bounds) for layer in chosen)),
    ]
    return columns if any(layer.kind != "other" for layer in chosen) else [columns[0], *columns[2:]]


def _statistics(layer: LayerStatistics) -> tuple[str, str, str]:
    if layer.low is None or layer.high is None:
        return str(layer.status), "", ""
    median = layer.histogram.quantile(0.5) if layer.histogram is not None else None
    return f"{layer.low:.3g}", f"{median:.3g}" if median is not None else "", f"{layer.high:.3g}"


def _mark(name: str, bounds: EpsilonBounds) -> str:
    return ", ".join(end for end, bound in (("low", bounds.low), ("high", bounds.high)) if name in bound.layers)


def bounds_lines(record: ProbeRecord, bounds: EpsilonBounds) -> list[str]:
    """Return the lines under a probe's table: the bounds, who sets them, what was left out, what it cost."""
    lines = [
        "",
        f"ε bounds: {bounds.low.decade:.0e} … {bounds.high.decade:.0e}  ({len(bounds.decades)} decades)",
        f"  low   {_bound_line(bounds.low)}",
        f"  high  {_bound_line(bounds.high)}",
        f"ε enters {record.placement.description}; {record.placement.conversion}",
    ]
    if bounds.skipped:
        lines.append("left out: " + "; ".join(f"{layer.name} ({layer.status})" for layer in bounds.skipped))
    data = f"{record.steps} batches of {record.batch_size}; {record.data_description}"
    return [*lines, f"{data}; {duration(record.cost_seconds)}", ""]


def _bound_line(bound: Bound) -> str:
    names = ", ".join(bound.layers[:_NAMES_SHOWN])
    if len(bound.layers) > _NAMES_SHOWN:
        names += f" and {len(bound.layers) - _NAMES_SHOWN} more"
    entries = f"{bound.entries:,} non-zero {'entry' if bound.entries == 1 else 'entries'}"
    return f"ε = {bound.epsilon:.3g} from √v̂ = {bound.magnitude:.3g}, set by {names} ({entries})"


def trust_parts(record: ProbeRecord, bounds: EpsilonBounds) -> list[RenderableType]:
    """Return the bounds of each kind of layer, how far they can be trusted, and ε without a sweep."""
    from epsgrid.report.compare import estimate_rows
    from epsgrid.report.text.bounds import estimates_table, kinds_table, reliability_table
    from epsgrid.report.trust import kind_rows, reliability_row

    found = reliability_row(bounds)
    made = (
        kinds_table(kind_rows(bounds, record.placement)),
        reliability_table(found) if found else None,
        estimates_table(estimate_rows(bounds, record.placement), metric=None),
    )
    return [part for each in made if each is not None for part in report_table(each)]
