"""The figure of how the bounds settled over the probe's steps, with the decades they round to."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from epsgrid.numerics.bounds import EpsilonBounds
from epsgrid.numerics.trajectory import settled_after
from epsgrid.report.figures import style
from epsgrid.selection.formatting import count, power

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_HEIGHT_INCH = 3.1
_HALF_A_DECADE = math.sqrt(10)


@dataclass(frozen=True)
class TrajectoryNumbers:
    """The numbers of the figure; ε are the optimizer's own.

    Attributes:
        steps: steps of the probe, rising; not empty.
        low: lower bound after each, not rounded.
        high: upper bound after each, not rounded.
        low_decade: the lower bound at the end, rounded to a power of ten.
        high_decade: the upper bound at the end, rounded to a power of ten.
        settled_after: step from which on both bounds round to these decades.
        optimizer: its name.
    """

    steps: tuple[int, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    low_decade: float
    high_decade: float
    settled_after: int
    optimizer: str


def trajectory_numbers(bounds: EpsilonBounds | None, optimizer: str) -> TrajectoryNumbers | None:
    """Return the numbers of the figure; None where no probe followed its bounds."""
    course = bounds.reliability.course if bounds and bounds.reliability else None
    if bounds is None or course is None or not course.steps:
        return None
    settled = settled_after(course)
    assert settled is not None
    decades = bounds.low.decade, bounds.high.decade
    return TrajectoryNumbers(course.steps, course.low, course.high, *decades, settled, optimizer)


def draw_trajectory(numbers: TrajectoryNumbers) -> Figure:
    """Draw both bounds over the steps, on a log axis where they are many; shade what rounds to the final decades."""
    from matplotlib.ticker import LogLocator, MaxNLocator

    lines = (
        ("lower", numbers.low, numbers.low_decade, style.BLUE),
        ("upper", numbers.high, numbers.high_decade, style.VERMILION),
    )
    with style.applied():
        figure = style.new_figure(_HEIGHT_INCH)
        axes = figure.subplots()
        for name, values, decade, colour in lines:
            ends = decade / _HALF_A_DECADE, decade * _HALF_A_DECADE
            axes.axhspan(*ends, color=colour, alpha=0.13, lw=0, zorder=0, label=f"rounds to {power(decade)}")
            label = f"{name} bound, {power(values[-1])} at the end"
            axes.plot(numbers.steps, values, color=colour, lw=1.3, marker="o", ms=2.6, zorder=3, label=label)
        settled = f"decades settled after {count(numbers.settled_after, 'step')}"
        axes.axvline(numbers.settled_after, color=style.GREY, lw=1.1, ls=":", zorder=2, label=settled)
        axes.set_yscale("log")
        shown = (*numbers.low, *numbers.high, numbers.low_decade, numbers.high_decade)
        axes.set_ylim(min(shown) / _HALF_A_DECADE / 1.1, max(shown) * _HALF_A_DECADE * 1.1)
        axes.yaxis.set_major_locator(LogLocator(numticks=20))
        style.log_axis(axes.yaxis)
        style.value_lines(axes)
        axes.set_ylabel(f"ε of {numbers.optimizer}")
        axes.set_xlabel("steps of the probe")
        if numbers.steps[-1] >= 20 * numbers.steps[0]:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.minorticks_off()
        else:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.margins(x=0.02)
        return style.finished(figure, columns=3)
