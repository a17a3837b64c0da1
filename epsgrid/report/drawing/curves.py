"""Draw the metric against ε: one line per learning rate, with the spread over seeds.

Learning rates have an order, so their colours come from the viridis map, and each has a marker besides.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from epsgrid.report.drawing.axes import decades_entry, log_axis, log_values, shade_decades, value_lines
from epsgrid.report.drawing.style import (
    PURPLE,
    VERMILION,
    add_legend,
    fix_layout,
    hover,
    new_figure,
    style,
)
from epsgrid.report.numbers.figures import Curve, CurveNumbers, Point
from epsgrid.selection.cells import CONVENTIONAL, NARROWED, Spread
from epsgrid.selection.formatting import count, power, score

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKERS = "osD^vPp*<>hd"
_MOST_RATES = 6
"""Learning rates that can all be named on an axis."""
_PANEL_INCH, _STRIP_ROW_INCH, _REST_INCH = 2.5, 0.15, 1.25
_RINGS: dict[str, dict[str, Any]] = {
    NARROWED: {"marker": "s", "ms": 10.5, "mec": VERMILION, "mew": 1.3},
    CONVENTIONAL: {"marker": "o", "ms": 15.5, "mec": "black", "mew": 1.1},
}
"""The cell a grid chose; both rings fit round one marker."""


def draw_curves(numbers: CurveNumbers) -> Figure:
    """Draw a panel for the split that selects and one for test, and below them a strip of the diverged cells."""
    with style():
        splits = list(dict.fromkeys((numbers.selection, "test")))
        diverged = [index for index, curve in enumerate(numbers.curves) if any(p.diverged for p in curve.points)]
        heights = [_PANEL_INCH, _STRIP_ROW_INCH * (len(diverged) + 0.6)][: 2 if diverged else 1]
        figure = new_figure(sum(heights) + _REST_INCH)
        panels = figure.subplots(
            len(heights), len(splits), sharex=True, sharey="row", squeeze=False, height_ratios=heights
        )
        for column, split in enumerate(splits):
            _draw_metric(panels[0][column], numbers, split)
            if diverged:
                _draw_diverged(panels[1][column], numbers, diverged)
            panels[-1][column].set_xlabel(f"ε of {numbers.optimizer}" if numbers.has_epsilon else "learning rate")
        panels[0][0].set_ylabel(numbers.metric.label)
        if diverged:
            panels[1][0].set_ylabel("diverged", rotation=0, ha="right", va="center", fontsize=8)
        add_legend(figure, _legend(numbers, any_diverged=bool(diverged)), columns=4)
        return fix_layout(figure)


def _draw_metric(axes: Axes, numbers: CurveNumbers, split: str) -> None:
    axes.set_xscale("log")
    if len(xs := {point.x for curve in numbers.curves for point in curve.points}) == 1:
        axes.set_xlim(min(xs) / 10, max(xs) * 10)  # a single value has no range of its own
    log_axis(axes.xaxis)
    if not numbers.has_epsilon and len(xs) <= _MOST_RATES:
        axes.set_xticks(sorted(xs), [power(x) for x in sorted(xs)])  # they need not be powers of ten
    _mark_epsilons(axes, numbers)
    for index, curve in enumerate(numbers.curves):
        _draw_curve(axes, numbers, curve, index, split)
    means = [s.mean for curve in numbers.curves for p in curve.points if (s := _spread(p, numbers, split))]
    if numbers.metric.direction == "min" and means and 0 < 3 * min(means) < max(means):
        log_values(axes)
    if not means:
        axes.set_yticks([])
        axes.text(0.5, 0.5, "no cell has a score", transform=axes.transAxes, ha="center", va="center")
    axes.margins(y=0.1)
    axes.set_title(f"{split} (selects)" if split == numbers.selection else f"{split} (at the selected epoch)")
    value_lines(axes)


def _draw_curve(axes: Axes, numbers: CurveNumbers, curve: Curve, index: int, split: str) -> None:
    """Draw means and deviations; cells that lack a seed's score are hollow and not joined to the line."""
    colour, marker = _look(index, len(numbers.curves))
    factor, shift = numbers.metric.factor, _dodge(index, numbers)
    drawn = [(point, spread) for point in curve.points if (spread := _spread(point, numbers, split)) is not None]
    if not drawn:
        return
    places = {point: (point.x * shift, factor * spread.mean) for point, spread in drawn}
    deviations = [factor * (spread.sd or 0.0) for _, spread in drawn]
    xs, ys = zip(*places.values(), strict=True)
    axes.errorbar(xs, ys, yerr=deviations, fmt="none", ecolor=colour, elinewidth=0.9, capsize=1.8, zorder=3)
    for is_whole, face in ((True, colour), (False, "white")):
        if shown := [(p, spread) for p, spread in drawn if (p.done == p.seeds) is is_whole]:
            own = zip(*(places[point] for point, _ in shown), strict=True)
            (marks,) = axes.plot(*own, ls="none", marker=marker, ms=5, mfc=face, mec=colour, mew=1.1, zorder=4)
            hover(marks, *(_words(curve, point, spread, numbers, split) for point, spread in shown))
    for point, place in places.items():
        for grid in point.best_of:
            if grid in _RINGS:
                axes.plot(*place, ls="none", mfc="none", zorder=5, clip_on=False, **_RINGS[grid])
    if line := [place for point, place in places.items() if point.done == point.seeds]:
        axes.plot(*zip(*line, strict=True), color=colour, lw=1.2, zorder=2)


def _diverged_words(curve: Curve, point: Point, numbers: CurveNumbers) -> str:
    return f"{_where(curve, point, numbers)}: {point.diverged} of {count(point.seeds, 'seed')} diverged"


def _where(curve: Curve, point: Point, numbers: CurveNumbers) -> str:
    return f"{curve.label}, {'ε' if numbers.has_epsilon else 'lr'} {power(point.x)}"


def _words(curve: Curve, point: Point, spread: Spread, numbers: CurveNumbers, split: str) -> str:
    """Say in words what a marker stands for."""
    where = _where(curve, point, numbers)
    diverged = f", {point.diverged} diverged" if point.diverged else ""
    return f"{where}: {score(spread.mean, spread.sd, numbers.metric)} on {split}, {count(spread.n, 'seed')}{diverged}"


def _draw_diverged(axes: Axes, numbers: CurveNumbers, diverged: list[int]) -> None:
    """Mark diverged cells, one row per learning rate that has any, so that no two marks meet."""
    _mark_epsilons(axes, numbers)
    for row, index in enumerate(diverged):
        colour, _ = _look(index, len(numbers.curves))
        for is_whole, face in ((True, colour), (False, "white")):
            points = [p for p in numbers.curves[index].points if p.diverged and (p.diverged == p.seeds) is is_whole]
            if points:
                xs, ys = [point.x for point in points], [-row] * len(points)
                (marks,) = axes.plot(xs, ys, ls="none", marker="X", ms=5.5, mec=colour, mew=0.9, mfc=face)
                hover(marks, *(_diverged_words(numbers.curves[index], point, numbers) for point in points))
    axes.set_ylim(-len(diverged) + 0.2, 0.8)
    axes.tick_params(axis="y", length=0, labelleft=False)


def _mark_epsilons(axes: Axes, numbers: CurveNumbers) -> None:
    """Shade the decades of the bounds and mark the default ε."""
    if numbers.band is not None:
        shade_decades(axes, *numbers.band, margin=0.3)
    if numbers.default_epsilon is not None:
        axes.axvline(numbers.default_epsilon, color=PURPLE, lw=1.4, ls=":", zorder=1)


def _spread(point: Point, numbers: CurveNumbers, split: str) -> Spread | None:
    return point.score if split == numbers.selection else point.test


def _look(index: int, curves: int) -> tuple[Any, str]:
    """Return colour and marker of a curve: dark to light with the learning rate."""
    import matplotlib

    position = 0.02 if curves == 1 else 0.02 + 0.84 * index / (curves - 1)
    return matplotlib.colormaps["viridis"](position), _MARKERS[index % len(_MARKERS)]


def _dodge(index: int, numbers: CurveNumbers) -> float:
    """Return the factor that sets a curve's markers beside the others', at most a fifth of a decade off."""
    curves = len(numbers.curves)
    if curves == 1:
        return 1.0
    xs = [point.x for curve in numbers.curves for point in curve.points]
    decades = min(0.4, 0.025 * math.log10(max(xs) / min(xs)))
    return float(10 ** (decades * (index / (curves - 1) - 0.5)))


def _legend(numbers: CurveNumbers, *, any_diverged: bool) -> list[tuple[Any, str]]:
    from matplotlib.lines import Line2D

    entries: list[tuple[Any, str]] = []
    for index, curve in enumerate(numbers.curves):
        colour, marker = _look(index, len(numbers.curves))
        entries.append((Line2D([], [], color=colour, marker=marker, ms=5, lw=1.2), curve.label))
    if numbers.band is not None:
        entries.append(decades_entry())
    if numbers.default_epsilon is not None:
        default = f"default ε, {power(numbers.default_epsilon)}"
        entries.append((Line2D([], [], color=PURPLE, ls=":", lw=1.4), default))
    points = [point for curve in numbers.curves for point in curve.points]
    for grid, ring in _RINGS.items():
        if any(grid in point.best_of for point in points):
            small = {**ring, "ms": min(ring["ms"], 9.0)}
            entries.append((Line2D([], [], ls="none", mfc="none", **small), f"best of the {grid} grid"))
    if any(0 < point.done < point.seeds for point in points):
        entries.append((Line2D([], [], ls="none", marker="o", ms=5, mfc="white", mec="black"), "some seeds lacking"))
    if any_diverged:
        entries.append((Line2D([], [], ls="none", marker="X", ms=5.5, color="black"), "diverged (hollow: some seeds)"))
    return entries
