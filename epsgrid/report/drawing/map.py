"""Draw the map of learning rates and ε: a tile for each cell, shaded by its score, with the narrowed band outlined.

Tiles keep their colours on dark pages, see `epsgrid.report.html.inline`: their order from dark to light is the message.
Where tiles are large enough the score is written into them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from epsgrid.report.drawing.style import (
    GREY,
    VERMILION_TEXT,
    WIDTH_INCH,
    add_legend,
    fix_layout,
    hover,
    keep_colours,
    new_figure,
    style,
)
from epsgrid.report.numbers.maps import MapCell, MapNumbers
from epsgrid.selection.cells import CONVENTIONAL, NARROWED
from epsgrid.selection.formatting import count, decade, power, score

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_REST_INCH = 1.5
_COLOURS = "viridis"
_BAND = "#0072B2"
_LIGHTEST = "#fde725"
_RINGS = {grid: f"best of the {grid} grid" for grid in (NARROWED, CONVENTIONAL)}
_DIVERGED = "#e8e8e8"
_LEAST_TILE_INCH = 0.3
"""Width from which on the score fits into a tile."""


def draw_map(numbers: MapNumbers) -> Figure:
    """Draw ε from left to right and learning rates upwards, evenly spaced, whatever lies between them."""
    with style():
        rows, columns = len(numbers.rates), len(numbers.epsilons)
        row_inch = 0.3 if rows <= 12 else max(0.09, 3.6 / rows)
        figure = new_figure(row_inch * rows + _REST_INCH)
        axes = figure.subplots()
        scale = _Scale(numbers)
        tile_inch = 0.86 * WIDTH_INCH / columns
        has_values = tile_inch >= _LEAST_TILE_INCH and row_inch >= 0.18
        for cell in numbers.cells:
            _draw_tile(axes, numbers, cell, scale, has_values=has_values)
        _outline(axes, numbers)
        _name_axes(axes, numbers, row_inch, tile_inch)
        if scale.colours is not None:
            _draw_scale(figure, axes, scale, numbers)
        add_legend(figure, _legend(numbers), columns=4)
        legend = figure.legends[0]
        for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=True):
            if handle is not None and text.get_text() in _RINGS.values():
                keep_colours(handle)
        return fix_layout(figure)


class _Scale:
    """Which colour a score has; the better, the lighter."""

    def __init__(self, numbers: MapNumbers) -> None:
        import matplotlib
        from matplotlib.colors import LogNorm, Normalize

        means = [numbers.metric.factor * cell.score.mean for cell in numbers.cells if cell.score]
        ends = (min(means), max(means)) if means else (0.0, 1.0)
        is_log = numbers.metric.direction == "min" and 0 < 3 * ends[0] < ends[1]
        self.factor = numbers.metric.factor
        self.norm: Any = LogNorm(*ends) if is_log else Normalize(*ends)
        name = _COLOURS if numbers.metric.direction == "max" else f"{_COLOURS}_r"
        self.colours: Any = matplotlib.colormaps[name] if means else None

    def of(self, mean: float) -> Any:
        return self.colours(float(self.norm(self.factor * mean)))


def _draw_tile(axes: Axes, numbers: MapNumbers, cell: MapCell, scale: _Scale, *, has_values: bool) -> None:
    from matplotlib.patches import Rectangle

    x, y = numbers.epsilons.index(cell.epsilon), numbers.rates.index(cell.learning_rate)
    colour = scale.of(cell.score.mean) if cell.score else _DIVERGED
    tile = axes.add_artist(Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, fc=colour, lw=0))
    ink = "black" if cell.score is None or _is_light(colour) else "white"
    hover(tile, words_of(cell, numbers), keep=True)
    if cell.diverged:
        size = 7.0 if cell.score is None else 4.5
        place = (x, y) if cell.score is None or not has_values else (x + 0.33, y + 0.24)
        (cross,) = axes.plot(*place, ls="none", marker="x", ms=size, mew=1.2, color=ink)
        keep_colours(cross)
    if cell.score is not None and has_values:
        text = axes.text(x, y, _short(cell.score.mean, numbers), ha="center", va="center_baseline", color=ink)
        text.set_fontsize(7)
        text.set_in_layout(False)  # it cannot reach out of its tile, and measuring hundreds takes long
        keep_colours(text)


def words_of(cell: MapCell, numbers: MapNumbers) -> str:
    """Say in words what a tile shows."""
    where = f"lr {power(cell.learning_rate)}, ε {power(cell.epsilon)}"
    parts = [score(cell.score.mean, cell.score.sd, numbers.metric)] if cell.score else []
    parts += [f"{cell.diverged} of {count(cell.seeds, 'seed')} diverged"] if cell.diverged else []
    lacking = cell.seeds - cell.done - cell.diverged
    parts += [f"{count(lacking, 'seed')} without a result"] if lacking else []
    return f"{where}: {'; '.join(parts)}"


def _short(mean: float, numbers: MapNumbers) -> str:
    """Write a score in at most four characters or so."""
    value = mean * numbers.metric.factor
    digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{value:.{min(digits, 2)}f}" if abs(value) < 1e4 else f"{value:.0e}".replace("e+0", "e")


def _is_light(colour: Any) -> bool:
    red, green, blue = colour[:3]
    return bool(0.299 * red + 0.587 * green + 0.114 * blue > 0.52)


def _outline(axes: Axes, numbers: MapNumbers) -> None:
    """Outline the decades of the bounds and the best cells, and point at the default ε."""
    from matplotlib.patches import Rectangle

    top, bottom = len(numbers.rates) - 0.5, -0.5
    if (columns := inside(numbers)) is not None:
        first, last = columns
        axes.add_patch(
            Rectangle(
                (first - 0.5, bottom), last - first + 1, top - bottom, fill=False, ec=_BAND, lw=2.2, clip_on=False
            )
        )
    for cell in numbers.cells:
        x, y = numbers.epsilons.index(cell.epsilon), numbers.rates.index(cell.learning_rate)
        for grid, gap, colour in ((CONVENTIONAL, 0.05, "black"), (NARROWED, 0.13, VERMILION_TEXT)):
            if grid in cell.best_of:
                ring = Rectangle((x - 0.48 + gap / 2, y - 0.46 + gap), 0.96 - gap, 0.92 - 2 * gap, fill=False, lw=1.8)
                ring.set_edgecolor(colour)
                axes.add_patch(ring)
                keep_colours(ring)
    axes.set_xlim(-0.5, len(numbers.epsilons) - 0.5)
    axes.set_ylim(bottom, top)


def inside(numbers: MapNumbers) -> tuple[int, int] | None:
    """Return the first and last column inside the bounds' decades; None where there is none."""
    if numbers.band is None:
        return None
    low, high = numbers.band
    columns = [i for i, epsilon in enumerate(numbers.epsilons) if low * 0.999 <= epsilon <= high * 1.001]
    return (columns[0], columns[-1]) if columns else None


def _name_axes(axes: Axes, numbers: MapNumbers, row_inch: float, tile_inch: float) -> None:
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0)
    every = max(1, math.ceil(0.36 / tile_inch))
    columns = range(0, len(numbers.epsilons), every)
    axes.set_xticks(list(columns), [_epsilon(numbers.epsilons[column], numbers) for column in columns])
    rows = range(0, len(numbers.rates), max(1, math.ceil(0.14 / row_inch)))
    axes.set_yticks(list(rows), [power(numbers.rates[row]) for row in rows])
    axes.set_xlabel(f"ε of {numbers.optimizer}")
    axes.set_ylabel("learning rate")


def _epsilon(epsilon: float, numbers: MapNumbers) -> str:
    is_default = math.isclose(epsilon, numbers.default_epsilon, rel_tol=1e-6)
    return f"{decade(epsilon)}\ndefault" if is_default else decade(epsilon)


def _draw_scale(figure: Figure, axes: Axes, scale: _Scale, numbers: MapNumbers) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.ticker import FormatStrFormatter, NullLocator

    bar = figure.colorbar(ScalarMappable(scale.norm, scale.colours), ax=axes, fraction=0.03, pad=0.02, aspect=16)
    bar.outline.set_visible(False)
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.ax.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    bar.ax.tick_params(labelsize=7, length=2)
    axes.set_title(f"{numbers.selection} {numbers.metric.label}", loc="left")


def _legend(numbers: MapNumbers) -> list[tuple[Any, str]]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    entries: list[tuple[Any, str]] = []
    if inside(numbers) is not None:
        entries.append((Patch(fc="none", ec=_BAND, lw=2.2), "decades of the bounds"))
    chosen = {grid for cell in numbers.cells for grid in cell.best_of}
    for grid, colour in ((NARROWED, VERMILION_TEXT), (CONVENTIONAL, "black")):
        if grid in chosen:
            entries.append((Patch(fc=_LIGHTEST, ec=colour, lw=1.8), _RINGS[grid]))
    if any(cell.diverged for cell in numbers.cells):
        cross = Line2D([], [], ls="none", marker="x", ms=6, mew=1.2, color=GREY)
        entries.append((cross, "diverged"))
    return entries
