"""Tables and lines of gradient magnitudes: the output of `epsgrid probe` and of `epsgrid inspect`."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from epsgrid import grids
from epsgrid.cli.console import out
from epsgrid.cli.tables import GAP, report_table, table
from epsgrid.grids._rates import EffectiveRates
from epsgrid.numerics.bounds import EpsilonBounds
from epsgrid.numerics.damping import Damping, pooled, total_damping
from epsgrid.numerics.histogram import LogHistogram
from epsgrid.numerics.magnitudes import Bound, LayerStatus
from epsgrid.numerics.placement import Placement
from epsgrid.numerics.predicting import Prediction
from epsgrid.numerics.series import Series, Snapshot
from epsgrid.report.checkpoints import CheckpointRow
from epsgrid.report.compare import estimates
from epsgrid.report.table import shortened
from epsgrid.report.text.bounds import estimates_table, kinds_table, reliability_table
from epsgrid.report.trust import kind_rows, reliability_row
from epsgrid.selection.formatting import NOTHING, bounds_line, count, duration, percent, power, powers
from epsgrid.spec.model import Sweep
from epsgrid.store.records import ProbeRecord

if TYPE_CHECKING:
    from epsgrid.observing.checkpoint import CheckpointOptimizer

_ROWS_IN_A_TERMINAL = 40
_SUMMARY_WIDTH, _LABEL, _MOST_LINES = 80, 12, 3
"""Columns of a probe's summary, those of its labels, and lines of one text in it."""
_MOST_FINDINGS = 1
_HIGHER = 1.5
"""Times that a learning rate has to be as high at the largest ε of a grid, for a probe to say so."""
_SPARKLINE = 24
_LEAST_NAME = 16
_LEVELS = "▁▂▃▄▅▆▇█"
_TAIL = 0.001
"""Share of the smallest entries that may lie left of the axis: a few denormals would stretch it by decades."""
_SHOWN_FRACTIONS = (0.02, 0.5, 0.98)
_Row = tuple[str, str, str, str, str, str, LogHistogram | None]
"""A layer in the table: name, entries, three magnitudes, a note, and its histogram, None where none was kept."""


def shown_rows(names: Sequence[str], first: Sequence[str], *, all_layers: bool, most: int | None = None) -> list[int]:
    """Return the rows to show: all, or a limited number, those in `first` before others.

    The limit is `most`; without it there is one in a terminal only.
    """
    rows = range(len(names))
    limit = most or (_ROWS_IN_A_TERMINAL if out().is_terminal else len(names))
    if all_layers or len(names) <= limit:
        return list(rows)
    places = {name: place for place, name in reversed(list(enumerate(first)))}
    return sorted(rows, key=lambda row: places.get(names[row], len(first)))[:limit]


def hidden_lines(shown: int, layers: int) -> list[str]:
    """Return the line that counts the layers that are left out; none where all are shown."""
    return [f"and {layers - shown} more layers: --all-layers shows them"] if shown < layers else []


def _sparklines(rows: Sequence[Sequence[LogHistogram | None]], width: int = _SPARKLINE) -> tuple[str, list[str]]:
    """Draw the non-zero entries of histograms as lines of text, on a log axis of whole decades that they share.

    Each row of histograms of √v̂ is drawn together, as a line of `width` characters; without any it is blank.

    Returns:
        The heading, which has the two ends of the axis, and the lines. Entries beyond an end stand at that end.
    """
    import numpy as np

    from epsgrid.report.figures.binning import pooled

    held = [histogram for row in rows for histogram in row if histogram is not None]
    ends = [end for each in held for end in (each.quantile(_TAIL), each.quantile(1.0)) if end]
    logs = [math.log10(end) for end in ends] or [-8.0, 0.0]
    first = math.floor(min(logs))
    last = max(math.ceil(max(logs)), first + 1)
    edges = np.linspace(first, last, width + 1)
    lines = []
    for row in rows:
        heights = pooled(row, edges).tolist()
        top = max(heights)
        lines.append(
            "".join(_LEVELS[math.ceil(len(_LEVELS) * height / top) - 1] if height > 0 else " " for height in heights)
        )
    return f"1e{first}" + f"1e{last}".rjust(width - len(f"1e{first}")), lines


def _layers_table(rows: Sequence[_Row], fractions: Sequence[float], note: str) -> Table:
    """Return a table with a row for each layer; a terminal that is too narrow cuts names, then drops histograms."""
    low, _, high = (f"{fraction:.3g}" for fraction in fractions)
    header, lines = _sparklines([[row[-1]] for row in rows])
    titles = ["layer", "entries", f"√v̂ at {low}", "median", f"at {high}", note, header]
    columns = [list(column) for column in zip(*(row[:-1] for row in rows), strict=True)] + [lines]
    if out().is_terminal:
        widths = [max(map(cell_len, (title, *cells))) + GAP for title, cells in zip(titles, columns, strict=True)]
        if out().width - sum(widths[1:]) < min(_LEAST_NAME, widths[0] - GAP):
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
        rows.append((layer.name, f"{layer.entries:,}", low, median, high, note, layer.histogram))
    made = _layers_table(rows, (bounds.tail_fraction, 0.5, 1 - bounds.tail_fraction), "sets")
    return [made, *hidden_lines(len(shown), len(bounds.layers))]


def snapshot_layers(
    series: Series, snapshot: Snapshot, setters: Sequence[str], *, all_layers: bool
) -> list[RenderableType]:
    """Return the table of a snapshot: one row per layer with its histogram and the share of its entries that adapt."""
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
        rows.append((name, f"{series.entries[index]:,}", low, median, high, adapting, histogram))
    return [_layers_table(rows, _SHOWN_FRACTIONS, "adapting"), *hidden_lines(len(shown), len(series.names))]


def checkpoint_layers(
    row: CheckpointRow, optimizer: CheckpointOptimizer, *, all_layers: bool, most: int
) -> list[RenderableType]:
    """Return the table of a checkpoint: those that set bounds first, then those of which least adapts at their ε."""
    measured, bounds = [each for _, each in optimizer.measured], row.bounds
    shares = row.shares
    setters = (*bounds.low.layers[:1], *bounds.high.layers[:1]) if bounds else ()
    first = (*setters, *sorted(shares, key=lambda name: shares[name]))
    shown = shown_rows([each.name for each in measured], first, all_layers=all_layers, most=most)
    rows = []
    for each in (measured[place] for place in shown):
        h = each.histogram
        low, median, high = (power(h.quantile(at) if h else None) for at in _SHOWN_FRACTIONS)
        share = percent(shares[each.name]) if each.name in shares else NOTHING
        note = share if each.status is LayerStatus.MEASURED else str(each.status)
        rows.append((each.name, f"{each.entries:,}", low, median, high, note, h))
    return [_layers_table(rows, _SHOWN_FRACTIONS, "adapting"), *hidden_lines(len(shown), len(measured))]


def checkpoint_summary(row: CheckpointRow, optimizer: CheckpointOptimizer) -> list[RenderableType]:
    """Return what is known of an optimizer's state in a checkpoint, without the answer, in at most 80 columns."""
    bounds, width = row.bounds, min(out().width, _SUMMARY_WIDTH)
    readings, measured = zip(*optimizer.measured, strict=True)
    placement = next((reading.placement for reading in readings if reading.placement), Placement.outside())
    steps = NOTHING if optimizer.step is None else f"{optimizer.step:,}"
    size = f"{count(len(measured), 'layer')}, {sum(each.entries for each in measured):,} entries"
    damping = pooled(row.dampings.values())
    texts = (
        ("state", f"{optimizer.name}, step {steps}, {size}"),
        ("lower end", _end_text(bounds.low, placement) if bounds else ""),
        ("upper end", _end_text(bounds.high, placement) if bounds else ""),
        ("ε enters", f"{placement.description}; {placement.conversion}" if placement != Placement.outside() else ""),
        ("damping", _damping_text(damping, optimizer.epsilons) if damping else ""),
        *(("shortened", each) for each in row.findings[:_MOST_FINDINGS]),
        *(("note", note) for note in optimizer.notes),
    )
    axis, (drawn,) = _sparklines([[each.histogram for each in measured]], width - _LABEL - 1)
    lines = [line for label, text in texts if text for line in _labelled(label, text, width)]
    return [*lines, _line("√v̂", axis), _line("all layers", drawn)]


def probe_summary(record: ProbeRecord, sweep: Sweep, prediction: Prediction | None = None) -> list[RenderableType]:
    """Return what a reader needs of a probe, the answer first, in at most 80 columns and some 20 lines."""
    measured, width = record.bounds(), min(out().width, _SUMMARY_WIDTH)
    bounds = measured.chosen(sweep.bounds_choice)
    low, high, found = bounds.low, bounds.high, bounds.reliability
    reach = f"{power(low.decade)} to {power(high.decade)}" if low.decade != high.decade else power(low.decade)
    more = f" (--full: {count(len(found.reasons) - 1, 'more remark')})" if found and len(found.reasons) > 1 else ""
    axis, (drawn,) = _sparklines([[layer.histogram for layer in bounds.layers]], width - _LABEL - 1)
    weights = "frozen" if not record.identity["probe"].get("update_weights") else "moving"
    steps = f"{record.steps} batches of {record.batch_size} in {duration(record.cost_seconds)}, weights {weights}"
    if not record.batch_size:
        steps = f"{record.steps} steps of {record.data_description}"
    if prediction:
        steps = f"{len(prediction.sizes)} sizes in {duration(record.cost_seconds)}, weights {weights}"
    placed = f"{record.placement.description}; {record.placement.conversion}"
    left_out = ", ".join(
        layer.name if layer.status is LayerStatus.LEFT_OUT else f"{layer.name} ({layer.status})"
        for layer in bounds.skipped
    )
    if prediction and prediction.refused:
        left_out = f"{count(len(bounds.skipped), 'layer')}, such as {prediction.refused[0]}"
    damping = total_damping(
        (layer.histogram for layer in bounds.layers if layer.histogram), record.placement, sweep.default_epsilon
    )
    texts = (
        ("confidence", f"{found.verdict}{more}: {found.reasons[0]}" if found else "not looked at"),
        ("grid", "" if prediction else _grid_text(bounds, record.placement, sweep)),
        ("lower end", _end_text(low, record.placement)),
        ("upper end", _end_text(high, record.placement)),
        ("noise", bounds_line(measured) or ""),
        ("default ε", _damping_text(damping, [sweep.default_epsilon]) if damping else ""),
        ("lr", _rate_text(bounds, record.placement, sweep) if damping and not prediction else ""),
        ("ε enters", placed if record.placement != Placement.outside() else ""),
        ("left out", left_out),
        ("held out", _held_out_text(prediction) if prediction else ""),
        ("probed" if prediction else "measured", steps),
    )
    lines = [line for label, text in texts if text for line in _labelled(label, text, width)]
    lines += [_line("√v̂", axis), _line("all layers", drawn)]
    at = ", ".join(f"{key} = {value}" for key, value in (record.predicted_at or {}).items())
    return [Text(f"ε bounds{f' predicted at {at}' if at else ''}: {reach}", style="bold"), *lines]


def _held_out_text(prediction: Prediction) -> str:
    """Return how far the largest probed size was missed."""
    if prediction.held_out is None:
        return ""
    middle, worst = prediction.held_out
    largest = f"{prediction.sizes[-1]:g}, predicted from the smaller ones"
    return f"{largest}: off by {middle:.2f} decades in the median, {worst:.2f} at worst"


def _grid_text(bounds: EpsilonBounds, placement: Placement, sweep: Sweep) -> str:
    """Return how many ε of the conventional grid a sweep keeps, and which it trains."""
    if sweep.epsilons:
        return f"your list, sweep.epsilons, takes the place of the bounds: {powers(sorted(sweep.epsilons))}"
    conventional = grids.load("conventional").epsilons(None, placement)
    beyond = set(bounds.decades) - set(conventional)
    kept = f"{len(bounds.decades) - len(beyond)} of {len(conventional)} ε"
    return kept + (f", and {len(beyond)} beyond these" if beyond else "") + f": {powers(bounds.decades)}"


def _rate_text(bounds: EpsilonBounds, placement: Placement, sweep: Sweep) -> str:
    """Return how much higher the learning rate should be at the largest ε of the grid, where that matters."""
    largest = max(sweep.epsilons or bounds.decades)
    factor = EffectiveRates.of(bounds, placement).trained(1.0, largest)
    if factor < _HIGHER:
        return ""
    how = "sweep.lr_mode: effective" if sweep.lr_mode == "effective" else "-o sweep.lr_mode=effective"
    return f"at ε = {power(largest)}, steps do as much with one {power(factor)} times as high ({how})"


def _damping_text(damping: Damping, epsilons: Sequence[float]) -> str:
    """Return what ε does to the steps of all entries that move."""
    adapting = f"at {', '.join(map(power, epsilons))}, {percent(damping.adapting)} of the entries with a gradient adapt"
    return f"{adapting}; steps are {percent(damping.mean)} of those at ε → 0"


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
