"""Tables and lines of gradient magnitudes: the output of `epsgrid probe`, and of `epsgrid inspect` for a probe."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.table import Table

from epsgrid.cli.console import out
from epsgrid.cli.sparkline import Axis
from epsgrid.cli.tables import Column, columns_table, fitted, report_table
from epsgrid.numerics.bounds import EpsilonBounds
from epsgrid.numerics.histogram import LogHistogram
from epsgrid.numerics.magnitudes import Bound
from epsgrid.report.compare import estimates
from epsgrid.report.table import shortened
from epsgrid.report.text.bounds import estimates_table, kinds_table, reliability_table
from epsgrid.report.trust import kind_rows, reliability_row
from epsgrid.selection.formatting import duration, power
from epsgrid.store.records import ProbeRecord

_ROWS_IN_A_TERMINAL = 40


def shown_rows(names: Sequence[str], first: Sequence[str], *, all_layers: bool) -> list[int]:
    """Return the rows to show: all, or in a terminal a limited number.

    Args:
        names: of all layers, in the model's order.
        first: the layers that come first where not all are shown: those that set a bound.
        all_layers: show all in a terminal, too.
    """
    rows = range(len(names))
    if all_layers or not out().is_terminal or len(names) <= _ROWS_IN_A_TERMINAL:
        return list(rows)
    return sorted(rows, key=lambda row: names[row] not in first)[:_ROWS_IN_A_TERMINAL]


def hidden_lines(shown: int, layers: int) -> list[str]:
    """Return the line that counts the layers that are left out; none where all are shown."""
    return [f"and {layers - shown} more layers: --all-layers shows them"] if shown < layers else []


def names_column(names: Sequence[str], ends: tuple[float, ...]) -> Column:
    """Return the column of layers' names and of the rows below them: all layers, and the bounds if there are any."""
    return Column("layer", (*names, "all layers", *(["bounds"] if ends else [])), is_text=True)


def layers_table(
    columns: Sequence[Column],
    rows: Sequence[int],
    drawn: Sequence[tuple[str, Sequence[LogHistogram | None]]],
    width: int,
    ends: tuple[float, ...],
) -> Table:
    """Return a table with a row for each layer, one for all together and one for the bounds.

    Args:
        columns: the columns before the sparklines; the first is that of `names_column`.
        rows: the layers to show, by place.
        drawn: for each sparkline a title and the histograms of all layers.
        width: of a sparkline.
        ends: the bounds as magnitudes; empty where nothing was probed.
    """
    axis = Axis.of([one for _, held in drawn for one in held], width, ends)
    made = list(columns)
    for title, held in drawn:
        lines = [*(axis.line(held[row]) for row in rows), axis.line(*held)]
        lines += [axis.span(*ends)] if ends else []
        made.append(Column("\n".join(filter(None, (title, axis.header()))), tuple(lines), is_text=True))
    return columns_table(made)


def probe_layers(bounds: EpsilonBounds, *, all_layers: bool) -> list[RenderableType]:
    """Return the table of a probe: one row per layer with its histogram, those that set a bound marked."""
    rows = shown_rows(
        [layer.name for layer in bounds.layers], (*bounds.low.layers, *bounds.high.layers), all_layers=all_layers
    )
    layers, ends = [bounds.layers[row] for row in rows], (bounds.low.magnitude, bounds.high.magnitude)
    low, high = f"{bounds.tail_fraction:.3g}", f"{1 - bounds.tail_fraction:.3g}"
    statistics: list[tuple[str, str, str]] = []
    for layer in layers:
        if layer.low is None or layer.high is None:
            statistics.append((str(layer.status), "", ""))
        else:
            median = layer.histogram.quantile(0.5) if layer.histogram is not None else None
            statistics.append((power(layer.low), "" if median is None else power(median), power(layer.high)))
    lows, medians, highs = zip(*statistics, strict=True)
    marks = [
        ", ".join(end for end, bound in (("low", bounds.low), ("high", bounds.high)) if layer.name in bound.layers)
        for layer in layers
    ]
    columns = [
        names_column([layer.name for layer in layers], ends),
        Column("kind", tuple(layer.kind for layer in layers), 3, is_text=True),
        Column("shape", tuple("×".join(map(str, layer.shape)) or "scalar" for layer in layers), 1, is_text=True),
        Column("entries", tuple(f"{layer.entries:,}" for layer in layers), 4),
        Column("non-zero", tuple(f"{layer.nonzero:,}" for layer in layers), 2),
        Column(f"√v̂ at {low}", lows),
        Column("median", medians, 5),
        Column(f"at {high}", highs),
        Column("sets", tuple(marks)),
    ]
    if all(layer.kind == "other" for layer in layers):
        del columns[1]
    columns, width = fitted(columns)
    drawn = [("", [layer.histogram for layer in bounds.layers])]
    return [layers_table(columns, rows, drawn, width, ends), *hidden_lines(len(rows), len(bounds.layers))]


def _probe_lines(record: ProbeRecord, bounds: EpsilonBounds) -> list[str]:
    """Return the lines under a probe's table: the bounds, the layers that set them, skipped layers, the cost."""
    lines = [
        "",
        f"ε bounds: {power(bounds.low.decade)} … {power(bounds.high.decade)}  ({len(bounds.decades)} decades)",
        f"  low   {_bound_line(bounds.low)}",
        f"  high  {_bound_line(bounds.high)}",
        f"ε enters {record.placement.description}; {record.placement.conversion}",
    ]
    if bounds.skipped:
        lines.append("left out: " + "; ".join(f"{layer.name} ({layer.status})" for layer in bounds.skipped))
    data = f"{record.steps} batches of {record.batch_size}; {record.data_description}"
    return [*lines, f"{data}; {duration(record.cost_seconds)}", ""]


def _bound_line(bound: Bound) -> str:
    entries = f"{bound.entries:,} non-zero {'entry' if bound.entries == 1 else 'entries'}"
    of = f"√v̂ = {power(bound.magnitude)}, set by {shortened(bound.layers)} ({entries})"
    return f"ε = {power(bound.epsilon)} from {of}"


def probe_parts(record: ProbeRecord, *, all_layers: bool) -> list[RenderableType]:
    """Return what `epsgrid probe` prints: layers, bounds, how far they can be trusted, and ε without a sweep."""
    bounds = record.bounds()
    found = reliability_row(bounds)
    made = (
        kinds_table(kind_rows(bounds, record.placement)),
        reliability_table(found) if found else None,
        estimates_table(estimates(bounds, record.placement)),
    )
    trust = [part for each in made if each is not None for part in report_table(each)]
    return [*probe_layers(bounds, all_layers=all_layers), *_probe_lines(record, bounds), *trust]
