"""Draw the layers' percentiles of √v̂ against batch size, with the slopes of noise and of signal as guides."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from epsgrid.numerics.fits import NOISE
from epsgrid.report.drawing.axes import log_axis
from epsgrid.report.drawing.style import (
    BLUE,
    GREY,
    PURPLE,
    SKY,
    VERMILION,
    add_legend,
    fix_layout,
    new_figure,
    style,
)
from epsgrid.report.numbers.batch_figure import MagnitudeNumbers, MagnitudePanel
from epsgrid.report.text.bounds import percentiles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = (BLUE, VERMILION, "#009E73", PURPLE, SKY, "#E69F00", GREY)
_MARKERS = "osD^vP*"
_HEIGHT_INCH = 4.0
_GUIDES_SHOWN = 3


def draw_magnitudes(numbers: MagnitudeNumbers) -> Figure:
    """Draw a panel for each of low tail, median and high tail; lines have the colour of their kind of layer."""
    with style():
        figure = new_figure(_HEIGHT_INCH)
        panels = figure.subplots(1, len(numbers.panels), sharex=True, sharey=True, squeeze=False)[0]
        low, high = percentiles(numbers.tail_fraction)
        titles = {"low": low, "median": "median", "high": high}
        for axes, panel in zip(panels, numbers.panels, strict=True):
            _draw_panel(axes, panel, numbers)
            axes.set_title(titles[panel.end])
            axes.set_xlabel("batch size")
        panels[0].set_ylabel(r"$\sqrt{\hat v}$")
        add_legend(figure, _legend(numbers), columns=4)
        return fix_layout(figure)


def _draw_panel(axes: Axes, panel: MagnitudePanel, numbers: MagnitudeNumbers) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(FixedLocator(_ticks(numbers.sizes)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    log_axis(axes.yaxis)
    for line in panel.lines:
        colour, marker = _look(line.kind, numbers)
        axes.plot(line.sizes, line.magnitudes, color=colour, marker=marker, ms=3, lw=0.9, alpha=0.8, zorder=3)
    if panel.bound is not None:
        axes.plot(panel.bound.sizes, panel.bound.magnitudes, color="black", lw=2.2, alpha=0.55, zorder=2)
    _draw_guides(axes, panel, numbers)
    axes.axvline(numbers.base_batch_size, color="#cccccc", lw=0.8, zorder=0)


def _draw_guides(axes: Axes, panel: MagnitudePanel, numbers: MagnitudeNumbers) -> None:
    """Draw what noise and what signal would do from the spec's batch size on, at a few heights."""
    heights = sorted(
        magnitude
        for line in panel.lines
        for size, magnitude in zip(line.sizes, line.magnitudes, strict=True)
        if size == numbers.base_batch_size
    )
    if not heights:
        return
    places = {0, len(heights) // 2, len(heights) - 1} if len(heights) >= _GUIDES_SHOWN else {0}
    ends = (numbers.sizes[0], numbers.sizes[-1])
    for place in sorted(places):
        noise = [heights[place] * (size / numbers.base_batch_size) ** NOISE for size in ends]
        axes.plot(ends, noise, color="black", lw=0.9, ls="--", zorder=4)
        axes.plot(ends, [heights[place]] * 2, color="black", lw=0.9, ls=":", zorder=4)


def _ticks(sizes: tuple[int, ...]) -> list[int]:
    """Return the sizes that can be named without their names touching."""
    span = math.log(sizes[-1] / sizes[0])
    kept = [sizes[0]]
    for size in sizes[1:-1]:
        if min(math.log(size / kept[-1]), math.log(sizes[-1] / size)) >= 0.2 * span:
            kept.append(size)
    return [*kept, sizes[-1]]


def _look(kind: str, numbers: MagnitudeNumbers) -> tuple[str, str]:
    place = numbers.kinds.index(kind)
    return _COLOURS[place % len(_COLOURS)], _MARKERS[place % len(_MARKERS)]


def _legend(numbers: MagnitudeNumbers) -> list[tuple[Any, str]]:
    from matplotlib.lines import Line2D

    entries: list[tuple[Any, str]] = []
    for kind in numbers.kinds:
        colour, marker = _look(kind, numbers)
        entries.append((Line2D([], [], color=colour, marker=marker, ms=4, lw=1), kind))
    entries.append((Line2D([], [], color="black", lw=2.2, alpha=0.55), "bound"))
    entries.append((Line2D([], [], color="black", lw=0.9, ls="--"), "noise alone: −1/2"))
    entries.append((Line2D([], [], color="black", lw=0.9, ls=":"), "signal alone: 0"))
    entries.append((Line2D([], [], color="#cccccc", lw=0.8), "the spec's batch size"))
    return entries
