"""Draw how the bounds settled over the probe's steps, with the decades they round to."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from epsgrid.report.drawing.axes import log_axis, value_lines
from epsgrid.report.drawing.style import BLUE, GREY, VERMILION, add_legend, fix_layout, new_figure, style
from epsgrid.report.numbers.over_time import CourseNumbers
from epsgrid.selection.formatting import count, power

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_HEIGHT_INCH = 3.1
_HALF_A_DECADE = math.sqrt(10)


def draw_course(numbers: CourseNumbers) -> Figure:
    """Draw both bounds over the steps; shaded is what rounds to the decade of the end."""
    with style():
        figure = new_figure(_HEIGHT_INCH)
        axes = figure.subplots()
        for values, decade, colour in _lines(numbers):
            axes.axhspan(decade / _HALF_A_DECADE, decade * _HALF_A_DECADE, color=colour, alpha=0.13, lw=0, zorder=0)
            axes.plot(numbers.steps, values, color=colour, lw=1.3, marker="o", ms=2.6, zorder=3)
        axes.axvline(numbers.settled_after, color=GREY, lw=1.1, ls=":", zorder=2)
        _scale(axes, numbers)
        add_legend(figure, _legend(numbers), columns=3)
        return fix_layout(figure)


def _lines(numbers: CourseNumbers) -> tuple[tuple[tuple[float, ...], float, str], ...]:
    return (numbers.low, numbers.low_decade, BLUE), (numbers.high, numbers.high_decade, VERMILION)


def _scale(axes: Axes, numbers: CourseNumbers) -> None:
    """Give every decade of ε a line, and steps a log axis where there are many: bounds settle early."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    axes.set_yscale("log")
    shown = (*numbers.low, *numbers.high, numbers.low_decade, numbers.high_decade)
    axes.set_ylim(min(shown) / _HALF_A_DECADE / 1.1, max(shown) * _HALF_A_DECADE * 1.1)
    axes.yaxis.set_major_locator(LogLocator(numticks=20))
    log_axis(axes.yaxis)
    value_lines(axes)
    axes.set_ylabel(f"ε of {numbers.optimizer}")
    axes.set_xlabel("steps of the probe")
    if numbers.steps[-1] >= 20 * numbers.steps[0]:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(x=0.02)


def _legend(numbers: CourseNumbers) -> list[tuple[Any, str]]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    entries: list[tuple[Any, str]] = []
    for name, (values, decade, colour) in zip(("lower", "upper"), _lines(numbers), strict=True):
        line = Line2D([], [], color=colour, lw=1.3, marker="o", ms=2.6)
        entries.append((line, f"{name} bound, {power(values[-1])} at the end"))
        entries.append((Patch(color=colour, alpha=0.2, lw=0), f"what rounds to {power(decade)}"))
    settled = f"decades settled after {count(numbers.settled_after, 'step')}"
    entries.append((Line2D([], [], color=GREY, ls=":", lw=1.1), settled))
    return entries
