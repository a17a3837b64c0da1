"""The figure of adaptable shares: the share of each layer's entries with √v̂ above ε, over time.

Light is "ε decides, as in SGD with momentum", dark is "every entry has a step size of its own"; the shades differ in
lightness too, so that the map survives a print without colour.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from epsgrid.numerics.series import Series
from epsgrid.report.figures import style
from epsgrid.report.figures.over_time import TimeUnit, kinds_of, time_of, time_unit, with_histograms
from epsgrid.selection.formatting import power

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = "YlGnBu"
_NO_STATE = "#e3e3e3"
_TOTAL_INCH, _REST_INCH = 0.95, 1.35


@dataclass(frozen=True)
class _AdaptableRow:
    """The share of one layer's entries with √v̂ above ε, in [0, 1], at each time; None where it has no state."""

    layer: str
    kind: str
    entries: int
    shares: tuple[float | None, ...]


@dataclass(frozen=True)
class AdaptableNumbers:
    """The numbers of the figure.

    Attributes:
        rows: the layers, those of a kind together, otherwise in the model's order; not empty.
        total: share of all layers' entries together, at each time.
        times: rising; not empty.
        unit: of time.
        epsilon: the optimizer's ε; None where it is not known.
        optimizer: its name.
    """

    rows: tuple[_AdaptableRow, ...]
    total: tuple[float | None, ...]
    times: tuple[float, ...]
    unit: TimeUnit
    epsilon: float | None
    optimizer: str


def adaptable_numbers(
    series: Series, *, optimizer: str, epsilon: float | None = None, magnitude: float | None = None
) -> AdaptableNumbers | None:
    """Return the numbers of the figure; None where no snapshot holds what it needs.

    Args:
        series: the snapshots.
        optimizer: its name.
        epsilon: its ε.
        magnitude: count entries above this one, in √v̂ units; None takes each snapshot's own threshold.
    """
    snapshots = [s for s in with_histograms(series) if magnitude is not None or s.threshold is not None]
    if not snapshots:
        return None
    unit = time_unit(series)

    def shares(layer: str | None) -> tuple[float | None, ...]:
        by_step = dict(series.adaptable(layer, magnitude))
        return tuple(by_step.get(snapshot.step) for snapshot in snapshots)

    layers = list(zip(series.names, series.kinds, series.entries, strict=True))
    ordered = [layers[index] for indices in kinds_of(series).values() for index in indices]
    return AdaptableNumbers(
        rows=tuple(_AdaptableRow(*layer, shares(layer[0])) for layer in ordered),
        total=shares(None),
        times=tuple(time_of(snapshot, unit) for snapshot in snapshots),
        unit=unit,
        epsilon=epsilon,
        optimizer=optimizer,
    )


def adaptable_by_kind(series: Series) -> dict[str, tuple[float | None, ...]]:
    """Return, for each kind of layer, the share of its entries above ε at each time of `adaptable_numbers`."""
    numbers = adaptable_numbers(series, optimizer="")
    if numbers is None:
        return {}
    found: dict[str, tuple[float | None, ...]] = {}
    for kind, rows in itertools.groupby(numbers.rows, key=lambda row: row.kind):
        by_time = zip(*([(row.entries, share) for share in row.shares] for row in rows), strict=True)
        known = [[(entries, share) for entries, share in held if share is not None] for held in by_time]
        found[kind] = tuple(
            sum(entries * share for entries, share in held) / sum(entries for entries, _ in held) if held else None
            for held in known
        )
    return found


def draw_adaptable(numbers: AdaptableNumbers) -> Figure:
    """Draw all entries together on top, the map of layers below it, and the meaning of its colours at the bottom."""
    with style.applied():
        layers = len(numbers.rows)
        row_inch = 0.24 if layers <= 12 else 0.17 if layers <= 30 else 0.135
        rows_inch = max(0.9, min(layers * row_inch, 8.6))
        figure = style.new_figure(_TOTAL_INCH + rows_inch + _REST_INCH)
        total, rows = figure.subplots(2, 1, sharex=True, height_ratios=[_TOTAL_INCH, rows_inch])
        edges = _time_edges(numbers.times)
        shares = [math.nan if share is None else 100 * share for share in numbers.total]
        total.plot(numbers.times, shares, "k", lw=1.2, marker="o" if len(shares) == 1 else None, ms=4)
        total.set_xlim(edges[0], edges[-1])
        total.set_ylim(-4, 104)
        total.set_yticks([0, 50, 100], ["0 %", "50 %", "100 %"])
        total.set_ylabel("all entries")
        style.value_lines(total)
        total.tick_params(labelbottom=False)
        mesh = _draw_rows(rows, numbers, edges, rows_inch / layers)
        scale = figure.colorbar(mesh, ax=figure.axes, location="bottom", fraction=0.05, aspect=45, pad=0.02)
        scale.outline.set_linewidth(0.5)
        ticks = {0: "0 %\nas SGD with momentum", 0.25: "25 %\n", 0.5: "50 %\n", 0.75: "75 %\n", 1: "100 %\nall adapt"}
        scale.set_ticks(list(ticks), labels=list(ticks.values()))
        scale.ax.tick_params(labelsize=7.5, length=2)
        epsilon = "" if numbers.epsilon is None else f" = {power(numbers.epsilon)}"
        scale.set_label(f"share of entries with √v̂ above the ε{epsilon} of {numbers.optimizer}; grey: no state")
        return style.finished(figure)


def _time_edges(times: Sequence[float]) -> list[float]:
    """Return the edges of cells around rising times: half way between neighbours, and as far beyond both ends.

    Nothing lies before time 0.

    >>> _time_edges([1, 2, 4])
    [0.5, 1.5, 3.0, 5.0]
    """
    if len(times) == 1:
        return [times[0] - 0.5, times[0] + 0.5]
    inner = [(a + b) / 2 for a, b in itertools.pairwise(times)]
    return [max(2 * times[0] - inner[0], min(times[0], 0.0)), *inner, 2 * times[-1] - inner[-1]]


def _pushed_apart(places: Sequence[float], least: float) -> list[float]:
    """Move rising places as little as it takes for neighbours to be `least` apart; the first may move up, too.

    >>> _pushed_apart([0.0, 2.0, 2.5, 9.0], 1.0)
    [0.0, 1.75, 2.75, 9.0]
    """
    clusters: list[tuple[float, int]] = []  # centre and size
    for place in places:
        centre, size = place, 1
        while clusters and centre - clusters[-1][0] < least * (clusters[-1][1] + size) / 2:
            other, others = clusters.pop()
            centre, size = (other * others + centre * size) / (others + size), others + size
        clusters.append((centre, size))
    return [centre + (index - (size - 1) / 2) * least for centre, size in clusters for index in range(size)]


def _draw_rows(axes: Axes, numbers: AdaptableNumbers, edges: Sequence[float], row_inch: float) -> Any:
    """Draw one row of cells per layer, with names on the left and kinds on the right; return the coloured mesh."""
    from matplotlib.ticker import FixedLocator, MaxNLocator

    shares = [[math.nan if share is None else share for share in row.shares] for row in numbers.rows]
    heights = [float(row) for row in range(len(shares) + 1)]
    axes.set_facecolor(_NO_STATE)
    mesh = axes.pcolormesh(edges, heights, shares, cmap=_COLOURS, vmin=0, vmax=1, rasterized=True)
    axes.set_ylim(len(shares), 0)
    axes.set_xlabel(numbers.unit)
    alone = len(numbers.times) == 1
    axes.xaxis.set_major_locator(FixedLocator([*numbers.times]) if alone else MaxNLocator(nbins=8, integer=True))
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    labelled = style.rows_that_fit(len(shares), row_inch)
    axes.set_yticks([row + 0.5 for row in labelled], [style.elided(numbers.rows[row].layer) for row in labelled])
    axes.tick_params(axis="y", length=0, labelsize=7)
    for name in axes.get_yticklabels():
        name.set_parse_math(False)
    _name_kinds(axes, [row.kind for row in numbers.rows], row_inch)
    return mesh


def _name_kinds(axes: Axes, kinds: Sequence[str], row_inch: float) -> None:
    """Bracket the layers of each kind on the right and name it; names of kinds with few layers are pushed apart."""
    ends = list(itertools.accumulate(len(list(rows)) for _, rows in itertools.groupby(kinds)))
    groups = list(zip(dict.fromkeys(kinds), [0, *ends], ends, strict=False))
    places = _pushed_apart([(first + end) / 2 for _, first, end in groups], style.LABEL_INCH / row_inch)
    gap = min(0.12, 0.02 / row_inch)
    for (kind, first, end), place in zip(groups, places, strict=True):
        span, centre = [first + gap, end - gap], (first + end) / 2
        beside: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "clip_on": False}
        axes.plot([1.008, 1.008], span, color=style.GREY, lw=2.4, solid_capstyle="butt", **beside)
        axes.plot([1.012, 1.022], [centre, place], color=style.GREY, lw=0.6, **beside)
        axes.text(1.026, place, kind, fontsize=7, va="center_baseline", ha="left", **beside)
        if end < len(kinds):
            axes.axhline(end, color="white", lw=1.6)
