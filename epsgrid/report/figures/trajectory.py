"""The figure of how the bounds settled over the probe's steps, with the decades they round to."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from epsgrid.numerics.bounds import EpsilonBounds
from epsgrid.numerics.trajectory import Trajectory, settled_after
from epsgrid.report.figures import style
from epsgrid.selection.formatting import count, power

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_HEIGHT_INCH = 3.1
_HALF_A_DECADE = math.sqrt(10)


def course_of(bounds: EpsilonBounds | None) -> Trajectory | None:
    """Return the bounds over the steps of a probe; None where they were not followed."""
    course = bounds.reliability.course if bounds and bounds.reliability else None
    return course if course and course.steps else None


def draw_trajectory(bounds: EpsilonBounds, optimizer: str) -> Figure:
    """Draw both bounds over the steps, on a log axis where they are many; shade what rounds to the final decades.

    Args:
        bounds: at the end, with the course of the bounds; see `course_of`.
        optimizer: its name.
    """
    from matplotlib.ticker import LogLocator, MaxNLocator

    course = course_of(bounds)
    assert course is not None
    lines = (
        ("lower", course.low, bounds.low.decade, style.BLUE),
        ("upper", course.high, bounds.high.decade, style.VERMILION),
    )
    settled = settled_after(course)
    assert settled is not None
    with style.applied():
        figure = style.new_figure(_HEIGHT_INCH)
        axes = figure.subplots()
        for name, values, decade, colour in lines:
            ends = decade / _HALF_A_DECADE, decade * _HALF_A_DECADE
            axes.axhspan(*ends, color=colour, alpha=0.13, lw=0, zorder=0, label=f"rounds to {power(decade)}")
            label = f"{name} bound, {power(values[-1])} at the end"
            axes.plot(course.steps, values, color=colour, lw=1.3, marker="o", ms=2.6, zorder=3, label=label)
        label = f"decades settled after {count(settled, 'step')}"
        axes.axvline(settled, color=style.GREY, lw=1.1, ls=":", zorder=2, label=label)
        axes.set_yscale("log")
        shown = (*course.low, *course.high, bounds.low.decade, bounds.high.decade)
        axes.set_ylim(min(shown) / _HALF_A_DECADE / 1.1, max(shown) * _HALF_A_DECADE * 1.1)
        axes.yaxis.set_major_locator(LogLocator(numticks=20))
        style.log_axis(axes.yaxis)
        style.value_lines(axes)
        axes.set_ylabel(f"ε of {optimizer}")
        axes.set_xlabel("steps of the probe")
        if course.steps[-1] >= 20 * course.steps[0]:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.minorticks_off()
        else:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.margins(x=0.02)
        return style.finished(figure, columns=3)
