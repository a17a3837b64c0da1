"""Draw how the gradient magnitudes are spread, with the bounds and the swept ε: the published picture, per layer.

Up to sixty layers or so each has a ridge with its percentiles. Where rows become too low for that, the density is
shown by the shade of grey instead, and only as many layers are named as there is room for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from epsgrid.report.drawing.axes import log_axis
from epsgrid.report.drawing.style import (
    BLUE,
    GREY,
    PURPLE,
    SKY,
    VERMILION,
    VERMILION_TEXT,
    WIDTH_INCH,
    add_legend,
    elided,
    fix_layout,
    hover,
    new_figure,
    rows_that_fit,
    short_count,
    style,
)
from epsgrid.report.numbers.figures import EpsilonMark, HistogramNumbers, LayerDensity
from epsgrid.selection.cells import CONVENTIONAL, DEFAULT, NARROWED
from epsgrid.selection.formatting import decade, power

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure
    from matplotlib.patches import StepPatch

_POOLED_INCH, _REST_INCH = 1.9, 1.6
_HEADER_INCH = 0.2
"""Height of the row of column titles."""
_SLATE = "#707d8a"
_RIDGE_INCH = 0.11
"""Least height of a row that is drawn as a ridge."""


def draw_histograms(numbers: HistogramNumbers) -> Figure:
    """Draw all layers pooled on top, and one ridge for each layer below, scaled to its own peak."""
    with style():
        rows_inch = _rows_inch(len(numbers.layers))
        figure = new_figure(_POOLED_INCH + rows_inch + _REST_INCH)
        pooled, rows = figure.subplots(2, 1, sharex=True, height_ratios=[_POOLED_INCH, rows_inch])
        pooled.set_xscale("log")
        pooled.set_xlim(10 ** numbers.edges[0], 10 ** numbers.edges[-1])
        _draw_pooled(pooled, numbers)
        _draw_rows(rows, numbers, rows_inch)
        _mark_epsilons(pooled, numbers)
        for axes in (pooled, rows):
            axes.axvspan(numbers.low, numbers.high, color=SKY, alpha=0.18, lw=0, zorder=0)
            axes.axvline(numbers.low, color=BLUE, lw=1.1, ls="--", zorder=1)
            axes.axvline(numbers.high, color=VERMILION, lw=1.1, ls="-.", zorder=1)
        log_axis(rows.xaxis)
        add_legend(figure, _legend(numbers, rows_inch), columns=3)
        return fix_layout(figure)


def labelled_rows(layers: Sequence[LayerDensity], rows_inch: float) -> list[int]:
    """Return the rows whose names fit without touching: those that set a bound first, then evenly spaced ones."""
    setters = [row for row, layer in enumerate(layers) if layer.sets_low or layer.sets_high]
    return rows_that_fit(len(layers), _row_inch(len(layers), rows_inch), setters)


def _rows_inch(layers: int) -> float:
    """Return the height of the rows together: generous for few, legible up to sixty, then as dense as a page allows."""
    each = 0.42 if layers <= 8 else 0.27 if layers <= 24 else 0.14
    return _HEADER_INCH + max(0.6, min(layers * each, 8.8))


def _row_inch(layers: int, rows_inch: float) -> float:
    return (rows_inch - _HEADER_INCH) / max(layers, 1)


def _has_ridges(numbers: HistogramNumbers, rows_inch: float) -> bool:
    return _row_inch(len(numbers.layers), rows_inch) >= _RIDGE_INCH


def _draw_pooled(axes: Axes, numbers: HistogramNumbers) -> None:
    if numbers.pooled:
        edges = _linear(numbers.edges)
        _draw_steps(axes, numbers.pooled, edges, fill=True, color=GREY, alpha=0.55, lw=0)
        _draw_steps(axes, numbers.pooled, edges, color="black", lw=0.9)
    axes.set_ylim(0, 1.05 * max(numbers.pooled, default=0.95))
    axes.set_ylabel("share per decade,\nall layers")
    axes.tick_params(labelbottom=False)


def _draw_rows(axes: Axes, numbers: HistogramNumbers, rows_inch: float) -> None:
    """Draw one ridge per layer, first layer on top, with its name on the left and its size on the right."""
    layers = numbers.layers
    if _has_ridges(numbers, rows_inch):
        for row, layer in enumerate(layers):
            _draw_ridge(axes, numbers, layer, base=-row - 1)
    else:
        _draw_shades(axes, numbers)
    row_inch = _row_inch(len(layers), rows_inch)
    header = _HEADER_INCH / row_inch
    axes.set_ylim(-len(layers) - 0.03 / row_inch, header)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("gradient magnitude √v̂")
    labelled = labelled_rows(layers, rows_inch)
    places = [0.5 * header, *(-row - 0.55 for row in labelled)]
    axes.set_yticks(places, ["layer", *(elided(layers[row].name) for row in labelled)])
    axes.tick_params(axis="y", length=0, labelsize=7)
    _colour_names(axes, [layers[row] for row in labelled])
    sizes = axes.secondary_yaxis("right")
    sizes.spines["right"].set_visible(False)
    sizes.set_yticks(places, ["entries", *(_size(layers[row]) for row in labelled)])
    sizes.tick_params(length=0, labelsize=7)
    sizes.get_yticklabels()[0].set_color(GREY)


def _draw_shades(axes: Axes, numbers: HistogramNumbers) -> None:
    """Draw one row of pixels per layer, darkest at its peak; nothing where it has no entries."""
    blank = [math.nan] * (len(numbers.edges) - 1)
    shades = [_shades(layer.density) if layer.density else blank for layer in numbers.layers]
    heights = [-float(row) for row in range(len(shades) + 1)]
    edges = _linear(numbers.edges)
    axes.pcolormesh(edges, heights, shades, cmap=_slate(), vmin=0, vmax=1, rasterized=True)


def _slate() -> Colormap:
    """Return shades of one colour from nearly transparent to opaque, which show on white paper and on black."""
    from matplotlib.colors import LinearSegmentedColormap, to_rgba

    return LinearSegmentedColormap.from_list("slate", [to_rgba(_SLATE, 0.1), to_rgba(_SLATE, 1.0)])


def _shades(density: Sequence[float]) -> list[float]:
    """Scale a layer's density to its peak; what would be all but white is left out."""
    peak = max(density)
    return [value / peak if value > 0.02 * peak else math.nan for value in density]


def _draw_ridge(axes: Axes, numbers: HistogramNumbers, layer: LayerDensity, base: float) -> None:
    if not layer.density:
        return
    heights = [base + 0.86 * value / max(layer.density) for value in layer.density]
    edges, colour = _linear(numbers.edges), _colour(layer)
    ridge = _draw_steps(axes, heights, edges, baseline=base, fill=True, color=colour, alpha=0.75, lw=0)
    hover(ridge, f"{layer.name}: {layer.entries:,} entries, {power(layer.low)} to {power(layer.high)}")
    ends = [end for end in (layer.low, layer.high) if end is not None]
    axes.plot(ends, [base + 0.1] * len(ends), ls="none", marker="|", color="black", ms=3.5, mew=0.9)


def _draw_steps(axes: Axes, heights: Sequence[float], edges: Sequence[float], **look: Any) -> StepPatch:
    """Draw steps as `Axes.stairs` does, without its search of every corner for limits, which are set here anyway."""
    from matplotlib.patches import StepPatch

    steps = StepPatch(heights, edges, **{"baseline": 0.0, "fill": False, **look})
    axes.add_artist(steps)
    return steps


def _colour_names(axes: Axes, layers: Sequence[LayerDensity]) -> None:
    title, *names = axes.get_yticklabels()
    title.set_color(GREY)
    for name, layer in zip(names, layers, strict=True):
        name.set_parse_math(False)
        if layer.sets_low or layer.sets_high:
            name.set_color(VERMILION_TEXT if layer.sets_high else BLUE)
            name.set_fontweight("bold")


def _colour(layer: LayerDensity) -> str:
    return VERMILION if layer.sets_high else BLUE if layer.sets_low else GREY


def _size(layer: LayerDensity) -> str:
    """Say how many entries a row stands for, and what of them it cannot show."""
    if layer.status != "measured":
        return f"{short_count(layer.entries)}, {layer.status}"
    zeros = f", {100 * layer.zero_share:.0f} % zero" if layer.zero_share >= 0.005 else ""
    return f"{short_count(layer.entries)}{zeros}"


def _mark_epsilons(axes: Axes, numbers: HistogramNumbers) -> None:
    """Mark where each swept ε weighs as much as a magnitude, along the top edge."""
    from matplotlib.transforms import ScaledTranslation

    top = axes.secondary_xaxis("top")
    shown = _spaced(numbers)
    top.set_xticks([mark.magnitude for mark in shown], [decade(mark.epsilon) for mark in shown])
    top.set_xticks([], minor=True)
    top.tick_params(length=0, pad=8)
    top.spines["top"].set_visible(False)
    top.set_xlabel(f"swept ε of {numbers.optimizer}", labelpad=5)
    assert axes.figure is not None
    above = axes.get_xaxis_transform() + ScaledTranslation(0, 5 / 72, axes.figure.dpi_scale_trans)
    for mark in numbers.marks:
        axes.plot([mark.magnitude], [1], transform=above, clip_on=False, ls="none", **_mark(mark.grids))


def _spaced(numbers: HistogramNumbers) -> list[EpsilonMark]:
    """Return the swept ε whose labels fit without touching, from the least on."""
    least = (numbers.edges[-1] - numbers.edges[0]) * 0.42 / (0.62 * WIDTH_INCH)
    chosen: list[EpsilonMark] = []
    for mark in numbers.marks:
        if not chosen or math.log10(mark.magnitude / chosen[-1].magnitude) >= least:
            chosen.append(mark)
    return chosen


def _mark(grids: Sequence[str]) -> dict[str, Any]:
    """Return the look of a swept ε: narrowed, conventional only, or the default that neither has."""
    if not set(grids) - {DEFAULT}:
        return {"marker": "D", "ms": 4.5, "mfc": "white", "mec": PURPLE, "mew": 1.3}
    if NARROWED in grids:
        return {"marker": "v", "ms": 5.5, "mfc": BLUE, "mec": BLUE, "mew": 0.9}
    return {"marker": "v", "ms": 5.5, "mfc": "white", "mec": GREY, "mew": 0.9}


def _legend(numbers: HistogramNumbers, rows_inch: float) -> list[tuple[Any, str]]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    tails = f"{100 * numbers.tail_fraction:.3g} % and {100 * (1 - numbers.tail_fraction):.3g} %"
    entries: list[tuple[Any, str]] = [
        (Line2D([], [], color=BLUE, ls="--", lw=1.1), f"lower bound {power(numbers.low)} (blue layer)"),
        (Line2D([], [], color=VERMILION, ls="-.", lw=1.1), f"upper bound {power(numbers.high)} (orange layer)"),
        (Patch(color=SKY, alpha=0.35, lw=0), "between the bounds"),
    ]
    if _has_ridges(numbers, rows_inch):
        entries.append((Line2D([], [], color="black", ls="none", marker="|", ms=5), f"{tails} points of a layer"))
    looks = (
        ((NARROWED,), "ε of the narrowed grid"),
        ((CONVENTIONAL,), "ε of the conventional grid only"),
        ((), "default ε"),
    )
    for grids, label in looks:
        if any(_mark(mark.grids) == _mark(grids) for mark in numbers.marks):
            entries.append((Line2D([], [], ls="none", **_mark(grids)), label))
    return entries


def _linear(logs: Sequence[float]) -> list[float]:
    return [10**value for value in logs]
