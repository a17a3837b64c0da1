"""The figure of damping over time: the layers whose steps ε shortens most, and all layers together.

It is drawn where ε halves the steps of some layer; elsewhere it would show a line at 100 %.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from epsgrid.numerics.damping import Damping, pooled
from epsgrid.numerics.placement import Placement
from epsgrid.numerics.series import Series
from epsgrid.report.figures import style
from epsgrid.report.figures.over_time import TimeUnit, dampings_of, times_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHOWN_BELOW = 0.5
_COLOURS = (style.VERMILION, style.BLUE, style.GREEN, style.PURPLE)
_LEAST = 1e-4
"""Dampings below are drawn there: such steps are none."""

_Line = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class _DampingNumbers:
    """The numbers of the figure: (time, damping) of all layers together, and of those with the least by name."""

    unit: TimeUnit
    total: _Line
    layers: dict[str, _Line]


def damping_numbers(looks: Sequence[tuple[float, Mapping[str, Damping]]], unit: TimeUnit) -> _DampingNumbers | None:
    """Return the numbers of the figure from the dampings of layers by name at rising times; None with nothing to show.

    A single time makes no line.
    """
    looks = [(time, found) for time, found in looks if found]
    least: dict[str, float] = {}
    for _, found in looks:
        for name, damping in found.items():
            least[name] = min(damping.mean, least.get(name, 1.0))
    if len(looks) < 2 or min(least.values()) >= _SHOWN_BELOW:
        return None
    totals = ((time, pooled(found.values())) for time, found in looks)
    return _DampingNumbers(
        unit,
        tuple((time, total.mean) for time, total in totals if total is not None),
        {
            name: tuple((time, found[name].mean) for time, found in looks if name in found)
            for name in sorted(least, key=lambda name: least[name])[: len(_COLOURS)]
        },
    )


def damping_of_series(series: Series, placement: Placement) -> _DampingNumbers | None:
    """Return the numbers of the figure for a training, by the ε of each snapshot."""
    unit, times = times_of(series)
    looks = [(times[each.step], dampings_of(series, each, placement)) for each in series.snapshots]
    return damping_numbers(looks, unit)


def draw_damping(numbers: _DampingNumbers) -> Figure:
    """Draw a line for each layer, and a thick one for all of them."""
    from matplotlib.ticker import MaxNLocator

    with style.applied():
        figure = style.new_figure(3.0)
        axes = figure.subplots()
        lowest = min(damping for line in numbers.layers.values() for _, damping in line)
        lines = [*numbers.layers.items(), ("all layers", numbers.total)]
        for (name, line), colour in zip(lines, (*_COLOURS[: len(numbers.layers)], "k"), strict=True):
            times, dampings = zip(*line, strict=True)
            heights = [max(damping, _LEAST) for damping in dampings]
            width = 2.0 if colour == "k" else 1.3
            (drawn,) = axes.plot(times, heights, color=colour, lw=width, label=style.elided(name))
            drawn.set_marker("o" if len(line) == 1 else "")
        axes.set_yscale("log")
        decades = {1e-4: "≤0.01 %", 1e-3: "0.1 %", 1e-2: "1 %", 1e-1: "10 %", 1.0: "100 %"}
        axes.set_yticks(list(decades), list(decades.values()), minor=False)
        axes.minorticks_off()
        axes.set_ylim(min(0.07, max(lowest, _LEAST) / 1.3), 1.3)
        axes.set_title("length of steps, of that at ε → 0", loc="left")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
        axes.set_xlabel(numbers.unit)
        style.value_lines(axes)
        legend = style.finished(figure, 1).legends[0]
        for text in legend.get_texts():
            text.set_parse_math(False)
        return figure
