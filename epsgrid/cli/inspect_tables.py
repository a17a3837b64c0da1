"""Tables of `epsgrid inspect`: snapshots of gradient magnitudes over time."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.text import Text

from epsgrid.cli.magnitudes import hidden_lines, layers_table, names_column, probe_layers, shown_rows
from epsgrid.cli.sparkline import Axis, shares
from epsgrid.cli.tables import LEAST_SPARKLINE, Column, columns_table, fitted, table, titled
from epsgrid.numerics.series import Series, Snapshot
from epsgrid.report.figures.over_time import (
    AdaptableNumbers,
    adaptable_numbers,
    drift,
    evenly,
    kinds_of,
    time_of,
    time_unit,
    with_histograms,
)
from epsgrid.report.figures.percentiles import FRACTIONS, pooled_percentiles
from epsgrid.report.table import percent, shortened
from epsgrid.report.text.bounds import signed_decades
from epsgrid.selection.formatting import NOTHING, power
from epsgrid.stages.inspect import Inspected, setting

_TIMES_SHOWN = _TRIALS_SHOWN = 8
_PERCENTILES = (0.02, 0.25, 0.5, 0.75, 0.98)
_CURVE_WIDTH = 16
_WANTED = 5
"""Columns of this `keep` are worth more than a further histogram."""


def parts(seen: Inspected, layer: str | None, steps: Sequence[int], *, all_layers: bool) -> list[RenderableType]:
    """Return what `epsgrid inspect` prints.

    Args:
        seen: the stored magnitudes.
        layer: show this layer alone, in detail.
        steps: show the histograms nearest to these; none means the first, a middle and the last one.
        all_layers: list every layer in a terminal, too.
    """
    spec, series, trial = seen.experiment.spec, seen.series, seen.trial
    shown: list[RenderableType] = [
        f"{seen.experiment.name}  {seen.folder.root}",
        f"{seen.optimizer} on {spec['task']['name']}, {spec['model']['name']}",
    ]
    left = "" if trial is None or trial.grids else ", of a grid that was swept before"
    shown.append("the probe" if trial is None else f"trial {trial.id}: {setting(trial)}, {seen.state}{left}")
    if series is None or not series.snapshots:
        assert seen.bounds is not None
        shown += ["", *probe_layers(seen.bounds, all_layers=all_layers)]
    else:
        first, last = series.snapshots[0], series.snapshots[-1]
        shown += [f"{len(series.snapshots)} snapshots, {_when(first)} to {_when(last)}", ""]
        if layer is not None:
            shown += _layer(seen, series, layer, steps)
        else:
            shown += [*_layers(seen, series, steps, all_layers=all_layers), *_percentiles(series)]
            shown += [*_bounds_over_time(seen, series), *_kinds(seen, series)]
    if trial is None and seen.observed:
        shown += ["", "trials with snapshots:"]
        shown += [f"  {cell.id}  {setting(cell)}" for cell in seen.observed[:_TRIALS_SHOWN]]
        if (hidden := len(seen.observed) - _TRIALS_SHOWN) > 0:
            shown.append(f"  and {hidden} more")
    return shown


def _when(snapshot: Snapshot) -> str:
    """Return the time of a snapshot, such as "step 100 (epoch 2)"."""
    return f"step {snapshot.step:,}" + ("" if snapshot.epoch is None else f" (epoch {_epoch(snapshot.epoch)})")


def adaptable(seen: Inspected) -> AdaptableNumbers | None:
    """Return the adaptable shares of a trial at its own ε; None for a probe, or where nothing was kept."""
    if seen.series is None or seen.trial is None:
        return None
    return adaptable_numbers(seen.series)


def _layers(seen: Inspected, series: Series, steps: Sequence[int], *, all_layers: bool) -> list[RenderableType]:
    """Return one row per layer: its histograms at some steps, and the share of its entries that adapts."""
    snapshots = _nearest(series, steps)
    if not snapshots:
        return ["no snapshot keeps histograms"]
    setters: tuple[str, ...] = ()
    if seen.bounds is not None:
        setters = (*seen.bounds.low.layers, *seen.bounds.high.layers)
    elif moved := drift(series, None):
        setters = (*moved[-1].low_layers, *moved[-1].high_layers)
    rows = shown_rows(series.names, setters, all_layers=all_layers)
    columns = [names_column([series.names[row] for row in rows], _ends(seen))]
    if set(series.kinds) != {"other"}:
        columns.append(Column("kind", tuple(series.kinds[row] for row in rows), 3, is_text=True))
    columns.append(Column("entries", tuple(f"{series.entries[row]:,}" for row in rows), 2))
    if (numbers := adaptable(seen)) is not None:
        columns += _adapting([numbers.layers[series.names[row]] for row in rows])[1:]
    wanted = sum(column.keep >= _WANTED for column in columns)
    for count in range(len(snapshots), 0, -1):  # histograms make room for the columns that are wanted
        kept, width = fitted(columns, count)
        if width >= LEAST_SPARKLINE and sum(column.keep >= _WANTED for column in kept) == wanted:
            break
    drawn = [
        (
            f"step {snapshot.step:,}" if snapshot.epoch is None else f"epoch {_epoch(snapshot.epoch)}",
            [held.histogram if held else None for held in snapshot.layers],
        )
        for snapshot in evenly(snapshots, count)
    ]
    return [layers_table(kept, rows, drawn, width, _ends(seen)), *hidden_lines(len(rows), len(series.names))]


def _percentiles(series: Series) -> list[RenderableType]:
    """Return the percentiles of all layers' entries together, at some times."""
    band = pooled_percentiles(series, "all layers", range(len(series.names)))
    if band is None:
        return []
    unit = time_unit(series)
    places = [FRACTIONS.index(fraction) for fraction in _PERCENTILES]
    by_time = dict(zip(band.times, zip(*band.magnitudes, strict=True), strict=True))
    held = [snapshot for snapshot in series.snapshots if time_of(snapshot, unit) in by_time]
    rows = [
        (f"{each.step:,}", _epoch(each.epoch), *(power(by_time[time_of(each, unit)][place]) for place in places))
        for each in evenly(held, _TIMES_SHOWN)
    ]
    columns = ("step", "epoch", *(f"{100 * fraction:g} %" for fraction in _PERCENTILES))
    return [*titled("Percentiles of √v̂, all layers together"), table(columns, rows, ())]


def _bounds_over_time(seen: Inspected, series: Series) -> list[RenderableType]:
    """Return the bounds that the published rule gives at some times, next to those of the probe."""
    shown = evenly(drift(series, seen.bounds), _TIMES_SHOWN)
    if not shown:
        return []
    columns = [
        Column("step", tuple(f"{row.step:,}" for row in shown), 7),
        Column("epoch", tuple(_epoch(row.epoch) for row in shown), 6),
        Column("low √v̂", tuple(power(row.low) for row in shown)),
        Column("moved", tuple(signed_decades(row.low_moved) for row in shown)),
        Column("high √v̂", tuple(power(row.high) for row in shown)),
        Column("moved", tuple(signed_decades(row.high_moved) for row in shown)),
        Column("low set by", tuple(shortened(row.low_layers, 1) for row in shown), 4, is_text=True),
        Column("high set by", tuple(shortened(row.high_layers, 1) for row in shown), 4, is_text=True),
    ]
    if seen.trial:
        places = tuple(_epsilon_place(row.threshold, row.low, row.high) for row in shown)
        columns.insert(6, Column("ε is", places, 8))
    note = "moved: decades from the bounds of the probe" if seen.bounds else "nothing was probed to compare with"
    made = columns_table(fitted(columns, 0)[0])
    return [*titled("Bounds over time, by the published rule"), made, Text(note, style="dim")]


def _epsilon_place(threshold: float | None, low: float, high: float) -> str:
    """Return the place of ε among the magnitudes at a time."""
    if threshold is None:
        return NOTHING
    return "below" if threshold < low else "above" if threshold > high else "between"


def _kinds(seen: Inspected, series: Series) -> list[RenderableType]:
    """Return one row per kind of layer: its median at first and last, and the share of its entries that adapts."""
    found = kinds_of(series)
    shown = [pooled_percentiles(series, kind, indices) for kind, indices in found.items()]
    medians = [band.magnitudes[len(band.magnitudes) // 2] if band else None for band in shown]
    columns = [
        Column("kind", tuple(found), is_text=True),
        Column("layers", tuple(str(len(indices)) for indices in found.values()), 3),
        Column("entries", tuple(f"{sum(series.entries[i] for i in one):,}" for one in found.values()), 2),
        Column("median first", tuple(power(median[0] if median else None) for median in medians), 4),
        Column("last", tuple(power(median[-1] if median else None) for median in medians), 4),
    ]
    if (shares := adaptable(seen)) is not None:
        columns += _adapting(list(shares.kinds.values()))
    return [*titled("Kinds of layers"), columns_table(fitted(columns, 0)[0])]


def _layer(seen: Inspected, series: Series, name: str, steps: Sequence[int]) -> list[RenderableType]:
    """Return one layer in detail: at some times its histogram, its percentiles, its zeros and non-finite entries."""
    index = series.names.index(name)
    snapshots = _nearest(series, steps) if steps else evenly(series.snapshots, _TIMES_SHOWN)
    held = [snapshot.layers[index] for snapshot in snapshots]
    columns = [
        Column("step", tuple(f"{snapshot.step:,}" for snapshot in snapshots)),
        Column("epoch", tuple(_epoch(snapshot.epoch) for snapshot in snapshots), 5),
        Column("zeros", tuple(f"{one.zeros:,}" if one else NOTHING for one in held), 3),
        Column("not finite", tuple(f"{one.nonfinite:,}" if one else NOTHING for one in held), 2),
    ]
    for fraction, keep in zip(FRACTIONS, (9, 1, 4, 9, 4, 1, 9), strict=True):
        place = series.fractions.index(fraction)
        cells = tuple(power(one.quantiles[place] if one and one.quantiles else None) for one in held)
        columns.append(Column(f"{100 * fraction:g} %", cells, keep))
    if seen.trial:
        shares_at = dict(series.adaptable(name))
        columns.append(Column("adapting", tuple(_share(shares_at.get(each.step)) for each in snapshots), 6))
    columns, width = fitted(columns)
    histograms = [one.histogram if one else None for one in held]
    axis = Axis.of(histograms, width, _ends(seen))
    lines = [axis.line(histogram) for histogram in histograms]
    if ends := _ends(seen):
        columns[0] = Column("step", (*columns[0].cells, "bounds"))
        lines.append(axis.span(*ends))
    columns.append(Column(axis.header(), tuple(lines), is_text=True))
    title = f"{name}  {series.kinds[index]}, {series.entries[index]:,} entries"
    return [*titled(title), columns_table(columns)]


def _nearest(series: Series, steps: Sequence[int]) -> tuple[Snapshot, ...]:
    """Return the snapshots with histograms that are nearest to some steps, or first, middle and last."""
    held = with_histograms(series)
    if not steps or not held:
        return evenly(held, 3)
    nearest = {min(held, key=lambda snapshot: abs(snapshot.step - step)).step for step in steps}
    return tuple(snapshot for snapshot in held if snapshot.step in nearest)


def _adapting(curves: Sequence[Sequence[float | None]]) -> list[Column]:
    """Return the columns of the share of adapting entries: first, last, and over time."""
    return [
        Column("adapting first", tuple(_share(curve[0]) for curve in curves), 5),
        Column("adapting last", tuple(_share(curve[-1]) for curve in curves), _WANTED + 1),
        Column("over time", tuple(shares(curve, _CURVE_WIDTH) for curve in curves), _WANTED, is_text=True),
    ]


def _share(share: float | None) -> str:
    return NOTHING if share is None else percent(share)


def _ends(seen: Inspected) -> tuple[float, ...]:
    return (seen.bounds.low.magnitude, seen.bounds.high.magnitude) if seen.bounds else ()


def _epoch(epoch: float | None) -> str:
    return NOTHING if epoch is None else f"{round(epoch, 2):g}"
