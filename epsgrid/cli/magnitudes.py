"""Tables and lines of gradient magnitudes: the output of `epsgrid probe`, and of `epsgrid inspect` for a probe."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from epsgrid import grids
from epsgrid.cli.console import out
from epsgrid.cli.sparkline import Axis
from epsgrid.cli.tables import Column, columns_table, fitted, report_table
from epsgrid.numerics.bounds import EpsilonBounds
from epsgrid.numerics.histogram import LogHistogram
from epsgrid.numerics.magnitudes import Bound, LayerStatus
from epsgrid.numerics.placement import Placement
from epsgrid.report.compare import estimates
from epsgrid.report.table import shortened
from epsgrid.report.text.bounds import estimates_table, kinds_table, reliability_table
from epsgrid.report.trust import kind_rows, reliability_row
from epsgrid.selection.formatting import bounds_line, count, duration, power, powers
from epsgrid.spec.model import Sweep
from epsgrid.store.records import ProbeRecord

_ROWS_IN_A_TERMINAL = 40
_SUMMARY_WIDTH, _LABEL, _MOST_LINES = 80, 12, 3
"""Columns of a probe's summary, those of its labels, and lines of one text in it."""


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


def probe_summary(record: ProbeRecord, sweep: Sweep) -> list[RenderableType]:
    """Return what a reader needs of a probe, the answer first, in at most 80 columns and some 20 lines.

    Args:
        record: of the probe.
        sweep: says which bounds, or which list, the narrowed grid is made from.
    """
    measured, width = record.bounds(), min(out().width, _SUMMARY_WIDTH)
    bounds = measured.chosen(sweep.bounds)
    low, high, found = bounds.low, bounds.high, bounds.reliability
    reach = f"{power(low.decade)} to {power(high.decade)}" if low.decade != high.decade else power(low.decade)
    more = f" (--full: {count(len(found.reasons) - 1, 'more remark')})" if found and len(found.reasons) > 1 else ""
    axis = Axis.of([layer.histogram for layer in bounds.layers], width - _LABEL, (low.magnitude, high.magnitude))
    drawn = (axis.header(), axis.line(*(layer.histogram for layer in bounds.layers)))
    weights = "frozen" if not record.identity["probe"].get("update_weights") else "moving"
    steps = f"{record.steps} batches of {record.batch_size} in {duration(record.cost_seconds)}, weights {weights}"
    placed = f"{record.placement.description}; {record.placement.conversion}"
    left_out = ", ".join(
        layer.name if layer.status is LayerStatus.LEFT_OUT else f"{layer.name} ({layer.status})"
        for layer in bounds.skipped
    )
    texts = (
        ("confidence", f"{found.verdict}{more}: {found.reasons[0]}" if found else "not looked at"),
        ("grid", _grid_text(bounds, record.placement, sweep)),
        ("lower end", _end_text(low, record.placement)),
        ("upper end", _end_text(high, record.placement)),
        ("noise", bounds_line(measured) or ""),
        ("ε enters", placed if record.placement != Placement.outside() else ""),
        ("left out", left_out),
        ("measured", steps),
    )
    lines = [line for label, text in texts if text for line in _labelled(label, text, width)]
    lines += [_line("√v̂", drawn[0]), _line("all layers", drawn[1])]
    lines += [_line("bounds", axis.span(low.magnitude, high.magnitude))]
    return [Text(f"ε bounds: {reach}", style="bold"), *lines]


def _grid_text(bounds: EpsilonBounds, placement: Placement, sweep: Sweep) -> str:
    """Return how many ε of the conventional grid a sweep keeps, and which it trains."""
    if sweep.epsilons:
        return f"your list, sweep.epsilons, takes the place of the bounds: {powers(sorted(sweep.epsilons))}"
    conventional = grids.load("conventional").epsilons(None, placement)
    beyond = set(bounds.decades) - set(conventional)
    kept = f"{len(bounds.decades) - len(beyond)} of {len(conventional)} ε"
    return kept + (f", and {len(beyond)} beyond these" if beyond else "") + f": {powers(bounds.decades)}"


def _end_text(bound: Bound, placement: Placement) -> str:
    entries = f"{bound.entries:,} non-zero {'entry' if bound.entries == 1 else 'entries'}"
    epsilon = "" if placement == Placement.outside() else f", ε {power(bound.epsilon)}"
    return f"√v̂ {power(bound.magnitude)}{epsilon} in {shortened(bound.layers, 1)}, {entries}"


def _labelled(label: str, text: str, width: int) -> list[str]:
    """Return a text beside its label, wrapped into at most three lines of `width` characters."""
    wrapped = textwrap.wrap(text, width - _LABEL, max_lines=_MOST_LINES, placeholder=" …")
    return [_line(label if not place else "", line) for place, line in enumerate(wrapped)]


def _line(label: str, text: str) -> str:
    return f"{label}{' ' * (_LABEL - cell_len(label))}{text}".rstrip()


def probe_parts(record: ProbeRecord, bounds: EpsilonBounds, *, all_layers: bool) -> list[RenderableType]:
    """Return the tables of `epsgrid probe --full`: layers, kinds, how far bounds can be trusted, ε without a sweep."""
    found = reliability_row(bounds)
    made = (
        kinds_table(kind_rows(bounds, record.placement)),
        reliability_table(found) if found else None,
        estimates_table(estimates(bounds, record.placement)),
    )
    trust = [part for each in made if each is not None for part in report_table(each)]
    return ["", *probe_layers(bounds, all_layers=all_layers), "", *trust]
