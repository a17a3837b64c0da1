"""The figure of the metric against ε: one line per learning rate, with the spread over seeds.

Learning rates have an order, so their colours come from the viridis map, and each has a marker besides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from epsgrid.report.figures import style
from epsgrid.report.rows import Comparison
from epsgrid.selection.cells import CONVENTIONAL, NARROWED, Cell, Spread
from epsgrid.selection.formatting import Metric, count, power, score
from epsgrid.selection.load import StoredExperiment

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_RATES = 6
"""Learning rates that can all be named on an axis."""
_PANEL_INCH, _STRIP_ROW_INCH, _REST_INCH = 2.5, 0.15, 1.25
_RINGS: dict[str, dict[str, Any]] = {
    NARROWED: {"ls": "none", "marker": "s", "ms": 10.5, "mfc": "none", "mec": style.VERMILION, "mew": 1.3},
    CONVENTIONAL: {"ls": "none", "marker": "o", "ms": 15.5, "mfc": "none", "mec": "black", "mew": 1.1},
}
"""Around the cell that a grid chose; both rings fit round one marker."""


def describe_cell(cell: Cell, spread: Spread | None, metric: Metric) -> str:
    """Return setting, score (`spread`, on one of the splits) and seeds without a score of a cell."""
    tally, parts = cell.tally, [score(spread.mean, spread.sd, metric)] if spread else []
    parts += [f"{tally.diverged} of {count(tally.trials, 'seed')} diverged"] if tally.diverged else []
    missing = tally.trials - tally.done - tally.diverged
    parts += [f"{count(missing, 'seed')} without a result"] if missing else []
    epsilon = "" if cell.epsilon is None else f", ε {power(cell.epsilon)}"
    return f"lr {power(cell.learning_rate)}{epsilon}: {'; '.join(parts)}"


@dataclass(frozen=True)
class SweepNumbers:
    """The numbers of this figure and of the map.

    Attributes:
        rates: swept learning rates, rising.
        epsilons: swept ε, rising; empty where the optimizer has none.
        cells: those with a result, by rising learning rate and ε; not empty.
        chosen: the best cells of the narrowed and of the conventional grid, as (grid, cell).
        metric: of the scores.
        selection: the split that selects.
        decades: first and last decade of the bounds; None without bounds or ε.
        default_epsilon: the ε without a search; None where there is no ε.
        optimizer: its name.
    """

    rates: tuple[float, ...]
    epsilons: tuple[float, ...]
    cells: tuple[Cell, ...]
    chosen: tuple[tuple[str, Cell], ...]
    metric: Metric
    selection: str
    decades: tuple[float, float] | None
    default_epsilon: float | None
    optimizer: str

    @property
    def curves(self) -> dict[str, tuple[Cell, ...]]:
        """The cells of each learning rate with a result; of an optimizer without ε one curve over learning rates."""
        if not self.epsilons:
            return {self.optimizer: self.cells}
        rates = dict.fromkeys(cell.learning_rate for cell in self.cells)
        return {f"lr {power(rate)}": tuple(cell for cell in self.cells if cell.learning_rate == rate) for rate in rates}


def sweep_numbers(stored: StoredExperiment, comparison: Comparison) -> SweepNumbers | None:
    """Return the numbers of the figure; None while no trial has a result."""
    cells = tuple(cell for cell in comparison.cells if cell.tally.done or cell.tally.diverged)
    if comparison.metric is None or stored.grid is None or not cells:
        return None
    epsilons = {cell.epsilon for cell in comparison.cells if cell.epsilon is not None}
    bounds = comparison.bounds if epsilons else None
    return SweepNumbers(
        rates=tuple(sorted({cell.learning_rate for cell in comparison.cells})),
        epsilons=tuple(sorted(epsilons)),
        cells=cells,
        chosen=tuple((row.name, row.choice.cell) for row in comparison.best if row.name in _RINGS and row.choice.cell),
        metric=comparison.metric,
        selection=comparison.selection,
        decades=(bounds.low.decade, bounds.high.decade) if bounds else None,
        default_epsilon=stored.grid.default_epsilon if epsilons else None,
        optimizer=comparison.optimizer,
    )


def draw_curves(numbers: SweepNumbers) -> Figure:
    """Draw a panel for the split that selects and one for test, and below them a strip of the diverged cells."""
    with style.applied():
        splits = list(dict.fromkeys((numbers.selection, "test")))
        curves = numbers.curves.values()
        diverged = [index for index, cells in enumerate(curves) if any(cell.tally.diverged for cell in cells)]
        heights = [_PANEL_INCH, _STRIP_ROW_INCH * (len(diverged) + 0.6)][: 2 if diverged else 1]
        figure = style.new_figure(sum(heights) + _REST_INCH)
        panels = figure.subplots(
            len(heights), len(splits), sharex=True, sharey="row", squeeze=False, height_ratios=heights
        )
        for column, split in enumerate(splits):
            _draw_metric(panels[0][column], numbers, split)
            if diverged:
                _draw_diverged(panels[1][column], numbers, diverged)
            panels[-1][column].set_xlabel(f"ε of {numbers.optimizer}" if numbers.epsilons else "learning rate")
        panels[0][0].set_ylabel(numbers.metric.label)
        if diverged:
            panels[1][0].set_ylabel("diverged", rotation=0, ha="right", va="center", fontsize=8)
        return style.finished(figure, columns=4)


def _draw_metric(axes: Axes, numbers: SweepNumbers, split: str) -> None:
    axes.set_xscale("log")
    if len(xs := {_x(cell) for cell in numbers.cells}) == 1:
        axes.set_xlim(min(xs) / 10, max(xs) * 10)  # a single value has no range of its own
    style.log_axis(axes.xaxis)
    if not numbers.epsilons and len(xs) <= _MOST_RATES:
        axes.set_xticks(sorted(xs), [power(x) for x in sorted(xs)])  # they need not be powers of ten
    _mark_epsilons(axes, numbers)
    for grid, _ in numbers.chosen:
        axes.plot([], [], label=f"best of the {grid} grid", **{**_RINGS[grid], "ms": min(_RINGS[grid]["ms"], 9.0)})
    means = [mean for index in range(len(numbers.curves)) for mean in _draw_curve(axes, numbers, index, split)]
    if numbers.metric.direction == "min" and means and 0 < 3 * min(means) < max(means):
        style.log_values(axes)
    if not means:
        axes.set_yticks([])
        axes.text(0.5, 0.5, "no cell has a score", transform=axes.transAxes, ha="center", va="center")
    axes.margins(y=0.1)
    axes.set_title(f"{split} (selects)" if split == numbers.selection else f"{split} (at the selected epoch)")
    style.value_lines(axes)


def _draw_curve(axes: Axes, numbers: SweepNumbers, index: int, split: str) -> list[float]:
    """Draw means and deviations; cells that lack a seed's score are hollow and not joined to the line.

    Markers of different curves stand side by side, at most a fifth of a decade from their ε. Returns the means.
    """
    factor, (colour, marker) = numbers.metric.factor, _look(index, numbers)
    label, cells = list(numbers.curves.items())[index]
    spreads = [(cell, cell.score if split == numbers.selection else cell.test) for cell in cells]
    drawn = [(cell, spread) for cell, spread in spreads if spread is not None]
    axes.plot([], [], color=colour, marker=marker, ms=5, lw=1.2, label=label)
    if not drawn:
        return []
    xs = [_x(cell) for cell in numbers.cells]
    decades = min(0.4, 0.025 * math.log10(max(xs) / min(xs)))
    shift = 10 ** (decades * (index / max(len(numbers.curves) - 1, 1) - 0.5)) if len(numbers.curves) > 1 else 1.0
    places = [(_x(cell) * shift, factor * spread.mean) for cell, spread in drawn]
    deviations = [factor * (spread.sd or 0.0) for _, spread in drawn]
    look: dict[str, Any] = {"fmt": "none", "ecolor": colour, "elinewidth": 0.9, "capsize": 1.8, "zorder": 3}
    axes.errorbar([x for x, _ in places], [y for _, y in places], yerr=deviations, **look)
    for is_whole, face in ((True, colour), (False, "white")):
        shown = [place for place, (cell, _) in enumerate(drawn) if (cell.tally.done == cell.tally.trials) is is_whole]
        if shown:
            look = {"marker": marker, "ms": 5, "mfc": face, "color": colour, "mew": 1.1, "lw": 1.2, "zorder": 4}
            look |= {"ls": "-"} if is_whole else {"ls": "none", "label": "some seeds missing"}
            (marks,) = axes.plot(*zip(*(places[place] for place in shown), strict=True), **look)
            style.hover(marks, *(describe_cell(*drawn[place], numbers.metric) for place in shown))
    for (cell, _), place in zip(drawn, places, strict=True):
        for grid, chosen in numbers.chosen:
            if chosen is cell:
                axes.plot(*place, zorder=5, clip_on=False, **_RINGS[grid])
    return [mean for _, mean in places]


def _draw_diverged(axes: Axes, numbers: SweepNumbers, diverged: Sequence[int]) -> None:
    """Mark diverged cells, one row per learning rate that has any, so that no two marks meet."""
    _mark_epsilons(axes, numbers)
    curves = list(numbers.curves.values())
    for row, index in enumerate(diverged):
        colour, _ = _look(index, numbers)
        for is_whole, face in ((True, colour), (False, "white")):
            tallies = [(cell, cell.tally) for cell in curves[index]]
            cells = [cell for cell, own in tallies if own.diverged and (own.diverged == own.trials) is is_whole]
            if cells:
                xs, ys = [_x(cell) for cell in cells], [-row] * len(cells)
                label = "diverged" if is_whole else "diverged, some seeds"
                look = {"ls": "none", "marker": "X", "ms": 5.5, "mec": colour, "mew": 0.9, "mfc": face}
                (marks,) = axes.plot(xs, ys, label=label, **look)
                style.hover(marks, *(describe_cell(cell, None, numbers.metric) for cell in cells))
    axes.set_ylim(-len(diverged) + 0.2, 0.8)
    axes.tick_params(axis="y", length=0, labelleft=False)


def _mark_epsilons(axes: Axes, numbers: SweepNumbers) -> None:
    """Shade the decades of the bounds and mark the default ε."""
    if numbers.decades is not None:
        style.shade_decades(axes, *numbers.decades, margin=0.3)
    if numbers.default_epsilon is not None:
        label = f"default ε, {power(numbers.default_epsilon)}"
        axes.axvline(numbers.default_epsilon, color=style.PURPLE, lw=1.4, ls=":", zorder=1, label=label)


def _x(cell: Cell) -> float:
    """Return where a cell stands: at its ε, or at its learning rate for an optimizer without ε."""
    return cell.learning_rate if cell.epsilon is None else cell.epsilon


def _look(index: int, numbers: SweepNumbers) -> tuple[Any, str]:
    """Return colour and marker of a curve: dark to light with the learning rate."""
    import matplotlib

    colour = matplotlib.colormaps["viridis"](0.02 + 0.84 * index / max(len(numbers.curves) - 1, 1))
    return colour, style.MARKERS[index % len(style.MARKERS)]
