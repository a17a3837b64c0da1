"""Tables and lines of `epsgrid inspect`: snapshots of gradient magnitudes, over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from epsgrid.cli.fitting import LEAST_SPARKLINE, TOGETHER, Column, fitted, glyphs, in_columns, names_column
from epsgrid.cli.magnitude_tables import hidden_line, shown_rows
from epsgrid.cli.sparkline import Axis, shares
from epsgrid.cli.tables import table
from epsgrid.report.table import percent, shortened
from epsgrid.report.words import NOTHING, power

if TYPE_CHECKING:
    from rich.console import RenderableType

    from epsgrid.numerics.histogram import LogHistogram
    from epsgrid.numerics.series import Series, Snapshot
    from epsgrid.report.figures.adaptable import AdaptableNumbers
    from epsgrid.stages.inspect import Inspected

TIMES_SHOWN = 8
_PERCENTILES = (0.02, 0.25, 0.5, 0.75, 0.98)
_COURSE_WIDTH = 16
_WANTED = 5
"""Columns of this `keep` are worth more than a further histogram."""

_T = TypeVar("_T")


def head(seen: Inspected) -> list[str]:
    """Return the lines on top: which experiment, what of it, how many snapshots."""
    spec = seen.experiment.spec
    what = f"{seen.optimizer} on {spec['task']['name']}, {spec['model']['name']}"
    lines = [f"{seen.experiment.name}  {seen.folder.root}", what]
    lines.append(f"trial {seen.trial.words}" if seen.trial else "the probe")
    if seen.series is not None and seen.series.snapshots:
        first, last = seen.series.snapshots[0], seen.series.snapshots[-1]
        lines.append(f"{len(seen.series.snapshots)} snapshots, {when(first)} to {when(last)}")
    return lines


def when(snapshot: Snapshot) -> str:
    """Return when a snapshot was taken, in words."""
    return f"step {snapshot.step:,}" + ("" if snapshot.epoch is None else f" (epoch {round(snapshot.epoch, 2):g})")


def _short(snapshot: Snapshot) -> str:
    return f"step {snapshot.step:,}" if snapshot.epoch is None else f"epoch {_epoch(snapshot.epoch)}"


def chosen(series: Series, steps: Sequence[int]) -> tuple[Snapshot, ...]:
    """Return the snapshots whose histograms are shown: those nearest to some steps, or first, middle and last."""
    from epsgrid.report.figures.over_time import evenly, with_histograms

    held = with_histograms(series)
    if not steps or not held:
        return evenly(held, 3)
    nearest = {min(held, key=lambda snapshot: abs(snapshot.step - step)).step: None for step in steps}
    return tuple(snapshot for snapshot in held if snapshot.step in nearest)


def layers(seen: Inspected, steps: Sequence[int], *, all_layers: bool) -> list[RenderableType]:
    """Return one row per layer: its histograms at some steps, and how many of its entries adapt."""
    from rich.text import Text

    assert seen.series is not None
    series, snapshots = seen.series, chosen(seen.series, steps)
    if not snapshots:
        return [Text("no snapshot keeps histograms")]
    rows = shown_rows(series.names, _setters(seen), all_layers=all_layers)
    columns, snapshots, width = _fitted([*_layer_columns(series, rows), *_adaptable_columns(seen, rows)], snapshots)
    histograms = [[_histogram(snapshot, row) for row in range(len(series.names))] for snapshot in snapshots]
    axis = Axis.of([one for held in histograms for one in held], width, glyphs(), _bounds_magnitudes(seen))
    for snapshot, held in zip(snapshots, histograms, strict=True):
        title = f"{_short(snapshot)}\n{axis.header()}"
        columns.append(Column(title, tuple(axis.line(held[row]) for row in rows), is_text=True))
    blank = [""] * (len(columns) - len(snapshots) - 1)
    cells = [*zip(*(column.cells for column in columns), strict=True)]
    cells.append((TOGETHER, *blank, *(axis.line(*held) for held in histograms)))
    if ends := _bounds_magnitudes(seen):
        cells.append(("bounds", *blank, *[axis.span(*ends)] * len(snapshots)))
    made = in_columns(columns, cells)
    return [made, *map(Text, hidden_line(len(rows), len(series.names)))]


def _fitted(columns: list[Column], snapshots: tuple[Snapshot, ...]) -> tuple[list[Column], tuple[Snapshot, ...], int]:
    """Make room: histograms go, the last one excepted, before what tells how many entries adapt does."""
    from epsgrid.report.figures.over_time import evenly

    wanted = sum(column.keep >= _WANTED for column in columns)
    for count in range(len(snapshots), 0, -1):
        kept, width = fitted(columns, count)
        if width >= LEAST_SPARKLINE and sum(column.keep >= _WANTED for column in kept) == wanted:
            break
    return kept, evenly(snapshots, count), width


def _layer_columns(series: Series, rows: Sequence[int]) -> list[Column]:
    columns = [names_column(tuple(series.names[row] for row in rows))]
    if set(series.kinds) != {"other"}:
        columns.append(Column("kind", tuple(series.kinds[row] for row in rows), 3, is_text=True))
    columns.append(Column("entries", tuple(f"{series.entries[row]:,}" for row in rows), 2))
    return columns


def _adaptable_columns(seen: Inspected, rows: Sequence[int]) -> list[Column]:
    """Return the share that adapts at the end, and over time; none where there is no ε."""
    numbers = adaptable(seen)
    if numbers is None or seen.series is None:
        return []
    by_name = {row.layer: row.shares for row in numbers.rows}
    courses = [by_name[seen.series.names[row]] for row in rows]
    return _adapting(courses)[1:]


def adaptable(seen: Inspected) -> AdaptableNumbers | None:
    """Return the adaptable shares of a trial at its own ε; None of a probe, or where nothing was kept."""
    from epsgrid.report.figures.adaptable import adaptable_numbers

    if seen.series is None or seen.trial is None:
        return None
    return adaptable_numbers(seen.series, optimizer=seen.optimizer, epsilon=seen.epsilon)


def percentiles(seen: Inspected) -> list[RenderableType]:
    """Return the percentiles of all layers' entries together, at some times."""
    from epsgrid.report.figures.over_time import time_of, time_unit
    from epsgrid.report.figures.percentiles import FRACTIONS, pooled_percentiles

    places = [FRACTIONS.index(fraction) for fraction in _PERCENTILES]

    assert seen.series is not None
    series, unit = seen.series, time_unit(seen.series)
    band = pooled_percentiles(series, "all layers", range(len(series.names)))
    if band is None:
        return []
    by_time = dict(zip(band.times, zip(*band.magnitudes, strict=True), strict=True))
    held = [snapshot for snapshot in series.snapshots if time_of(snapshot, unit) in by_time]
    rows = [
        (*_time_cells(snapshot), *(power(by_time[time_of(snapshot, unit)][place]) for place in places))
        for snapshot in _some(held)
    ]
    columns = ("step", "epoch", *(f"{100 * fraction:g} %" for fraction in _PERCENTILES))
    return [*_titled("Percentiles of √v̂, all layers together"), table(columns, rows, left=0)]


def bounds_over_time(seen: Inspected) -> list[RenderableType]:
    """Return what the published rule gives at some times, next to the bounds of epoch 1."""
    from epsgrid.report.figures.over_time import drift
    from epsgrid.report.text.bounds import signed_decades

    assert seen.series is not None
    moved = drift(seen.series, seen.bounds)
    if not moved:
        return []
    shown = _some(moved)
    columns = [
        Column("step", tuple(f"{row.step:,}" for row in shown), 7),
        Column("epoch", tuple(_epoch(row.epoch) for row in shown), 6),
        Column("low √v̂", tuple(power(row.low) for row in shown)),
        Column("moved", tuple(signed_decades(row.low_moved) for row in shown)),
        Column("high √v̂", tuple(power(row.high) for row in shown)),
        Column("moved", tuple(signed_decades(row.high_moved) for row in shown)),
        Column("ε is", tuple(_place(row.threshold, row.low, row.high) for row in shown), 8),
        Column("low set by", tuple(shortened(row.low_layers, 1) for row in shown), 4, is_text=True),
        Column("high set by", tuple(shortened(row.high_layers, 1) for row in shown), 4, is_text=True),
    ]
    if not seen.trial:
        del columns[6]
    columns, _ = fitted(columns, 0)
    title = "Bounds over time, by the published rule"
    note = "moved: decades from the bounds of the probe" if seen.bounds else "nothing was probed to compare with"
    return [*_titled(title), in_columns(columns), _dim(note)]


def _place(threshold: float | None, low: float, high: float) -> str:
    """Say where ε lies among the magnitudes of the moment."""
    if threshold is None:
        return NOTHING
    return "below" if threshold < low else "above" if threshold > high else "between"


def kinds(seen: Inspected) -> list[RenderableType]:
    """Return one row per kind of layer: its median at first and last, and how many of its entries adapt."""
    from epsgrid.report.figures.adaptable import adaptable_by_kind
    from epsgrid.report.figures.over_time import kinds_of
    from epsgrid.report.figures.percentiles import pooled_percentiles

    assert seen.series is not None
    found = kinds_of(seen.series)
    bands = {kind: pooled_percentiles(seen.series, kind, indices) for kind, indices in found.items()}
    medians = [band.magnitudes[len(band.magnitudes) // 2] if band else () for band in bands.values()]
    columns = [
        Column("kind", tuple(found), is_text=True),
        Column("layers", tuple(str(len(indices)) for indices in found.values()), 3),
        Column("entries", tuple(f"{sum(seen.series.entries[i] for i in one):,}" for one in found.values()), 2),
        Column("median first", tuple(power(median[0]) if median else NOTHING for median in medians), 4),
        Column("last", tuple(power(median[-1]) if median else NOTHING for median in medians), 4),
    ]
    if seen.trial:
        columns += _adapting([adaptable_by_kind(seen.series)[kind] for kind in found])
    columns, _ = fitted(columns, 0)
    return [*_titled("Kinds of layers"), in_columns(columns)]


def _adapting(courses: Sequence[Sequence[float | None]]) -> list[Column]:
    """Return the columns that tell how the share of adapting entries went."""
    lines = tuple(shares(course, _COURSE_WIDTH, glyphs()) for course in courses)
    first, last = ([course[place] for course in courses] for place in (0, -1))
    return [
        Column("adapting first", tuple(map(_share, first)), 5),
        Column("adapting last", tuple(map(_share, last)), _WANTED + 1),
        Column("over time", lines, _WANTED, is_text=True),
    ]


def _share(share: float | None) -> str:
    return NOTHING if share is None else percent(share)


def layer(seen: Inspected, name: str, steps: Sequence[int]) -> list[RenderableType]:
    """Return one layer in detail: at some times its histogram, its percentiles and what is not in them."""
    from epsgrid.report.figures.percentiles import FRACTIONS

    assert seen.series is not None
    series, index = seen.series, seen.series.names.index(name)
    snapshots = chosen(series, steps) if steps else _some(series.snapshots)
    shares_at = dict(series.adaptable(name)) if seen.trial else {}
    histograms = [_histogram(snapshot, index) for snapshot in snapshots]
    places = [series.fractions.index(fraction) for fraction in FRACTIONS]
    cells = []
    for snapshot in snapshots:
        held = snapshot.layers[index]
        quantiles = [power(held.quantiles[place]) if held and held.quantiles else NOTHING for place in places]
        counts = (f"{held.zeros:,}", f"{held.nonfinite:,}") if held else (NOTHING, NOTHING)
        adapting = [_share(shares_at.get(snapshot.step))] if seen.trial else []
        cells.append((*_time_cells(snapshot), *counts, *quantiles, *adapting))
    titles = ["step", "epoch", "zeros", "not finite", *(f"{100 * fraction:g} %" for fraction in FRACTIONS)]
    keeps = [9, 5, 3, 2, 9, 1, 4, 9, 4, 1, 9]
    if seen.trial:
        titles, keeps = [*titles, "adapting"], [*keeps, 6]
    texts = [tuple(row[place] for row in cells) for place in range(len(titles))]
    columns, width = fitted([Column(*column) for column in zip(titles, texts, keeps, strict=True)])
    axis = Axis.of(histograms, width, glyphs(), _bounds_magnitudes(seen))
    columns.append(Column(axis.header(), tuple(map(axis.line, histograms)), is_text=True))
    rows = [*zip(*(column.cells for column in columns), strict=True)]
    if ends := _bounds_magnitudes(seen):
        rows.append(("bounds", *[""] * (len(columns) - 2), axis.span(*ends)))
    what = f"{name}  {series.kinds[index]}, {series.entries[index]:,} entries"
    return [*_titled(what), in_columns(columns, rows)]


def observed_lines(seen: Inspected) -> list[str]:
    """Return the lines that say which trials can be looked at."""
    from epsgrid.stages.inspect import setting

    if not seen.observed:
        return []
    shown = [f"  {cell.id}  {setting(cell)}" for cell in seen.observed[:TIMES_SHOWN]]
    hidden = len(seen.observed) - len(shown)
    return ["", "trials with snapshots:", *shown, *([f"  and {hidden} more"] if hidden else [])]


def _setters(seen: Inspected) -> tuple[str, ...]:
    """Return the layers that set the bounds of epoch 1, or where nothing was probed, of the last snapshot."""
    from epsgrid.report.figures.over_time import drift

    if seen.bounds is not None:
        return (*seen.bounds.low.layers, *seen.bounds.high.layers)
    last = drift(seen.series, None)[-1:] if seen.series else ()
    return (*last[0].low_layers, *last[0].high_layers) if last else ()


def _bounds_magnitudes(seen: Inspected) -> tuple[float, ...]:
    return (seen.bounds.low.magnitude, seen.bounds.high.magnitude) if seen.bounds else ()


def _histogram(snapshot: Snapshot, index: int) -> LogHistogram | None:
    held = snapshot.layers[index]
    return held.histogram if held is not None else None


def _time_cells(snapshot: Snapshot) -> tuple[str, str]:
    return f"{snapshot.step:,}", _epoch(snapshot.epoch)


def _epoch(epoch: float | None) -> str:
    return NOTHING if epoch is None else f"{round(epoch, 2):g}"


def _some(moments: Sequence[_T]) -> tuple[_T, ...]:
    from epsgrid.report.figures.over_time import evenly

    return evenly(moments, TIMES_SHOWN)


def _titled(title: str) -> list[RenderableType]:
    from rich.text import Text

    return [Text(), Text(title, style="bold")]


def _dim(note: str) -> RenderableType:
    from rich.text import Text

    return Text(note, style="dim")
