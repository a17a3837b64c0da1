"""The histogram figure, as published: how the gradient magnitudes √v̂ of each layer are spread.

The bounds are drawn, and the swept ε where they weigh as much as a magnitude. Up to about sixty layers each has a ridge
with its percentiles. Where rows become too low for that, the density is shown by the shade of grey instead, and only as
many layers are named as there is room for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from epsgrid.numerics.magnitudes import LayerStatistics
from epsgrid.report.figures import style
from epsgrid.report.figures.binning import GREATEST, LEAST, counts_between, log_edges
from epsgrid.report.rows import Comparison
from epsgrid.selection.cells import CONVENTIONAL, DEFAULT, NARROWED
from epsgrid.selection.formatting import power
from epsgrid.selection.load import StoredExperiment

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import StepPatch

_BINS_PER_DECADE = 10
_HIDDEN_TAIL = 0.001
"""Share of a layer's smallest entries that may lie left of the picture: a few denormals would stretch it by decades."""
_POOLED_INCH, _REST_INCH = 1.9, 1.6
_HEADER_INCH = 0.2
"""Height of the row of column titles."""
_RIDGE_INCH = 0.11
"""Least height of a row that is drawn as a ridge."""
_MARKS: dict[str, dict[str, Any]] = {
    NARROWED: {"ls": "none", "marker": "v", "ms": 5.5, "mfc": style.BLUE, "mec": style.BLUE, "mew": 0.9},
    CONVENTIONAL: {"ls": "none", "marker": "v", "ms": 5.5, "mfc": "white", "mec": style.GREY, "mew": 0.9},
    DEFAULT: {"ls": "none", "marker": "D", "ms": 4.5, "mfc": "white", "mec": style.PURPLE, "mew": 1.3},
}
_MARKED = {
    NARROWED: "ε of the narrowed grid",
    CONVENTIONAL: "ε of the conventional grid only",
    DEFAULT: "default ε",
}


@dataclass(frozen=True)
class _LayerDensity:
    """One row of the figure.

    Attributes:
        layer: what was measured.
        density: share of its non-zero entries per decade of √v̂, one per bin; empty where there is nothing to show.
        sets_low: whether it sets the lower bound.
        sets_high: whether it sets the upper bound.
    """

    layer: LayerStatistics
    density: tuple[float, ...]
    sets_low: bool
    sets_high: bool


@dataclass(frozen=True)
class _EpsilonMark:
    """Where a swept ε lies among the magnitudes, and its grid: narrowed before conventional, or "default"."""

    epsilon: float
    magnitude: float
    grid: str


@dataclass(frozen=True)
class _HistogramNumbers:
    """The numbers of the figure.

    Attributes:
        edges: bin edges, log10 of √v̂, one more than a density has values.
        pooled: density of all layers' entries together.
        layers: one row per layer, in the model's order.
        low: lower bound, √v̂ units.
        high: upper bound, √v̂ units.
        marks: swept ε, rising.
        tail_fraction: share beyond `low` and `high` of each layer.
        optimizer: its name.
    """

    edges: tuple[float, ...]
    pooled: tuple[float, ...]
    layers: tuple[_LayerDensity, ...]
    low: float
    high: float
    marks: tuple[_EpsilonMark, ...]
    tail_fraction: float
    optimizer: str


def histogram_numbers(stored: StoredExperiment, comparison: Comparison) -> _HistogramNumbers | None:
    """Return the numbers of the figure; None where no probe was stored."""
    bounds = stored.bounds
    if bounds is None or stored.probe is None:
        return None
    grids = {epsilon: comparison.sweeping(epsilon) for row in comparison.grids for epsilon in row.epsilons}
    if not grids:  # before a sweep: the decades that a narrowed grid will have
        grids = dict.fromkeys(bounds.decades, (NARROWED,))
    if stored.grid is not None:
        grids.setdefault(stored.grid.default_epsilon, ())
    magnitude = stored.probe.placement.magnitude_from_epsilon
    marks = tuple(
        _EpsilonMark(epsilon, magnitude(epsilon), next((grid for grid in _MARKS if grid in grids[epsilon]), DEFAULT))
        for epsilon in sorted(grids)
    )

    edges = log_edges(_BINS_PER_DECADE)
    counts = [counts_between(layer.histogram, edges) for layer in bounds.layers]
    extremes = [(h.quantile(_HIDDEN_TAIL), h.quantile(1.0)) for layer in bounds.layers if (h := layer.histogram)]
    visible = [end for ends in extremes for end in ends if end]
    visible += [mark.magnitude for mark in marks] + [bounds.low.magnitude, bounds.high.magnitude]
    first = max(math.floor(math.log10(min(visible)) - 0.1), LEAST)
    last = min(math.ceil(math.log10(max(visible)) + 0.1), GREATEST)
    shown = slice((first - LEAST) * _BINS_PER_DECADE, (last - LEAST) * _BINS_PER_DECADE)

    def density(held: npt.NDArray[np.float64]) -> tuple[float, ...]:
        return tuple((held[shown] / held.sum() * _BINS_PER_DECADE).tolist()) if held[shown].any() else ()

    return _HistogramNumbers(
        edges=tuple(edges[shown.start : shown.stop + 1].tolist()),
        pooled=density(np.sum(counts, axis=0)),
        layers=tuple(
            _LayerDensity(layer, density(held), layer.name in bounds.low.layers, layer.name in bounds.high.layers)
            for layer, held in zip(bounds.layers, counts, strict=True)
        ),
        low=bounds.low.magnitude,
        high=bounds.high.magnitude,
        marks=marks,
        tail_fraction=bounds.tail_fraction,
        optimizer=comparison.optimizer,
    )


def draw_histograms(numbers: _HistogramNumbers) -> Figure:
    """Draw all layers pooled on top, and one ridge for each layer below, scaled to its own peak.

    Rows are generous for few layers, legible up to sixty, then as dense as a page allows.
    """
    with style.applied():
        layers = len(numbers.layers)
        most_inch = 0.42 if layers <= 8 else 0.27 if layers <= 24 else 0.14
        layers_inch = max(0.6, min(layers * most_inch, 8.8))
        row_inch = layers_inch / max(layers, 1)
        heights = [_POOLED_INCH, _HEADER_INCH + layers_inch]
        figure = style.new_figure(sum(heights) + _REST_INCH)
        pooled, rows = figure.subplots(2, 1, sharex=True, height_ratios=heights)
        edges = [10**edge for edge in numbers.edges]
        pooled.set_xscale("log")
        pooled.set_xlim(edges[0], edges[-1])
        if numbers.pooled:
            _draw_steps(pooled, numbers.pooled, edges, fill=True, color=style.GREY, alpha=0.55, lw=0)
            _draw_steps(pooled, numbers.pooled, edges, color="black", lw=0.9)
        pooled.set_ylim(0, 1.05 * max(numbers.pooled, default=0.95))
        pooled.set_ylabel("share per decade,\nall layers")
        pooled.tick_params(labelbottom=False)
        if row_inch >= _RIDGE_INCH:
            tails = [f"{100 * share:.3g} %" for share in (numbers.tail_fraction, 1 - numbers.tail_fraction)]
            for row, layer in enumerate(numbers.layers):
                _draw_ridge(rows, layer, edges, base=-row - 1, label=f"{' and '.join(tails)} points of a layer")
        else:
            _draw_shades(rows, numbers.layers, edges)
        _name_rows(rows, numbers.layers, row_inch)
        _mark_epsilons(pooled, numbers)
        low, high = (power(end) for end in (numbers.low, numbers.high))
        labels = f"lower bound {low} (blue layer)", f"upper bound {high} (orange layer)"
        for axes in (pooled, rows):
            look: dict[str, Any] = {"color": style.SKY, "alpha": 0.18, "lw": 0, "zorder": 0}
            axes.axvspan(numbers.low, numbers.high, label="between the bounds", **look)
            axes.axvline(numbers.low, color=style.BLUE, lw=1.1, ls="--", zorder=1, label=labels[0])
            axes.axvline(numbers.high, color=style.VERMILION, lw=1.1, ls="-.", zorder=1, label=labels[1])
        style.log_axis(rows.xaxis)
        return style.finished(figure, columns=3)


def _labelled_rows(layers: Sequence[_LayerDensity], row_inch: float) -> list[int]:
    """Return the rows whose names fit without touching: those that set a bound first, then evenly spaced ones."""
    setters = [row for row, layer in enumerate(layers) if layer.sets_low or layer.sets_high]
    return style.rows_that_fit(len(layers), row_inch, setters)


def _draw_ridge(axes: Axes, row: _LayerDensity, edges: Sequence[float], base: float, label: str) -> None:
    if not row.density:
        return
    layer, peak = row.layer, max(row.density)
    heights = [base + 0.86 * value / peak for value in row.density]
    colour = style.VERMILION if row.sets_high else style.BLUE if row.sets_low else style.GREY
    ridge = _draw_steps(axes, heights, edges, baseline=base, fill=True, color=colour, alpha=0.75, lw=0)
    style.hover(ridge, f"{layer.name}: {layer.entries:,} entries, {power(layer.low)} to {power(layer.high)}")
    ends = [end for end in (layer.low, layer.high) if end is not None]
    axes.plot(ends, [base + 0.1] * len(ends), "k|", ms=3.5, mew=0.9, label=label)


def _draw_shades(axes: Axes, layers: Sequence[_LayerDensity], edges: Sequence[float]) -> None:
    """Draw one row of pixels per layer, darkest at its peak; below 2 % of the peak nothing."""
    shades = np.full((len(layers), len(edges) - 1), math.nan)
    for row, layer in enumerate(layers):
        if layer.density:
            held = np.array(layer.density) / max(layer.density)
            shades[row] = np.where(held > 0.02, held, math.nan)
    heights = [-float(row) for row in range(len(layers) + 1)]
    axes.pcolormesh(edges, heights, shades, cmap="Greys", vmin=-0.1, vmax=1.4, rasterized=True)


def _name_rows(axes: Axes, layers: Sequence[_LayerDensity], row_inch: float) -> None:
    """Name the layers on the left, the first one on top, and tell their sizes on the right."""
    header = _HEADER_INCH / row_inch
    axes.set_ylim(-len(layers) - 0.03 / row_inch, header)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("gradient magnitude √v̂")
    named = [(row, layers[row]) for row in _labelled_rows(layers, row_inch)]
    places = [0.5 * header, *(-row - 0.55 for row, _ in named)]
    axes.set_yticks(places, ["layer", *(style.elided(own.layer.name) for _, own in named)])
    axes.tick_params(axis="y", length=0, labelsize=7)
    sizes = axes.secondary_yaxis("right")
    sizes.spines["right"].set_visible(False)
    sizes.set_yticks(places, ["entries", *(_size(own.layer) for _, own in named)])
    sizes.tick_params(length=0, labelsize=7)
    title, *names = axes.get_yticklabels()
    for head in (title, sizes.get_yticklabels()[0]):
        head.set_color(style.GREY)
    for name, (_, own) in zip(names, named, strict=True):
        name.set_parse_math(False)
        if own.sets_low or own.sets_high:
            name.set_color(style.VERMILION_TEXT if own.sets_high else style.BLUE)
            name.set_fontweight("bold")


def _size(layer: LayerStatistics) -> str:
    """Return the number of entries of a layer, with what its row cannot show of them."""
    if layer.low is None:
        return f"{style.short_count(layer.entries)}, {layer.status.value}"
    share = layer.histogram.zeros / layer.entries if layer.histogram and layer.entries else 0.0
    return style.short_count(layer.entries) + (f", {100 * share:.0f} % zero" if share >= 0.005 else "")


def _draw_steps(axes: Axes, heights: Sequence[float], edges: Sequence[float], **look: Any) -> StepPatch:
    """Draw steps as `Axes.stairs` does, without its search of every corner for limits, which are set here anyway."""
    from matplotlib.patches import StepPatch

    steps = StepPatch(heights, edges, **{"baseline": 0.0, "fill": False, **look})
    axes.add_artist(steps)
    return steps


def _mark_epsilons(axes: Axes, numbers: _HistogramNumbers) -> None:
    """Mark along the top edge where each swept ε weighs as much as a magnitude; name those that have room."""
    from matplotlib.transforms import ScaledTranslation

    least = (numbers.edges[-1] - numbers.edges[0]) * 0.42 / (0.62 * style.WIDTH_INCH)
    named: list[_EpsilonMark] = []
    for mark in numbers.marks:
        if not named or math.log10(mark.magnitude / named[-1].magnitude) >= least:
            named.append(mark)
    top = axes.secondary_xaxis("top")
    top.set_xticks([mark.magnitude for mark in named], [power(mark.epsilon) for mark in named])
    top.set_xticks([], minor=True)
    top.tick_params(length=0, pad=8)
    top.spines["top"].set_visible(False)
    top.set_xlabel(f"swept ε of {numbers.optimizer}", labelpad=5)
    assert axes.figure is not None
    above = axes.get_xaxis_transform() + ScaledTranslation(0, 5 / 72, axes.figure.dpi_scale_trans)
    for mark in numbers.marks:
        axes.plot([mark.magnitude], [1], transform=above, clip_on=False, label=_MARKED[mark.grid], **_MARKS[mark.grid])
