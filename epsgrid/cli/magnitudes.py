"""Tables and lines of gradient magnitudes: the output of `epsgrid probe` and of `epsgrid inspect`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from rich.cells import cell_len
from rich.console import RenderableType
from rich.table import Table

from epsgrid.cli.console import out
from epsgrid.cli.tables import report_table, table
from epsgrid.numerics.bounds import EpsilonBounds
from epsgrid.numerics.histogram import LogHistogram
from epsgrid.numerics.magnitudes import Bound
from epsgrid.numerics.series import Series, Snapshot
from epsgrid.report.compare import estimates
from epsgrid.report.table import percent, shortened
from epsgrid.report.text.bounds import estimates_table, kinds_table, reliability_table
from epsgrid.report.trust import kind_rows, reliability_row
from epsgrid.selection.formatting import NOTHING, duration, power
from epsgrid.store.records import ProbeRecord

_ROWS_IN_A_TERMINAL = 40
_SPARKLINE = 24
_LEAST_NAME = 16
_GAP = 3
"""Characters between two columns in a terminal."""
_LEVELS = "▁▂▃▄▅▆▇█"
_TAIL = 0.001
"""Share of the smallest entries that may lie left of the axis: a few denormals would stretch it by decades."""
_SHOWN_FRACTIONS = (0.02, 0.5, 0.98)


class _Row(NamedTuple):
    """A layer in the table: its cells, then its histogram, which is None where none was kept."""

    name: str
    entries: str
    low: str
    median: str
    high: str
    note: str
    histogram: LogHistogram | None


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


def sparklines(histograms: Sequence[LogHistogram | None], width: int = _SPARKLINE) -> tuple[str, list[str]]:
    """Draw the non-zero entries of histograms as a line of text each, on a log axis of whole decades that they share.

    Args:
        histograms: of √v̂; None gives a blank line.
        width: characters of a line.

    Returns:
        The heading, which has the two ends of the axis, and the lines. Entries beyond an end stand at that end.
    """
    import numpy as np

    from epsgrid.report.figures.binning import pooled

    ends = [end for h in histograms if h is not None for end in (h.quantile(_TAIL), h.quantile(1.0)) if end]
    logs = [math.log10(end) for end in ends] or [-8.0, 0.0]
    first = math.floor(min(logs))
    last = max(math.ceil(max(logs)), first + 1)
    edges = np.linspace(first, last, width + 1)
    lines = []
    for histogram in histograms:
        heights = pooled([histogram], edges).tolist()
        top = max(heights)
        lines.append(
            "".join(_LEVELS[math.ceil(len(_LEVELS) * height / top) - 1] if height > 0 else " " for height in heights)
        )
    return f"1e{first}" + f"1e{last}".rjust(width - len(f"1e{first}")), lines


def _layers_table(rows: Sequence[_Row], fractions: Sequence[float], note: str) -> Table:
    """Return a table with a row for each layer; a terminal that is too narrow cuts names, then drops histograms.

    Args:
        rows: the layers.
        fractions: those of the three magnitudes.
        note: heading of the rows' notes.
    """
    low, _, high = (f"{fraction:.3g}" for fraction in fractions)
    header, lines = sparklines([row.histogram for row in rows])
    titles = ["layer", "entries", f"√v̂ at {low}", "median", f"at {high}", note, header]
    columns = [list(column) for column in zip(*(row[:-1] for row in rows), strict=True)] + [lines]
    if out().is_terminal:
        widths = [max(map(cell_len, (title, *cells))) + _GAP for title, cells in zip(titles, columns, strict=True)]
        if out().width - sum(widths[1:]) < min(_LEAST_NAME, widths[0] - _GAP):
            del titles[-1], columns[-1], widths[-1]
        room = max(out().width - sum(widths[1:]), _LEAST_NAME)
        columns[0] = [name if len(name) <= room else f"…{name[1 - room :]}" for name in columns[0]]
    return table(titles, list(zip(*columns, strict=True)), (0, 5, 6))


def probe_layers(bounds: EpsilonBounds, *, all_layers: bool) -> list[RenderableType]:
    """Return the table of a probe: one row per layer with its histogram, those that set a bound marked."""
    setters = (*bounds.low.layers, *bounds.high.layers)
    shown = shown_rows([layer.name for layer in bounds.layers], setters, all_layers=all_layers)
    rows = []
    for layer in (bounds.layers[place] for place in shown):
        marks = [end for end, bound in (("low", bounds.low), ("high", bounds.high)) if layer.name in bound.layers]
        low, high, median, note = "", "", "", ", ".join(marks)
        if layer.low is None or layer.high is None:
            note = str(layer.status)
        else:
            low, high = power(layer.low), power(layer.high)
            median = power(layer.histogram.quantile(0.5)) if layer.histogram is not None else ""
        rows.append(_Row(layer.name, f"{layer.entries:,}", low, median, high, note, layer.histogram))
    made = _layers_table(rows, (bounds.tail_fraction, 0.5, 1 - bounds.tail_fraction), "sets")
    return [made, *hidden_lines(len(shown), len(bounds.layers))]


def snapshot_layers(
    series: Series, snapshot: Snapshot, setters: Sequence[str], *, all_layers: bool
) -> list[RenderableType]:
    """Return the table of a snapshot: one row per layer with its histogram and the share of its entries that adapt.

    Args:
        series: holds the snapshot.
        snapshot: to show.
        setters: the layers that come first where not all are shown: those that set a bound.
        all_layers: show all in a terminal, too.
    """
    places = [series.fractions.index(fraction) for fraction in _SHOWN_FRACTIONS]
    shown = shown_rows(series.names, setters, all_layers=all_layers)
    rows = []
    for index in shown:
        layer, name = snapshot.layers[index], series.names[index]
        quantiles = layer.quantiles if layer else ()
        low, median, high = (power(quantiles[place]) if quantiles else NOTHING for place in places)
        share = dict(series.adaptable(name)).get(snapshot.step)
        adapting = NOTHING if share is None else percent(share)
        histogram = layer.histogram if layer else None
        rows.append(_Row(name, f"{series.entries[index]:,}", low, median, high, adapting, histogram))
    return [_layers_table(rows, _SHOWN_FRACTIONS, "adapting"), *hidden_lines(len(shown), len(series.names))]


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
