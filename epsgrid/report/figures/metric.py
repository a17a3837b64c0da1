"""The figure of the metric against ε: one line per learning rate, with the spread over seeds.

Learning rates have an order, so their colours come from the viridis map, and each has a marker besides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from epsgrid.report.cells import Spread
from epsgrid.report.figures import style
from epsgrid.report.load import StoredExperiment
from epsgrid.report.rows import CONVENTIONAL, NARROWED, Comparison
from epsgrid.report.words import Metric, count, power, score

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_RATES = 6
"""Learning rates that can all be named on an axis."""
_PANEL_INCH, _STRIP_ROW_INCH, _REST_INCH = 2.5, 0.15, 1.25
_DEFAULT: dict[str, Any] = {"color": style.PURPLE, "lw": 1.4, "ls": ":"}
_RINGS: dict[str, dict[str, Any]] = {
    NARROWED: {"marker": "s", "ms": 10.5, "mec": style.VERMILION, "mew": 1.3},
    CONVENTIONAL: {"marker": "o", "ms": 15.5, "mec": "black", "mew": 1.1},
}
"""Around the cell that a grid chose; both rings fit round one marker."""


@dataclass(frozen=True)
class CellPoint:
    """One learning rate and ε with a result.

    Attributes:
        rate: learning rate of the grid.
        epsilon: the optimizer's own; None where it has none.
        score: mean and spread on the split that selects; None where no seed is done.
        test: the same on the test split.
        seeds: seeds asked for.
        done: seeds with a score.
        diverged: seeds that diverged.
        best_of: the grids, or "default", that chose this cell.
    """

    rate: float
    epsilon: float | None
    score: Spread | None
    test: Spread | None
    seeds: int
    done: int
    diverged: int
    best_of: tuple[str, ...]

    @property
    def x(self) -> float:
        """ε, or the learning rate of an optimizer without ε."""
        return self.rate if self.epsilon is None else self.epsilon


def cell_points(comparison: Comparison) -> tuple[CellPoint, ...]:
    """Return a point for each cell with a result, by rising learning rate and ε."""
    return tuple(
        CellPoint(
            rate=cell.learning_rate,
            epsilon=cell.epsilon,
            score=cell.score,
            test=cell.test,
            seeds=cell.tally.trials,
            done=cell.tally.done,
            diverged=cell.tally.diverged,
            best_of=tuple(row.name for row in comparison.best if row.choice.cell is cell),
        )
        for cell in comparison.cells
        if cell.tally.done or cell.tally.diverged
    )


@dataclass(frozen=True)
class Curve:
    """The points of one learning rate, rising; or all points of an optimizer without ε."""

    label: str
    points: tuple[CellPoint, ...]


@dataclass(frozen=True)
class CurveNumbers:
    """The numbers of the figure.

    Attributes:
        curves: one per learning rate, rising; a single one over learning rates where there is no ε.
        metric: of the points.
        selection: the split that selects.
        has_epsilon: whether x is ε.
        decades: first and last decade of the bounds; None without bounds or ε.
        default_epsilon: None where there is no ε.
        optimizer: its name.
    """

    curves: tuple[Curve, ...]
    metric: Metric
    selection: str
    has_epsilon: bool
    decades: tuple[float, float] | None
    default_epsilon: float | None
    optimizer: str


def curve_numbers(stored: StoredExperiment, comparison: Comparison) -> CurveNumbers | None:
    """Return the numbers of the figure; None while no trial has a result."""
    points = cell_points(comparison)
    if comparison.metric is None or stored.grid is None or not points:
        return None
    has_epsilon = any(point.epsilon is not None for point in points)
    rates = sorted({point.rate for point in points})
    by_rate = (Curve(f"lr {power(rate)}", tuple(point for point in points if point.rate == rate)) for rate in rates)
    bounds = comparison.bounds
    return CurveNumbers(
        curves=tuple(by_rate) if has_epsilon else (Curve(comparison.optimizer, points),),
        metric=comparison.metric,
        selection=comparison.selection,
        has_epsilon=has_epsilon,
        decades=(bounds.low.decade, bounds.high.decade) if bounds and has_epsilon else None,
        default_epsilon=stored.grid.default_epsilon if has_epsilon else None,
        optimizer=comparison.optimizer,
    )


def describe_curves(numbers: CurveNumbers) -> str:
    """Return what the figure shows, for readers who cannot see it: the best point of each curve."""
    best = []
    for curve in numbers.curves:
        known = [(point, point.score) for point in curve.points if point.score is not None]
        if not known:
            best.append(f"{curve.label}, all diverged")
            continue
        point, spread = max(known, key=lambda pair: numbers.metric.sign * pair[1].mean)
        where = f"{'ε' if numbers.has_epsilon else 'learning rate'} {power(point.x)}"
        best.append(f"{curve.label}, {score(spread.mean, spread.sd, numbers.metric)} at {where}")
    low_high = f"Bounds from {power(numbers.decades[0])} to {power(numbers.decades[1])}. " if numbers.decades else ""
    return f"{low_high}Best on {numbers.selection}: {'; '.join(best)}."


def draw_curves(numbers: CurveNumbers) -> Figure:
    """Draw a panel for the split that selects and one for test, and below them a strip of the diverged cells."""
    with style.applied():
        splits = list(dict.fromkeys((numbers.selection, "test")))
        diverged = [index for index, curve in enumerate(numbers.curves) if any(p.diverged for p in curve.points)]
        heights = [_PANEL_INCH, _STRIP_ROW_INCH * (len(diverged) + 0.6)][: 2 if diverged else 1]
        figure = style.new_figure(sum(heights) + _REST_INCH)
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
        return style.finished(figure, _legend(numbers, any_diverged=bool(diverged)), columns=4)


def _draw_metric(axes: Axes, numbers: CurveNumbers, split: str) -> None:
    axes.set_xscale("log")
    if len(xs := {point.x for curve in numbers.curves for point in curve.points}) == 1:
        axes.set_xlim(min(xs) / 10, max(xs) * 10)  # a single value has no range of its own
    style.log_axis(axes.xaxis)
    if not numbers.has_epsilon and len(xs) <= _MOST_RATES:
        axes.set_xticks(sorted(xs), [power(x) for x in sorted(xs)])  # they need not be powers of ten
    _mark_epsilons(axes, numbers)
    means = [mean for index in range(len(numbers.curves)) for mean in _draw_curve(axes, numbers, index, split)]
    if numbers.metric.direction == "min" and means and 0 < 3 * min(means) < max(means):
        style.log_values(axes)
    if not means:
        axes.set_yticks([])
        axes.text(0.5, 0.5, "no cell has a score", transform=axes.transAxes, ha="center", va="center")
    axes.margins(y=0.1)
    axes.set_title(f"{split} (selects)" if split == numbers.selection else f"{split} (at the selected epoch)")
    style.value_lines(axes)


def _draw_curve(axes: Axes, numbers: CurveNumbers, index: int, split: str) -> list[float]:
    """Draw means and deviations; cells that lack a seed's score are hollow and not joined to the line.

    Markers of different curves stand side by side, at most a fifth of a decade from their ε. Returns the means.
    """
    curve, factor, (colour, marker) = numbers.curves[index], numbers.metric.factor, _look(index, numbers)
    spreads = [(point, point.score if split == numbers.selection else point.test) for point in curve.points]
    drawn = [(point, spread) for point, spread in spreads if spread is not None]
    if not drawn:
        return []
    xs = [point.x for other in numbers.curves for point in other.points]
    decades = min(0.4, 0.025 * math.log10(max(xs) / min(xs)))
    shift = 10 ** (decades * (index / max(len(numbers.curves) - 1, 1) - 0.5)) if len(numbers.curves) > 1 else 1.0
    places = [(point.x * shift, factor * spread.mean) for point, spread in drawn]
    deviations = [factor * (spread.sd or 0.0) for _, spread in drawn]
    look: dict[str, Any] = {"fmt": "none", "ecolor": colour, "elinewidth": 0.9, "capsize": 1.8, "zorder": 3}
    axes.errorbar([x for x, _ in places], [y for _, y in places], yerr=deviations, **look)
    whole = [point.done == point.seeds for point, _ in drawn]
    for is_whole, face in ((True, colour), (False, "white")):
        shown = [place for place, own in enumerate(whole) if own is is_whole]
        if shown:
            own = zip(*(places[place] for place in shown), strict=True)
            (marks,) = axes.plot(*own, ls="none", marker=marker, ms=5, mfc=face, mec=colour, mew=1.1, zorder=4)
            style.hover(marks, *(_words(curve, *drawn[place], numbers, split) for place in shown))
    for (point, _), place in zip(drawn, places, strict=True):
        for grid in point.best_of:
            if grid in _RINGS:
                axes.plot(*place, ls="none", mfc="none", zorder=5, clip_on=False, **_RINGS[grid])
    if line := [place for place, own in zip(places, whole, strict=True) if own]:
        axes.plot(*zip(*line, strict=True), color=colour, lw=1.2, zorder=2)
    return [mean for _, mean in places]


def _words(curve: Curve, point: CellPoint, spread: Spread, numbers: CurveNumbers, split: str) -> str:
    """Return what a marker stands for."""
    diverged = f", {point.diverged} diverged" if point.diverged else ""
    value = score(spread.mean, spread.sd, numbers.metric)
    return f"{_where(curve, point, numbers)}: {value} on {split}, {count(spread.n, 'seed')}{diverged}"


def _where(curve: Curve, point: CellPoint, numbers: CurveNumbers) -> str:
    return f"{curve.label}, {'ε' if numbers.has_epsilon else 'lr'} {power(point.x)}"


def _draw_diverged(axes: Axes, numbers: CurveNumbers, diverged: Sequence[int]) -> None:
    """Mark diverged cells, one row per learning rate that has any, so that no two marks meet."""
    _mark_epsilons(axes, numbers)
    for row, index in enumerate(diverged):
        curve, (colour, _) = numbers.curves[index], _look(index, numbers)
        for is_whole, face in ((True, colour), (False, "white")):
            points = [p for p in curve.points if p.diverged and (p.diverged == p.seeds) is is_whole]
            if points:
                xs, ys = [point.x for point in points], [-row] * len(points)
                (marks,) = axes.plot(xs, ys, ls="none", marker="X", ms=5.5, mec=colour, mew=0.9, mfc=face)
                texts = [(p, f"{p.diverged} of {count(p.seeds, 'seed')} diverged") for p in points]
                style.hover(marks, *(f"{_where(curve, point, numbers)}: {text}" for point, text in texts))
    axes.set_ylim(-len(diverged) + 0.2, 0.8)
    axes.tick_params(axis="y", length=0, labelleft=False)


def _mark_epsilons(axes: Axes, numbers: CurveNumbers) -> None:
    """Shade the decades of the bounds and mark the default ε."""
    if numbers.decades is not None:
        style.shade_decades(axes, *numbers.decades, margin=0.3)
    if numbers.default_epsilon is not None:
        axes.axvline(numbers.default_epsilon, zorder=1, **_DEFAULT)


def _look(index: int, numbers: CurveNumbers) -> tuple[Any, str]:
    """Return colour and marker of a curve: dark to light with the learning rate."""
    return style.ordered_colour(index, len(numbers.curves)), style.MARKERS[index % len(style.MARKERS)]


def _legend(numbers: CurveNumbers, *, any_diverged: bool) -> list[tuple[Any, str]]:
    entries: list[tuple[Any, str]] = []
    for index, curve in enumerate(numbers.curves):
        colour, marker = _look(index, numbers)
        entries.append(style.line_entry(curve.label, color=colour, marker=marker, ms=5, lw=1.2))
    if numbers.decades is not None:
        entries.append(style.decades_entry())
    if numbers.default_epsilon is not None:
        entries.append(style.line_entry(f"default ε, {power(numbers.default_epsilon)}", **_DEFAULT))
    points = [point for curve in numbers.curves for point in curve.points]
    for grid, ring in _RINGS.items():
        if any(grid in point.best_of for point in points):
            small = {**ring, "ms": min(ring["ms"], 9.0)}
            entries.append(style.line_entry(f"best of the {grid} grid", ls="none", mfc="none", **small))
    if any(0 < point.done < point.seeds for point in points):
        entries.append(style.line_entry("some seeds missing", ls="none", marker="o", ms=5, mfc="white", mec="black"))
    if any_diverged:
        entries.append(style.line_entry("diverged (hollow: some seeds)", ls="none", marker="X", ms=5.5, color="black"))
    return entries
