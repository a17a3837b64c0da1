"""The map of learning rates and ε: a tile for each cell, shaded by its score, with the narrowed range outlined.

The better a score, the lighter its tile. Where tiles are large enough the score is written into them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from epsgrid.report.figures import style
from epsgrid.report.figures.metric import CellPoint, cell_points
from epsgrid.report.load import StoredExperiment
from epsgrid.report.rows import CONVENTIONAL, NARROWED, Comparison
from epsgrid.report.words import Metric, count, power, score

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_REST_INCH = 1.5
_COLOURS = "viridis"
_LIGHTEST = "#fde725"
_DIVERGED = "#e8e8e8"
_RINGS = {NARROWED: (0.13, style.VERMILION_TEXT), CONVENTIONAL: (0.05, "black")}
"""Gap to the edge of the tile, and colour, of the ring around the cell that a grid chose."""
_LEAST_TILE_INCH = 0.3
"""Width from which on the score fits into a tile."""


@dataclass(frozen=True)
class MapNumbers:
    """The numbers of the figure.

    Attributes:
        rates: learning rates, rising; at least two.
        epsilons: swept ε, rising; at least two.
        cells: those with a result.
        metric: of the scores.
        selection: the split that selects.
        columns: first and last column inside the bounds' decades; None where there is none.
        default_epsilon: the ε without a search.
        optimizer: its name.
    """

    rates: tuple[float, ...]
    epsilons: tuple[float, ...]
    cells: tuple[CellPoint, ...]
    metric: Metric
    selection: str
    columns: tuple[int, int] | None
    default_epsilon: float
    optimizer: str

    def place(self, cell: CellPoint) -> tuple[int, int]:
        """Return column and row of a cell."""
        return self.epsilons.index(cell.x), self.rates.index(cell.rate)


def map_numbers(stored: StoredExperiment, comparison: Comparison) -> MapNumbers | None:
    """Return the numbers of the map; None without results, or with one learning rate or one ε alone."""
    planned = [cell for cell in comparison.cells if cell.epsilon is not None]
    rates = sorted({cell.learning_rate for cell in planned})
    epsilons = sorted({cell.epsilon for cell in planned if cell.epsilon is not None})
    cells = tuple(cell for cell in cell_points(comparison) if cell.epsilon is not None)
    if comparison.metric is None or stored.grid is None or not cells or len(rates) < 2 or len(epsilons) < 2:
        return None
    bounds = comparison.bounds
    ends = (bounds.low.decade * 0.999, bounds.high.decade * 1.001) if bounds else (math.inf, 0.0)
    inside = [column for column, epsilon in enumerate(epsilons) if ends[0] <= epsilon <= ends[1]]
    return MapNumbers(
        rates=tuple(rates),
        epsilons=tuple(epsilons),
        cells=cells,
        metric=comparison.metric,
        selection=comparison.selection,
        columns=(inside[0], inside[-1]) if inside else None,
        default_epsilon=stored.grid.default_epsilon,
        optimizer=comparison.optimizer,
    )


def describe_map(numbers: MapNumbers) -> str:
    """Return what the figure shows, for readers who cannot see it."""
    diverged = sum(1 for cell in numbers.cells if cell.diverged)
    size = f"{count(len(numbers.rates), 'learning rate')} by {len(numbers.epsilons)} ε"
    scored = [(cell, cell.score) for cell in numbers.cells if cell.score is not None]
    best = ""
    if scored:
        cell, spread = max(scored, key=lambda pair: numbers.metric.sign * pair[1].mean)
        where = f"lr {power(cell.rate)}, ε {power(cell.epsilon)}"
        best = f"; best on {numbers.selection}: {where} with {score(spread.mean, spread.sd, numbers.metric)}"
    return f"{size}; {count(diverged, 'cell')} diverged{best}."


def describe_tile(cell: CellPoint, numbers: MapNumbers) -> str:
    """Return what a tile shows."""
    parts = [score(cell.score.mean, cell.score.sd, numbers.metric)] if cell.score else []
    parts += [f"{cell.diverged} of {count(cell.seeds, 'seed')} diverged"] if cell.diverged else []
    missing = cell.seeds - cell.done - cell.diverged
    parts += [f"{count(missing, 'seed')} without a result"] if missing else []
    return f"lr {power(cell.rate)}, ε {power(cell.epsilon)}: {'; '.join(parts)}"


def draw_map(numbers: MapNumbers) -> Figure:
    """Draw ε from left to right and learning rates upwards, evenly spaced, whatever lies between them."""
    with style.applied():
        rows, columns = len(numbers.rates), len(numbers.epsilons)
        row_inch = 0.3 if rows <= 12 else max(0.09, 3.6 / rows)
        tile_inch = 0.86 * style.WIDTH_INCH / columns
        figure = style.new_figure(row_inch * rows + _REST_INCH)
        axes = figure.subplots()
        scale = _colour_scale(numbers)
        for cell in numbers.cells:
            has_value = tile_inch >= _LEAST_TILE_INCH and row_inch >= 0.18
            _draw_tile(axes, numbers, cell, scale, has_value=has_value)
        _outline(axes, numbers)
        _name_axes(axes, numbers, row_inch, tile_inch)
        if any(cell.score for cell in numbers.cells):
            bar = figure.colorbar(scale, ax=axes, fraction=0.03, pad=0.02, aspect=16)
            bar.outline.set_visible(False)
            bar.ax.yaxis.set_major_formatter("{x:g}")
            bar.ax.minorticks_off()
            bar.ax.tick_params(labelsize=7, length=2)
            axes.set_title(f"{numbers.selection} {numbers.metric.label}", loc="left")
        return style.finished(figure, _legend(numbers), columns=4)


def _colour_scale(numbers: MapNumbers) -> Any:
    """Return the scale from scores to colours; a metric that should be small may get a log scale."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm, Normalize

    means = [numbers.metric.factor * cell.score.mean for cell in numbers.cells if cell.score] or [0.0, 1.0]
    least, most = min(means), max(means)
    is_small = numbers.metric.direction == "min"
    norm: Any = LogNorm(least, most) if is_small and 0 < 3 * least < most else Normalize(least, most)
    return ScalarMappable(norm, f"{_COLOURS}_r" if is_small else _COLOURS)


def _draw_tile(axes: Axes, numbers: MapNumbers, cell: CellPoint, scale: Any, *, has_value: bool) -> None:
    """Draw a tile, a cross where seeds diverged, a small one where others did not, and the score if it fits."""
    from matplotlib.patches import Rectangle

    x, y = numbers.place(cell)
    value = numbers.metric.factor * cell.score.mean if cell.score else None
    colour: Any = _DIVERGED if value is None else scale.to_rgba(value)
    tile = axes.add_artist(Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, fc=colour, lw=0))
    style.hover(tile, describe_tile(cell, numbers))
    is_light = value is None or 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 0.52
    ink = "black" if is_light else "white"
    if cell.diverged:
        size = 7.0 if value is None else 4.5
        place = (x, y) if value is None or not has_value else (x + 0.33, y + 0.24)
        axes.plot(*place, ls="none", marker="x", ms=size, mew=1.2, color=ink)
    if value is not None and has_value:
        digits = min(2, max(0, 2 - math.floor(math.log10(abs(value))))) if value else 0
        short = f"{value:.{digits}f}" if abs(value) < 1e4 else f"{value:.0e}".replace("e+0", "e")
        text = axes.text(x, y, short, ha="center", va="center_baseline", color=ink, fontsize=7)
        text.set_in_layout(False)  # it cannot reach out of its tile, and measuring hundreds takes long


def _outline(axes: Axes, numbers: MapNumbers) -> None:
    """Outline the decades of the bounds and the best cells."""
    from matplotlib.patches import Rectangle

    rows = len(numbers.rates)
    if numbers.columns is not None:
        first, last = numbers.columns
        width = last - first + 1
        axes.add_patch(Rectangle((first - 0.5, -0.5), width, rows, fill=False, ec=style.BLUE, lw=2.2, clip_on=False))
    for cell in numbers.cells:
        x, y = numbers.place(cell)
        for grid, (gap, colour) in _RINGS.items():
            if grid in cell.best_of:
                corner = (x - 0.48 + gap / 2, y - 0.46 + gap)
                axes.add_patch(Rectangle(corner, 0.96 - gap, 0.92 - 2 * gap, fill=False, lw=1.8, ec=colour))
    axes.set_xlim(-0.5, len(numbers.epsilons) - 0.5)
    axes.set_ylim(-0.5, rows - 0.5)


def _name_axes(axes: Axes, numbers: MapNumbers, row_inch: float, tile_inch: float) -> None:
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0)
    columns = range(0, len(numbers.epsilons), max(1, math.ceil(0.36 / tile_inch)))
    shown = [numbers.epsilons[column] for column in columns]
    is_default = [math.isclose(epsilon, numbers.default_epsilon, rel_tol=1e-6) for epsilon in shown]
    names = [power(epsilon) + "\ndefault" * default for epsilon, default in zip(shown, is_default, strict=True)]
    axes.set_xticks(list(columns), names)
    rows = range(0, len(numbers.rates), max(1, math.ceil(0.14 / row_inch)))
    axes.set_yticks(list(rows), [power(numbers.rates[row]) for row in rows])
    axes.set_xlabel(f"ε of {numbers.optimizer}")
    axes.set_ylabel("learning rate")


def _legend(numbers: MapNumbers) -> list[tuple[Any, str]]:
    entries: list[tuple[Any, str]] = []
    if numbers.columns is not None:
        entries.append(style.area_entry("decades of the bounds", fc="none", ec=style.BLUE, lw=2.2))
    chosen = {grid for cell in numbers.cells for grid in cell.best_of}
    for grid, (_, colour) in _RINGS.items():
        if grid in chosen:
            entries.append(style.area_entry(f"best of the {grid} grid", fc=_LIGHTEST, ec=colour, lw=1.8))
    if any(cell.diverged for cell in numbers.cells):
        entries.append(style.line_entry("diverged", ls="none", marker="x", ms=6, mew=1.2, color=style.GREY))
    return entries
