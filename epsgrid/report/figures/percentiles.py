"""The figure of percentiles of √v̂ over time: a panel for each kind of layer.

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
from epsgrid.report.figures.over_time import TimeUnit, times_of, with_histograms
from epsgrid.selection.formatting import power

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FRACTIONS = (0.02, 0.05, 0.25, 0.5, 0.75, 0.95, 0.98)
"""Percentiles of a panel, symmetric about the median; the outermost are the published ones."""

_POOLED_BINS_PER_DECADE = 50
_KINDS = (style.GREEN, style.VERMILION, style.BLUE, style.PURPLE, "#8a6d00", style.GREY, style.SKY)
_MIDDLE = len(FRACTIONS) // 2


@dataclass(frozen=True)
class _Percentiles:
    """Percentiles of √v̂ of all layers of a kind together: for each of `FRACTIONS` a value for each time, √v̂ units."""

    title: str
    times: tuple[float, ...]
    magnitudes: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class _PercentileNumbers:
    """The numbers of the figure: at least one panel, and the bounds of epoch 1, √v̂ units, where something was probed.

    `thresholds` are (time, magnitude that ε weighs as much as), `adapting` is (time, share of the entries above ε) of
    each kind of layer.
    """

    panels: tuple[_Percentiles, ...]
    unit: TimeUnit
    ends: tuple[float, float] | None
    thresholds: tuple[tuple[float, float], ...]
    epsilon: float | None
    adapting: dict[str, tuple[tuple[float, float], ...]]


def _pooled_percentiles(series: Series, title: str, indices: Sequence[int]) -> _Percentiles | None:
    """Return the percentiles of several layers' entries together, from folded histograms; None without any entry."""
    edges, (_, time), times, rows = log_edges(_POOLED_BINS_PER_DECADE), times_of(series), [], []
    for snapshot in with_histograms(series):
        layers = [snapshot.layers[index] for index in indices]
        counts = pooled((layer.histogram for layer in layers if layer is not None), edges)
        values = [quantile_of(counts, edges, fraction) for fraction in FRACTIONS]
        if known := [value for value in values if value is not None]:
            times.append(time[snapshot.step])
            rows.append(known)
    return _Percentiles(title, tuple(times), tuple(zip(*rows, strict=True))) if rows else None


def percentile_numbers(
    series: Series, bounds: EpsilonBounds | None, epsilon: float | None
) -> _PercentileNumbers | None:
    """Return the numbers of the figure for a trial of that ε; None where there is nothing to show."""
    of_kind = {kind: [at for at, own in enumerate(series.kinds) if own == kind] for kind in series.kinds}
    found = [_pooled_percentiles(series, kind, indices) for kind, indices in of_kind.items()]
    panels = tuple(panel for panel in found if panel is not None)
    if not panels:
        return None
    unit, times = times_of(series)
    adapting = {kind: [(times[step], share) for step, share in series.adaptable(kind=kind)] for kind in of_kind}
    return _PercentileNumbers(
        panels=panels,
        unit=unit,
        ends=(bounds.low.magnitude, bounds.high.magnitude) if bounds else None,
        thresholds=tuple((times[s.step], s.threshold) for s in series.snapshots if s.threshold),
        epsilon=epsilon,
        adapting={kind: tuple(points) for kind, points in adapting.items() if points},
    )


def draw_percentiles(numbers: _PercentileNumbers) -> Figure:
    """Draw the panels, two side by side with the same axes, and after them the share of entries that adapt."""
    from matplotlib.ticker import MaxNLocator

    with style.applied():
        panels = len(numbers.panels) + bool(numbers.adapting)
        columns = min(panels, 2)
        rows = math.ceil(panels / columns)
        figure = style.new_figure(rows * (1.5 if columns == 2 else 2.2) + 1.1)
        grid = list(figure.subplots(rows, columns, sharex=True, squeeze=False).flat)
        for axes, panel in zip(grid, numbers.panels, strict=False):
            _draw_panel(axes, panel, numbers)
        limits = [axes.get_ylim() for axes in grid[: len(numbers.panels)]]
        for axes in grid[: len(numbers.panels)]:
            axes.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
        if numbers.adapting:
            axes = grid[panels - 1]
            for place, (kind, points) in enumerate(numbers.adapting.items()):
                look: dict[str, Any] = {
                    "color": _KINDS[place % len(_KINDS)],
                    "marker": "o" if len(points) == 1 else None,
                }
                axes.plot(*zip(*points, strict=True), ms=3, lw=1.3, label=f"{kind}: adapting", **look)
            axes.set_ylim(-0.04, 1.04)
            axes.set_yticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
            axes.set_title("entries with √v̂ above ε", loc="left")
            style.value_lines(axes)
        for place, axes in enumerate(grid[:panels]):
            axes.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
            axes.tick_params(labelbottom=place + columns >= panels)
            if place + columns >= panels:
                axes.set_xlabel(numbers.unit)
        for axes in grid[panels:]:
            axes.remove()
        return style.finished(figure)


def _draw_panel(axes: Axes, panel: _Percentiles, numbers: _PercentileNumbers) -> None:
    times, magnitudes = panel.times, panel.magnitudes
    if len(times) == 1:  # a single snapshot is drawn as if it had lasted
        times, magnitudes = (times[0] - 0.5, times[0] + 0.5), tuple((value[0],) * 2 for value in magnitudes)
    for wide in range(_MIDDLE):
        label = f"{100 * FRACTIONS[wide]:.3g}–{100 * FRACTIONS[-1 - wide]:.3g} %"
        look: dict[str, Any] = {"color": style.GREY, "alpha": 0.18 + 0.1 * wide, "lw": 0, "label": label}
        axes.fill_between(times, magnitudes[wide], magnitudes[-1 - wide], **look)
    axes.plot(times, magnitudes[_MIDDLE], "k", lw=1.2, zorder=3, label="median")
    if numbers.ends is not None:
        low, high = numbers.ends
        axes.axhline(low, color=style.BLUE, lw=1.1, ls="--", zorder=4, label=f"lower bound {power(low)}")
        axes.axhline(high, color=style.VERMILION, lw=1.1, ls="-.", zorder=4, label=f"upper bound {power(high)}")
    if numbers.thresholds:
        at, heights = zip(*numbers.thresholds, strict=True)
        if len(at) == 1:
            at, heights = (times[0], times[-1]), heights * 2
        axes.plot(at, heights, color=style.PURPLE, lw=1.7, ls=":", zorder=6, label=f"ε = {power(numbers.epsilon)}")
    axes.set_yscale("log")
    style.log_axis(axes.yaxis)
    axes.margins(x=0)
    title = axes.set_title(f"√v̂, {style.elided(panel.title)}", loc="left")
    title.set_parse_math(False)
