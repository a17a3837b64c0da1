"""The map of learning rates and ε: a tile for each cell, shaded by its score, with the narrowed range outlined.

The better a score, the lighter its tile. Where tiles are large enough the score is written into them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from epsgrid.report.figures import style
from epsgrid.report.figures.metric import SweepNumbers, describe_cell, sweep_numbers
from epsgrid.report.rows import Comparison
from epsgrid.selection.cells import CONVENTIONAL, NARROWED, Cell
from epsgrid.selection.formatting import power
from epsgrid.selection.load import StoredExperiment

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_REST_INCH = 1.5
_COLOURS = "viridis"
_DIVERGED = "#e8e8e8"
_RINGS = {NARROWED: (0.13, style.VERMILION_TEXT), CONVENTIONAL: (0.05, "black")}
"""Gap to the edge of the tile, and colour, of the ring around the cell that a grid chose."""
_LEAST_TILE_INCH = 0.3
"""Width from which on the score fits into a tile."""


def map_numbers(stored: StoredExperiment, comparison: Comparison) -> SweepNumbers | None:
    """Return the numbers of the map; None without results, or with one learning rate or one ε alone."""
    numbers = sweep_numbers(stored, comparison)
    return numbers if numbers and len(numbers.rates) > 1 and len(numbers.epsilons) > 1 else None


def draw_map(numbers: SweepNumbers) -> Figure:
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
        return style.finished(figure, columns=4)


def _place(cell: Cell, numbers: SweepNumbers) -> tuple[int, int]:
    """Return column and row of a cell."""
    assert cell.epsilon is not None
    return numbers.epsilons.index(cell.epsilon), numbers.rates.index(cell.learning_rate)


def _colour_scale(numbers: SweepNumbers) -> Any:
    """Return the scale from scores to colours; a metric that should be small may get a log scale."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm, Normalize

    means = [numbers.metric.factor * cell.score.mean for cell in numbers.cells if cell.score] or [0.0, 1.0]
    least, most = min(means), max(means)
    is_small = numbers.metric.direction == "min"
    norm: Any = LogNorm(least, most) if is_small and 0 < 3 * least < most else Normalize(least, most)
    return ScalarMappable(norm, f"{_COLOURS}_r" if is_small else _COLOURS)


def _draw_tile(axes: Axes, numbers: SweepNumbers, cell: Cell, scale: Any, *, has_value: bool) -> None:
    """Draw a tile, a cross where seeds diverged, a small one where others did not, and the score if it fits."""
    from matplotlib.patches import Rectangle

    x, y = _place(cell, numbers)
    value = numbers.metric.factor * cell.score.mean if cell.score else None
    colour: Any = _DIVERGED if value is None else scale.to_rgba(value)
    tile = axes.add_artist(Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, fc=colour, lw=0))
    style.hover(tile, describe_cell(cell, cell.score, numbers.metric))
    is_light = value is None or 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 0.52
    ink = "black" if is_light else "white"
    if cell.tally.diverged:
        size = 7.0 if value is None else 4.5
        place = (x, y) if value is None or not has_value else (x + 0.33, y + 0.24)
        axes.plot(*place, ls="none", marker="x", ms=size, mew=1.2, color=ink)
    if value is not None and has_value:
        digits = min(2, max(0, 2 - math.floor(math.log10(abs(value))))) if value else 0
        short = f"{value:.{digits}f}" if abs(value) < 1e4 else f"{value:.0e}".replace("e+0", "e")
        text = axes.text(x, y, short, ha="center", va="center_baseline", color=ink, fontsize=7)
        text.set_in_layout(False)  # it cannot reach out of its tile, and measuring hundreds takes long


def _outline(axes: Axes, numbers: SweepNumbers) -> None:
    """Outline the decades of the bounds and the best cells."""
    from matplotlib.patches import Rectangle

    rows = len(numbers.rates)
    low, high = numbers.decades or (math.inf, 0.0)
    inside = [column for column, epsilon in enumerate(numbers.epsilons) if 0.999 * low <= epsilon <= 1.001 * high]
    if inside:
        look: dict[str, Any] = {"ec": style.BLUE, "lw": 2.2, "clip_on": False, "label": "decades of the bounds"}
        axes.add_patch(Rectangle((inside[0] - 0.5, -0.5), len(inside), rows, fill=False, **look))
    for grid, cell in numbers.chosen:
        (x, y), (gap, colour) = _place(cell, numbers), _RINGS[grid]
        corner = (x - 0.48 + gap / 2, y - 0.46 + gap)
        size, label = (0.96 - gap, 0.92 - 2 * gap), f"best of the {grid} grid"
        axes.add_patch(Rectangle(corner, *size, fill=False, lw=1.8, ec=colour, label=label))
    if any(cell.tally.diverged for cell in numbers.cells):
        axes.plot([], [], ls="none", marker="x", ms=6, mew=1.2, color=style.GREY, label="diverged")
    axes.set_xlim(-0.5, len(numbers.epsilons) - 0.5)
    axes.set_ylim(-0.5, rows - 0.5)


def _name_axes(axes: Axes, numbers: SweepNumbers, row_inch: float, tile_inch: float) -> None:
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0)
    columns = range(0, len(numbers.epsilons), max(1, math.ceil(0.36 / tile_inch)))
    shown = [numbers.epsilons[column] for column in columns]
    is_default = [math.isclose(epsilon, numbers.default_epsilon or 0.0, rel_tol=1e-6) for epsilon in shown]
    names = [power(epsilon) + "\ndefault" * default for epsilon, default in zip(shown, is_default, strict=True)]
    axes.set_xticks(list(columns), names)
    rows = range(0, len(numbers.rates), max(1, math.ceil(0.14 / row_inch)))
    axes.set_yticks(list(rows), [power(numbers.rates[row]) for row in rows])
    axes.set_xlabel(f"ε of {numbers.optimizer}")
    axes.set_ylabel("learning rate")
