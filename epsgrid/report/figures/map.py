"""The map of learning rates and ε: a tile for each setting, shaded by its score; the better, the lighter."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from epsgrid.report.figures import style
from epsgrid.report.rows import Comparison
from epsgrid.selection.cells import Cell
from epsgrid.selection.formatting import Metric, power
from epsgrid.selection.load import StoredExperiment

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DIVERGED, _DARK, _LIGHT = "#bbbbbb", "#111111", "#fefefe"
"""Colours of tiles, and of what is written on them; the page leaves them as they are."""
_LEAST_TILE_INCH = 0.25
"""Width from which on the score fits into a tile."""


@dataclass(frozen=True)
class _MapNumbers:
    """The numbers of the map: at least two rates and ε, rising, and the cells with a result.

    `best` are the cells that are compared, each ε at its best learning rate; `margin` is the difference that does not
    matter, and `decades` are the first and last of the bounds, both None while not known.
    """

    rates: tuple[float, ...]
    epsilons: tuple[float, ...]
    cells: tuple[Cell, ...]
    best: tuple[Cell, ...]
    metric: Metric
    margin: float | None
    decades: tuple[float, float] | None
    default_epsilon: float
    optimizer: str


def map_numbers(stored: StoredExperiment, comparison: Comparison) -> _MapNumbers | None:
    """Return the numbers of the map; None without results, or with one learning rate or one ε alone."""
    cells = tuple(cell for cell in comparison.cells if cell.tally.done or cell.tally.diverged)
    rates = sorted({cell.learning_rate for cell in comparison.cells})
    epsilons = sorted({cell.epsilon for cell in comparison.cells if cell.epsilon is not None})
    if comparison.metric is None or stored.grid is None or not cells or len(rates) < 2 or len(epsilons) < 2:
        return None
    chosen, bounds = {row.cell for row in comparison.answers.epsilons}, comparison.bounds
    return _MapNumbers(
        rates=tuple(rates),
        epsilons=tuple(epsilons),
        cells=cells,
        best=tuple(cell for cell in cells if cell.label in chosen),
        metric=comparison.metric,
        margin=comparison.answers.margin,
        decades=(bounds.low.decade, bounds.high.decade) if bounds else None,
        default_epsilon=stored.grid.default_epsilon,
        optimizer=comparison.optimizer,
    )


def draw_map(numbers: _MapNumbers) -> Figure:
    """Draw ε from left to right and learning rates upwards, evenly spaced, whatever lies between them."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.patches import Rectangle

    with style.applied():
        rows, columns = len(numbers.rates), len(numbers.epsilons)
        row_inch, tile_inch = min(0.5, max(2.1 / rows, min(0.22, 3.6 / rows))), 0.86 * style.WIDTH_INCH / columns
        has_value = tile_inch >= _LEAST_TILE_INCH and row_inch >= 0.18
        figure = style.new_figure(row_inch * rows + 1.2)
        axes = figure.subplots()
        colours, shade_of = colormaps["viridis"], shades(numbers)
        for cell in numbers.cells:
            x, y = numbers.epsilons.index(cell.epsilon or 0.0), numbers.rates.index(cell.learning_rate)
            colour = colours(shade_of[cell.score.mean]) if cell.score else _DIVERGED
            _draw_tile(axes, numbers, cell, (x, y), colour, has_value=has_value)
            if cell in numbers.best:
                frame: dict[str, Any] = {"fill": False, "ec": style.VERMILION, "lw": 1.6, "label": "best of its ε"}
                axes.add_patch(Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, zorder=3, **frame))
        low, high = numbers.decades or (math.inf, 0.0)
        inside = [x for x, epsilon in enumerate(numbers.epsilons) if 0.999 * low <= epsilon <= 1.001 * high]
        if inside:
            style.shade_bounds(axes, inside[0] - 0.5, inside[-1] + 0.5)
        if any(cell.tally.diverged for cell in numbers.cells):
            axes.plot([], [], ls="none", marker="x", ms=6, mew=1.2, color=style.GREY, label="diverged")
        axes.set_xlim(-0.5, columns - 0.5)
        axes.set_ylim(-0.62, rows - 0.38)  # the shade of the bounds shows above and below the tiles
        _name_axes(axes, numbers, row_inch, tile_inch)
        if not has_value and shade_of:
            bar = figure.colorbar(ScalarMappable(Normalize(0, 1), colours), ax=axes, fraction=0.04, pad=0.02)
            bar.outline.set_visible(False)
            ends = (min(shade_of, key=shade_of.__getitem__), max(shade_of, key=shade_of.__getitem__))
            bar.set_ticks([0, 1], labels=[f"{numbers.metric.factor * end:.3g}" for end in ends])
        return style.finished(figure)


def shades(numbers: _MapNumbers) -> dict[float, float]:
    """Return the shade of each mean, from 0 for the worst to 1 for the best.

    It goes by the logarithm of the distance from the best in margins, which tells apart what is near the best even
    where some settings do not learn at all.
    """
    means = [cell.score.mean for cell in numbers.cells if cell.score]
    best = max(means, key=lambda mean: numbers.metric.sign * mean, default=0.0)
    farthest = max((abs(best - mean) for mean in means), default=0.0) or 1.0
    margin = numbers.margin or farthest / 10
    return {mean: 1 - math.log1p(abs(best - mean) / margin) / math.log1p(farthest / margin) for mean in means}


def _draw_tile(
    axes: Axes, numbers: _MapNumbers, cell: Cell, place: tuple[int, int], colour: Any, *, has_value: bool
) -> None:
    """Draw a tile, a cross where seeds diverged, a small one where others did not, and the score if it fits."""
    from matplotlib.patches import Rectangle

    x, y = place
    value = numbers.metric.factor * cell.score.mean if cell.score else None
    axes.add_artist(Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, fc=colour, lw=0))
    is_light = value is None or 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 0.52
    ink = _DARK if is_light else _LIGHT
    if cell.tally.diverged:
        is_small = value is not None and has_value
        at = (x + 0.33, y + 0.24) if is_small else (x, y)
        axes.plot(*at, ls="none", marker="x", ms=4.0 if is_small else 7.0, mew=1.2, color=ink)
    if value is not None and has_value:
        digits = min(1, max(0, 2 - math.floor(math.log10(abs(value))))) if value else 0
        short = f"{value:.{digits}f}" if abs(value) < 1e4 else power(value)
        text = axes.text(x, y, short, ha="center", va="center_baseline", color=ink, fontsize=7)
        text.set_in_layout(False)  # it cannot reach out of its tile, and measuring hundreds takes long


def _name_axes(axes: Axes, numbers: _MapNumbers, row_inch: float, tile_inch: float) -> None:
    """Name as many ε and learning rates as have room, the default ε among them."""
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0)
    step = max(1, math.ceil(0.46 / tile_inch))
    is_default = [math.isclose(epsilon, numbers.default_epsilon, rel_tol=1e-6) for epsilon in numbers.epsilons]
    first = 0
    if any(is_default):
        place, label = is_default.index(True), f"default {power(numbers.default_epsilon)}"
        first = place % step
        at_bottom: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "clip_on": False, "zorder": 4}
        axes.plot([place], [0], ls="none", marker="^", ms=6, color=style.PURPLE, label=label, **at_bottom)
    columns = range(first, len(numbers.epsilons), step)
    axes.set_xticks(list(columns), [power(numbers.epsilons[column]) for column in columns])
    rows = range(0, len(numbers.rates), max(1, math.ceil(0.14 / row_inch)))
    axes.set_yticks(list(rows), [power(numbers.rates[row]) for row in rows])
    axes.set_xlabel(f"ε of {numbers.optimizer}")
    axes.set_ylabel("learning rate")
