"""The figure of percentiles of √v̂ over time: a panel for each kind of layer, or for one layer alone.

The bounds of epoch 1 stay where they were measured, so that one sees whether the magnitudes stay between them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from epsgrid.numerics.bounds import EpsilonBounds
from epsgrid.numerics.series import Series
from epsgrid.report.figures import style
from epsgrid.report.figures.binning import log_edges, pooled, quantile_of
from epsgrid.report.figures.over_time import TimeUnit, kinds_of, time_of, time_unit, with_histograms
from epsgrid.selection.formatting import count, power

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FRACTIONS = (0.02, 0.05, 0.25, 0.5, 0.75, 0.95, 0.98)
"""Percentiles of a panel, symmetric about the median; the outermost are the published ones."""

_POOLED_BINS_PER_DECADE = 50
_SHADES = ("#d9d9d9", "#b5b5b5", "#868686")
"""Of the areas between percentiles, the widest first; grey, so that the coloured lines stand out, also in print."""
_ROW_INCH, _ALONE_INCH, _REST_INCH = 1.75, 2.6, 1.0
_MIDDLE = len(FRACTIONS) // 2


@dataclass(frozen=True)
class Percentiles:
    """Percentiles of √v̂ over time, of one layer or of all layers of a kind together.

    Attributes:
        title: the layer, or the kind.
        layers: number of layers.
        entries: number of their entries.
        times: rising, in the figure's unit.
        magnitudes: for each of `FRACTIONS`, a value for each time, in √v̂ units.
    """

    title: str
    layers: int
    entries: int
    times: tuple[float, ...]
    magnitudes: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class _PercentileNumbers:
    """The numbers of the figure.

    Attributes:
        panels: one each; not empty.
        unit: of time.
        ends: lower and upper bound of epoch 1, √v̂ units; None where nothing was probed.
        thresholds: (time, magnitude that the optimizer's ε weighs as much as); empty where there is none.
        epsilon: that ε; None where it is not known.
        optimizer: its name.
    """

    panels: tuple[Percentiles, ...]
    unit: TimeUnit
    ends: tuple[float, float] | None
    thresholds: tuple[tuple[float, float], ...]
    epsilon: float | None
    optimizer: str


def _layer_percentiles(series: Series, name: str) -> Percentiles | None:
    """Return the percentiles of one layer at every snapshot; None where it never had a non-zero entry.

    Raises:
        ValueError: there is no layer of that name, or the series lacks one of `FRACTIONS`.
    """
    courses = [series.over_time(name, fraction) for fraction in FRACTIONS]
    unit = time_unit(series)
    times = {snapshot.step: time_of(snapshot, unit) for snapshot in series.snapshots}
    held = [(times[rows[0][0]], [value for _, value in rows]) for rows in zip(*courses, strict=True)]
    return _percentiles(name, 1, series.entries[series.names.index(name)], held)


def pooled_percentiles(series: Series, title: str, indices: Sequence[int]) -> Percentiles | None:
    """Return the percentiles of several layers' entries together, at the snapshots that hold histograms.

    They are read from folded histograms, in which neighbouring bins differ by a fifth; None without any entry.
    """
    edges, unit, held = log_edges(_POOLED_BINS_PER_DECADE), time_unit(series), []
    for snapshot in with_histograms(series):
        layers = [snapshot.layers[index] for index in indices]
        counts = pooled((layer.histogram for layer in layers if layer is not None), edges)
        values = [quantile_of(counts, edges, fraction) for fraction in FRACTIONS]
        if known := [value for value in values if value is not None]:
            held.append((time_of(snapshot, unit), known))
    return _percentiles(title, len(indices), sum(series.entries[index] for index in indices), held)


def _percentiles(
    title: str, layers: int, entries: int, held: Sequence[tuple[float, Sequence[float]]]
) -> Percentiles | None:
    if not held:
        return None
    times, values = zip(*held, strict=True)
    return Percentiles(title, layers, entries, times, tuple(zip(*values, strict=True)))


def percentile_numbers(
    series: Series,
    bounds: EpsilonBounds | None,
    *,
    optimizer: str,
    epsilon: float | None = None,
    layer: str | None = None,
) -> _PercentileNumbers | None:
    """Return the numbers of the figure; None where there is nothing to show.

    Args:
        series: the snapshots.
        bounds: of epoch 1; None where nothing was probed.
        optimizer: its name.
        epsilon: the trial's ε; None for a probe, whose ε means nothing.
        layer: show this one alone; None shows each kind of layer.

    Raises:
        ValueError: there is no layer of that name.
    """
    if layer is not None:
        found = [_layer_percentiles(series, layer)]
    else:
        found = [pooled_percentiles(series, kind, indices) for kind, indices in kinds_of(series).items()]
    panels = tuple(panel for panel in found if panel is not None)
    if not panels:
        return None
    unit = time_unit(series)
    known = [(time_of(s, unit), s.threshold) for s in series.snapshots if s.threshold is not None and s.threshold > 0]
    return _PercentileNumbers(
        panels=panels,
        unit=unit,
        ends=(bounds.low.magnitude, bounds.high.magnitude) if bounds else None,
        thresholds=tuple(known) if epsilon is not None else (),
        epsilon=epsilon,
        optimizer=optimizer,
    )


def draw_percentiles(numbers: _PercentileNumbers) -> Figure:
    """Draw the panels, two side by side, all with the same axes."""
    from matplotlib.ticker import MaxNLocator

    with style.applied():
        count_of_panels = len(numbers.panels)
        columns = min(count_of_panels, 2)
        rows = math.ceil(count_of_panels / columns)
        figure = style.new_figure((_ALONE_INCH if columns == 1 else rows * _ROW_INCH) + _REST_INCH)
        grid = list(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat)
        for place, (axes, panel) in enumerate(zip(grid, numbers.panels, strict=False)):
            _draw_panel(axes, panel, numbers)
            if place % columns == 0:
                axes.set_ylabel("√v̂")
            if place // columns == rows - 1:
                axes.set_xlabel(numbers.unit)
            axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
            axes.tick_params(labelbottom=place + columns >= count_of_panels)
        for axes in grid[count_of_panels:]:
            axes.remove()
        return style.finished(figure, columns=4)


def _draw_panel(axes: Axes, panel: Percentiles, numbers: _PercentileNumbers) -> None:
    alone = len(panel.times) == 1
    for wide, shade in enumerate(_SHADES):
        low, high = panel.magnitudes[wide], panel.magnitudes[-1 - wide]
        label = f"{100 * FRACTIONS[wide]:.3g}–{100 * FRACTIONS[-1 - wide]:.3g} %"
        if alone:
            look: dict[str, Any] = {"color": shade, "lw": 6 + 2 * wide, "solid_capstyle": "butt"}
            axes.plot([panel.times[0]] * 2, [low[0], high[0]], label=label, **look)
        else:
            axes.fill_between(panel.times, low, high, color=shade, lw=0, zorder=1, label=label)
    marker = "o" if alone else None
    axes.plot(panel.times, panel.magnitudes[_MIDDLE], "k", lw=1.2, marker=marker, ms=4, zorder=3, label="median")
    if numbers.ends is not None:
        low_label, high_label = (f"bound of epoch 1, {power(end)}" for end in numbers.ends)
        axes.axhline(numbers.ends[0], color=style.BLUE, lw=1.1, ls="--", zorder=4, label=f"lower {low_label}")
        axes.axhline(numbers.ends[1], color=style.VERMILION, lw=1.1, ls="-.", zorder=4, label=f"upper {high_label}")
    if numbers.thresholds:
        label = f"ε of {numbers.optimizer}, {power(numbers.epsilon)}"
        dotted: dict[str, Any] = {"color": style.PURPLE, "lw": 1.7, "ls": ":", "zorder": 6, "label": label}
        times, magnitudes = zip(*numbers.thresholds, strict=True)
        if len(times) == 1:
            axes.axhline(magnitudes[0], **dotted)
        else:
            axes.plot(times, magnitudes, color="white", lw=2.4, zorder=5)  # keeps the dots apart from the grey
            axes.plot(times, magnitudes, **dotted)
    axes.set_yscale("log")
    style.log_axis(axes.yaxis)
    axes.margins(x=0.5 if alone else 0)
    size = f"{count(panel.layers, 'layer')}, " if panel.layers > 1 else ""
    size += style.short_count(panel.entries)
    title = axes.set_title(f"{style.elided(panel.title)} ({size} entries)", loc="left")
    title.set_parse_math(False)
