"""The figure of the metric against ε: each ε at its best learning rate, with the spread over seeds.

The shape of a point says what was found about its ε. Without an ε the same figure goes by learning rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from epsgrid.report.figures import style
from epsgrid.report.rows import Comparison
from epsgrid.selection.answers import NOT_FINISHED, EpsilonRow
from epsgrid.selection.cells import Cell, Spread
from epsgrid.selection.formatting import Metric, amounts, power
from epsgrid.selection.load import StoredExperiment

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LOOKS: dict[str, dict[str, Any]] = {
    "as good": {"marker": "o", "color": style.GREEN},
    "open": {"marker": "D", "color": style.BLUE, "mfc": "white"},
    "worse": {"marker": "v", "color": style.VERMILION},
    "not finished": {"marker": "s", "color": style.GREY, "mfc": "white"},
    "": {"marker": "o", "color": style.BLUE},
    "diverged": {"marker": "X", "color": style.VERMILION},
}
"""By standing; "" where ε are not compared."""
_MOST_RATES = 6
"""Learning rates that can all be named on an axis."""


@dataclass(frozen=True)
class _CurvePoint:
    """One ε at its best learning rate, or one learning rate of an optimizer without ε; standings are in `_LOOKS`."""

    x: float
    spread: Spread | None
    standing: str


@dataclass(frozen=True)
class _CurveNumbers:
    """The numbers of the figure: points by rising `what`, of which at least one has a score or diverged.

    `margin`, the first and last decade of the bounds, and the default ε are None where ε are not compared.
    """

    points: tuple[_CurvePoint, ...]
    metric: Metric
    margin: float | None
    decades: tuple[float, float] | None
    default_epsilon: float | None
    what: str

    @property
    def best(self) -> float | None:
        """The best mean, in the metric's stored unit; None without any score."""
        means = [point.spread.mean for point in self.points if point.spread]
        return max(means, key=lambda mean: self.metric.sign * mean, default=None)


def curve_numbers(stored: StoredExperiment, comparison: Comparison) -> _CurveNumbers | None:
    """Return the numbers of the figure; None while no trial has a result."""
    metric, answers = comparison.metric, comparison.answers
    if metric is None or stored.grid is None:
        return None
    points = []
    if answers.epsilons:
        cells = {cell.label: cell for cell in comparison.cells}
        for row in answers.epsilons:
            own = cells.get(row.cell) or _provisional(row, comparison.cells, metric)
            points.append(_CurvePoint(row.epsilon, own.test if own else None, row.standing))
    else:
        for cell in comparison.cells:
            found = "" if cell.test else "diverged" if cell.tally.complete else NOT_FINISHED
            points.append(_CurvePoint(cell.learning_rate, cell.test, found))
    if not any(point.spread or point.standing == "diverged" for point in points):
        return None
    bounds = comparison.bounds if answers.epsilons else None
    return _CurveNumbers(
        points=tuple(sorted(points, key=lambda point: point.x)),
        metric=metric,
        margin=answers.margin if answers.epsilons else None,
        decades=(bounds.low.decade, bounds.high.decade) if bounds else None,
        default_epsilon=stored.grid.default_epsilon if answers.epsilons else None,
        what=f"ε of {comparison.optimizer}" if answers.epsilons else f"learning rate of {comparison.optimizer}",
    )


def _provisional(row: EpsilonRow, cells: Sequence[Cell], metric: Metric) -> Cell | None:
    """Return the best setting so far of an ε that is not finished; None without a score."""
    scored = [(cell.score.mean, cell) for cell in cells if cell.score and cell.epsilon == row.epsilon]
    if row.standing != NOT_FINISHED or not scored:
        return None
    return max(scored, key=lambda pair: metric.sign * pair[0])[1]


def draw_curve(numbers: _CurveNumbers) -> Figure:
    """Draw the points, the margin below the best and the bounds; what diverged stands at the bottom."""
    factor, best = numbers.metric.factor, numbers.best
    with style.applied():
        figure = style.new_figure(3.1)
        axes = figure.subplots()
        xs = [point.x for point in numbers.points]
        axes.set_xscale("log")
        style.log_axis(axes.xaxis)
        beside = 2 * (max(xs) / min(xs)) ** 0.03
        axes.set_xlim(min(xs) / beside, max(xs) * beside)
        if numbers.default_epsilon is None and len(xs) <= _MOST_RATES:
            axes.set_xticks(xs, [power(x) for x in xs])  # they need not be powers of ten
        scored = [
            (point.x, factor * point.spread.mean, factor * (point.spread.sd or 0.0), point.standing)
            for point in numbers.points
            if point.spread
        ]
        means = [mean for _, mean, *_ in scored]
        axes.plot([x for x, *_ in scored], means, color=style.GREY, lw=0.9, zorder=2)
        for standing, look in _LOOKS.items():
            shown = [(x, mean, sd) for x, mean, sd, found in scored if found == standing]
            if shown:
                at, heights, deviations = zip(*shown, strict=True)
                axes.errorbar(at, heights, deviations, fmt="none", ecolor=look["color"], elinewidth=1.1, capsize=2.2)
                axes.plot(at, heights, ls="none", ms=6, mew=1.3, zorder=4, label=standing or None, **look)
        if best is None:
            axes.set_yticks([])
            axes.text(0.5, 0.5, "no setting has a score", transform=axes.transAxes, ha="center", va="center")
        elif numbers.margin is not None:
            ends = factor * best, factor * (best - numbers.metric.sign * numbers.margin)
            label = f"within the margin, {amounts([numbers.margin], numbers.metric)}"
            axes.axhspan(*ends, color=style.GREEN, alpha=0.28, lw=0, zorder=1, label=label)
        if numbers.metric.direction == "min" and means and 0 < 3 * min(means) < max(means):
            style.log_values(axes)
        axes.margins(y=0.1)
        if diverged := [point.x for point in numbers.points if not point.spread and point.standing == "diverged"]:
            low, high = axes.get_ylim()
            axes.set_ylim(
                low - 0.1 * (high - low) if axes.get_yscale() == "linear" else low * (low / high) ** 0.1, high
            )
            at_bottom: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "label": "diverged", "clip_on": False}
            axes.plot(diverged, [0.05] * len(diverged), ls="none", ms=6.5, zorder=4, **at_bottom, **_LOOKS["diverged"])
        if numbers.decades is not None:
            style.shade_bounds(axes, numbers.decades[0] / 2, numbers.decades[1] * 2)
        if numbers.default_epsilon is not None:
            style.mark_default(axes, numbers.default_epsilon)
        axes.set_xlabel(numbers.what)
        axes.set_ylabel(f"test {numbers.metric.label}")
        style.value_lines(axes)
        return style.finished(figure)
