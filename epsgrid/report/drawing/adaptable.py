"""Draw which share of each layer's entries still adapts, over time: a map of layers, those of a kind together.

Light is "ε decides, as in SGD with momentum", dark is "every entry has a step size of its own"; the shades differ in
lightness too, so that the map survives a print without colour.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from epsgrid.report.drawing.style import GREY, LABEL_INCH, elided, fix_layout, new_figure, rows_that_fit, style
from epsgrid.report.numbers.adaptable import AdaptableNumbers
from epsgrid.selection.formatting import power

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = "YlGnBu"
_NO_STATE = "#e3e3e3"
_TOTAL_INCH, _REST_INCH = 0.95, 1.35


def draw_adaptable(numbers: AdaptableNumbers) -> Figure:
    """Draw all entries together on top, the map below it, and what its colours mean at the bottom."""
    with style():
        rows_inch = _rows_inch(len(numbers.rows))
        figure = new_figure(_TOTAL_INCH + rows_inch + _REST_INCH)
        total, layers = figure.subplots(2, 1, sharex=True, height_ratios=[_TOTAL_INCH, rows_inch])
        edges = time_edges(numbers.times)
        _draw_total(total, numbers, edges)
        mesh = _draw_map(layers, numbers, edges, rows_inch)
        _draw_scale(figure, mesh, numbers)
        return fix_layout(figure)


def time_edges(times: Sequence[float]) -> list[float]:
    """Return the edges of cells around rising times: half way between neighbours, and as far beyond both ends.

    Nothing lies before time 0.

    >>> time_edges([1, 2, 4])
    [0.5, 1.5, 3.0, 5.0]
    """
    if len(times) == 1:
        return [times[0] - 0.5, times[0] + 0.5]
    inner = [(a + b) / 2 for a, b in itertools.pairwise(times)]
    return [max(2 * times[0] - inner[0], min(times[0], 0.0)), *inner, 2 * times[-1] - inner[-1]]


def groups(kinds: Sequence[str]) -> list[tuple[str, int, int]]:
    """Return runs of equal kinds as (kind, first row, row after the last).

    >>> groups(["dense", "dense", "bias"])
    [('dense', 0, 2), ('bias', 2, 3)]
    """
    starts = [row for row, kind in enumerate(kinds) if not row or kinds[row - 1] != kind]
    return [(kinds[first], first, end) for first, end in zip(starts, [*starts[1:], len(kinds)], strict=True)]


def pushed_apart(places: Sequence[float], least: float) -> list[float]:
    """Move rising places as little as it takes for neighbours to be `least` apart; the first may move up, too.

    >>> pushed_apart([0.0, 2.0, 2.5, 9.0], 1.0)
    [0.0, 1.75, 2.75, 9.0]
    """
    clusters: list[list[float]] = []
    for place in places:
        clusters.append([place])
        while len(clusters) > 1 and _centre(clusters[-1]) - _centre(clusters[-2]) < _reach(clusters[-2:], least):
            clusters[-2:] = [clusters[-2] + clusters[-1]]
    return [
        _centre(cluster) + (index - (len(cluster) - 1) / 2) * least
        for cluster in clusters
        for index in range(len(cluster))
    ]


def _centre(cluster: Sequence[float]) -> float:
    return sum(cluster) / len(cluster)


def _reach(pair: Sequence[Sequence[float]], least: float) -> float:
    """Return how far the centres of two clusters must be apart."""
    return least * (len(pair[0]) + len(pair[1])) / 2


def _rows_inch(layers: int) -> float:
    each = 0.24 if layers <= 12 else 0.17 if layers <= 30 else 0.135
    return max(0.9, min(layers * each, 8.6))


def _draw_total(axes: Axes, numbers: AdaptableNumbers, edges: Sequence[float]) -> None:
    known = [(time, 100 * share) for time, share in zip(numbers.times, numbers.total, strict=True) if share is not None]
    axes.plot(*zip(*known, strict=True), color="black", lw=1.2, marker="o" if len(known) == 1 else None, ms=4)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(-4, 104)
    axes.set_yticks([0, 50, 100], ["0 %", "50 %", "100 %"])
    axes.set_ylabel("all entries")
    axes.grid(axis="y", color="#dddddd", lw=0.6)
    axes.tick_params(labelbottom=False)


def _draw_map(axes: Axes, numbers: AdaptableNumbers, edges: Sequence[float], rows_inch: float) -> Any:
    """Draw one row of cells per layer, with names on the left and kinds on the right; return what has the colours."""
    from matplotlib.ticker import FixedLocator, MaxNLocator

    shares = [[math.nan if share is None else share for share in row.shares] for row in numbers.rows]
    heights = [float(row) for row in range(len(shares) + 1)]
    axes.set_facecolor(_NO_STATE)
    mesh = axes.pcolormesh(edges, heights, shares, cmap=_COLOURS, vmin=0, vmax=1, rasterized=True)
    axes.set_ylim(len(shares), 0)
    axes.set_xlabel(numbers.unit)
    one = [*numbers.times] if len(numbers.times) == 1 else None
    axes.xaxis.set_major_locator(FixedLocator(one) if one else MaxNLocator(nbins=8, integer=True))
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    row_inch = rows_inch / len(shares)
    labelled = rows_that_fit(len(shares), row_inch)
    axes.set_yticks([row + 0.5 for row in labelled], [elided(numbers.rows[row].layer) for row in labelled])
    axes.tick_params(axis="y", length=0, labelsize=7)
    for name in axes.get_yticklabels():
        name.set_parse_math(False)
    _name_kinds(axes, [row.kind for row in numbers.rows], row_inch)
    return mesh


def _name_kinds(axes: Axes, kinds: Sequence[str], row_inch: float) -> None:
    """Bracket the layers of each kind on the right and name it, pushing names apart where kinds have few layers."""
    found = groups(kinds)
    places = pushed_apart([(first + end) / 2 for _, first, end in found], LABEL_INCH / row_inch)
    beside = axes.get_yaxis_transform()
    gap = min(0.12, 0.02 / row_inch)
    for (kind, first, end), place in zip(found, places, strict=True):
        ends, centre = [first + gap, end - gap], (first + end) / 2
        axes.plot([1.008, 1.008], ends, transform=beside, color=GREY, lw=2.4, clip_on=False, solid_capstyle="butt")
        axes.plot([1.012, 1.022], [centre, place], transform=beside, color=GREY, lw=0.6, clip_on=False)
        axes.text(1.026, place, kind, transform=beside, fontsize=7, va="center_baseline", ha="left")
        if end < len(kinds):
            axes.axhline(end, color="white", lw=1.6)


def _draw_scale(figure: Figure, mesh: Any, numbers: AdaptableNumbers) -> None:
    scale = figure.colorbar(mesh, ax=figure.axes, location="bottom", fraction=0.05, aspect=45, pad=0.02)
    scale.outline.set_linewidth(0.5)
    ticks = {0: "0 %\nas SGD with momentum", 0.25: "25 %\n", 0.5: "50 %\n", 0.75: "75 %\n", 1: "100 %\nall adapt"}
    scale.set_ticks(list(ticks), labels=list(ticks.values()))
    scale.ax.tick_params(labelsize=7.5, length=2)
    epsilon = "" if numbers.epsilon is None else f" = {power(numbers.epsilon)}"
    scale.set_label(f"share of entries with √v̂ above the ε{epsilon} of {numbers.optimizer}; grey: no state")
