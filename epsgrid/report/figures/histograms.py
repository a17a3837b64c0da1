"""The histogram figure, as published: how the gradient magnitudes √v̂ are spread, over all layers and in each.

With it come the bounds, the swept ε where they weigh as much as a magnitude, and the share of entries that adapt at an
ε that weighs as much: how abruptly a larger ε turns Adam into SGD with momentum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from epsgrid.numerics.histogram import HIDDEN_TAIL
from epsgrid.report.figures import style
from epsgrid.report.figures.binning import GREATEST, LEAST, counts_between, log_edges
from epsgrid.report.rows import Comparison
from epsgrid.report.trust import shares_above
from epsgrid.selection.formatting import power
from epsgrid.selection.load import StoredExperiment

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BINS_PER_DECADE = 10
_NAME_INCH = 0.13
"""Least distance of two names one below the other, in 7 point type."""


@dataclass(frozen=True)
class _LayerDensity:
    """A layer: share of its non-zero entries per decade of √v̂, by bin, and its low and high percentile, if it has any.

    `sets` is "low", "high" or "" by the bound that it sets.
    """

    name: str
    density: tuple[float, ...]
    ends: tuple[float | None, float | None]
    sets: str


@dataclass(frozen=True)
class _HistogramNumbers:
    """The numbers of the figure.

    Attributes:
        edges: bin edges, log10 of √v̂, one more than a density has values.
        pooled: density of all layers' entries together.
        adapting: share of all entries above each edge, in [0, 1]; zeros adapt at no ε.
        low, high: the bounds, √v̂ units.
        swept: the magnitudes that the swept ε weigh as much as, rising.
        default: the default ε and the magnitude that it weighs as much as; None before a sweep.
    """

    edges: tuple[float, ...]
    pooled: tuple[float, ...]
    adapting: tuple[float, ...]
    layers: tuple[_LayerDensity, ...]
    low: float
    high: float
    swept: tuple[float, ...]
    default: tuple[float, float] | None


def histogram_numbers(stored: StoredExperiment, comparison: Comparison) -> _HistogramNumbers | None:
    """Return the numbers of the figure; None where no probe was stored."""
    bounds = stored.bounds
    if bounds is None or stored.probe is None:
        return None
    magnitude = stored.probe.placement.magnitude_from_epsilon
    # before a sweep: the decades that a narrowed grid will have
    epsilons = {epsilon for row in comparison.grids for epsilon in row.epsilons} or set(bounds.decades)
    swept = tuple(magnitude(epsilon) for epsilon in sorted(epsilons))
    default = stored.grid.default_epsilon if stored.grid else None

    edges = log_edges(_BINS_PER_DECADE)
    counts = [counts_between(layer.histogram, edges) for layer in bounds.layers]
    extremes = [(h.quantile(HIDDEN_TAIL), h.quantile(1.0)) for layer in bounds.layers if (h := layer.histogram)]
    visible = [end for ends in extremes for end in ends if end]
    visible += [*swept, bounds.low.magnitude, bounds.high.magnitude]
    first = max(math.floor(math.log10(min(visible)) - 0.1), LEAST)
    last = min(math.ceil(math.log10(max(visible)) + 0.1), GREATEST)
    shown = slice((first - LEAST) * _BINS_PER_DECADE, (last - LEAST) * _BINS_PER_DECADE)
    shown_edges = edges[shown.start : shown.stop + 1]

    def density(held: npt.NDArray[np.float64]) -> tuple[float, ...]:
        return tuple((held[shown] / held.sum() * _BINS_PER_DECADE).tolist()) if held[shown].any() else ()

    counted = [layer for layer in bounds.layers if layer.histogram]
    setters = dict.fromkeys(bounds.low.layers, "low") | dict.fromkeys(bounds.high.layers, "high")
    return _HistogramNumbers(
        edges=tuple(shown_edges.tolist()),
        pooled=density(np.sum(counts, axis=0)),
        adapting=tuple(shares_above(counted, 10.0**shown_edges).tolist()) if counted else (),
        layers=tuple(
            _LayerDensity(layer.name, density(held), (layer.low, layer.high), setters.get(layer.name, ""))
            for layer, held in zip(bounds.layers, counts, strict=True)
        ),
        low=bounds.low.magnitude,
        high=bounds.high.magnitude,
        swept=swept,
        default=None if default is None else (default, magnitude(default)),
    )


def draw_histograms(numbers: _HistogramNumbers) -> Figure:
    """Draw all layers pooled on top, with the share that adapts, and below a row for each, fullest at its own peak.

    Rows are generous for few layers, legible up to sixty, then as dense as a page allows.
    """
    with style.applied():
        layers = len(numbers.layers)
        most_inch = 0.3 if layers <= 8 else 0.2 if layers <= 24 else 0.14
        layers_inch = max(0.4, min(layers * most_inch, 7.0))
        figure = style.new_figure(1.5 + layers_inch + 1.5)
        pooled, rows = figure.subplots(2, 1, sharex=True, height_ratios=[1.5, layers_inch])
        edges = [10**edge for edge in numbers.edges]
        pooled.set_xscale("log")
        pooled.set_xlim(edges[0], edges[-1])
        if numbers.pooled:
            pooled.stairs(numbers.pooled, edges, fill=True, color=style.GREY, alpha=0.5, lw=0)
        pooled.set_ylim(0, 1.05 * max(numbers.pooled, default=0.95))
        pooled.set_ylabel("share per decade")
        pooled.tick_params(labelbottom=False)
        if numbers.adapting:
            adapting = pooled.twinx()
            adapting.plot(edges, numbers.adapting, "k", lw=1.3, label="entries above: they adapt")
            adapting.set_ylim(0, 1.05)
            adapting.set_yticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
        _draw_layers(rows, numbers, edges, layers_inch / max(layers, 1))
        at_top: dict[str, Any] = {"transform": pooled.get_xaxis_transform(), "clip_on": False, "color": style.PURPLE}
        pooled.plot(numbers.swept, [1.0] * len(numbers.swept), "v", ms=4, label="swept ε", **at_top)
        for axes in (pooled, rows):
            style.shade_bounds(axes, numbers.low, numbers.high)
            for end, colour, dashes, name in (
                (numbers.low, style.BLUE, "--", "lower"),
                (numbers.high, style.VERMILION, "-.", "upper"),
            ):
                axes.axvline(end, color=colour, lw=1.1, ls=dashes, zorder=1, label=f"{name} bound {power(end)}")
            if numbers.default:
                style.mark_default(axes, *numbers.default)
        rows.set_xlabel("gradient magnitude √v̂")
        style.log_axis(rows.xaxis)
        return style.finished(figure)


def _draw_layers(axes: Axes, numbers: _HistogramNumbers, edges: list[float], row_inch: float) -> None:
    """Draw a row of pixels per layer, with its percentiles, and name those that set a bound and as many as fit."""
    from matplotlib.colors import ListedColormap

    layers = numbers.layers
    peaks = [max(layer.density, default=0.0) for layer in layers]
    empty = [0.0] * (len(edges) - 1)
    shades = [[v / peak for v in layer.density] if peak else empty for layer, peak in zip(layers, peaks, strict=True)]
    clear_to_dark = ListedColormap([(0.42, 0.49, 0.57, step / 255) for step in range(256)])
    look: dict[str, Any] = {"cmap": clear_to_dark, "vmin": 0, "vmax": 1, "rasterized": True, "zorder": 2}
    axes.pcolormesh(edges, list(range(len(layers) + 1)), shades, **look)
    if row_inch >= _NAME_INCH:
        ends = [(end, row + 0.5) for row, layer in enumerate(layers) for end in layer.ends if end is not None]
        xs, ys = zip(*ends, strict=True) if ends else ((), ())
        axes.plot(xs, ys, "k|", ms=5, mew=1.1, zorder=3, label="percentiles that count")
    axes.set_ylim(len(layers), 0)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0, labelsize=7)
    setters = [row for row, layer in enumerate(layers) if layer.sets]
    named = _rows_that_fit(len(layers), row_inch, setters)
    axes.set_yticks([row + 0.5 for row in named], [style.elided(layers[row].name) for row in named])
    for text, row in zip(axes.get_yticklabels(), named, strict=True):
        text.set_parse_math(False)
        if layers[row].sets:
            text.set_color(style.VERMILION if layers[row].sets == "high" else style.BLUE)
            text.set_fontweight("bold")


def _rows_that_fit(rows: int, row_inch: float, first: list[int]) -> list[int]:
    """Return the rows whose names fit without touching: those in `first` before evenly spaced ones."""
    least = math.ceil(_NAME_INCH / row_inch - 1e-9)
    chosen: list[int] = []
    for row in [*first, *range(0, rows, least)]:
        if all(abs(row - other) >= least for other in chosen):
            chosen.append(row)
    return sorted(chosen)
