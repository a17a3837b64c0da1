"""Draw which share of the entries still adapts at each ε: for all layers together, and for each kind of layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from epsgrid.report.drawing.axes import decades_entry, log_axis, shade_decades, value_lines
from epsgrid.report.drawing.style import (
    BLUE,
    GREY,
    PURPLE,
    SKY,
    VERMILION,
    add_legend,
    fix_layout,
    hover,
    new_figure,
    style,
)
from epsgrid.report.numbers.fractions import FractionMark, FractionNumbers
from epsgrid.report.table import percent
from epsgrid.selection.cells import CONVENTIONAL, NARROWED
from epsgrid.selection.formatting import power

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_HEIGHT_INCH = 3.2
_KINDS = ("#009E73", VERMILION, BLUE, PURPLE, "#B8860B", GREY, SKY, "#6A4C93")
_DASHES: tuple[Any, ...] = ("--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1)))


def draw_fractions(numbers: FractionNumbers) -> Figure:
    """Draw the shares over ε, with the decades of the bounds shaded and the swept ε marked."""
    with style():
        figure = new_figure(_HEIGHT_INCH)
        axes = figure.subplots()
        shade_decades(axes, *numbers.band, margin=0.5)
        for index, kind in enumerate(numbers.kinds):
            line = axes.plot(numbers.epsilons, _percent(kind.shares), **_look(index))
            hover(line[0], f"{kind.title}: {kind.entries:,} entries")
        axes.plot(numbers.epsilons, _percent(numbers.total.shares), color="black", lw=1.5, zorder=4)
        for is_narrowed in (True, False):
            marks = [mark for mark in numbers.marks if (NARROWED in mark.grids) is is_narrowed]
            if marks:
                xs, ys = [mark.epsilon for mark in marks], _percent([mark.share for mark in marks])
                (drawn,) = axes.plot(xs, ys, ls="none", zorder=5, **_mark(marks[0]))
                hover(drawn, *(f"ε {power(m.epsilon)}: {percent(m.share)} of all entries adapt" for m in marks))
        _scale(axes, numbers)
        add_legend(figure, _legend(numbers), columns=4)
        return fix_layout(figure)


def _scale(axes: Axes, numbers: FractionNumbers) -> None:
    from matplotlib.ticker import LogLocator

    axes.set_xscale("log")
    axes.set_xlim(numbers.epsilons[0], numbers.epsilons[-1])
    axes.xaxis.set_major_locator(LogLocator(numticks=14))
    log_axis(axes.xaxis)
    axes.set_ylim(-3, 103)
    axes.set_yticks([0, 25, 50, 75, 100], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    value_lines(axes)
    axes.set_xlabel(f"ε of {numbers.optimizer}")
    axes.set_ylabel("entries with √v̂ above ε")


def _percent(shares: Sequence[float]) -> list[float]:
    return [100 * share for share in shares]


def _look(index: int) -> dict[str, Any]:
    return {"color": _KINDS[index % len(_KINDS)], "ls": _DASHES[index % len(_DASHES)], "lw": 1.1, "zorder": 3}


def _mark(mark: FractionMark) -> dict[str, Any]:
    """Return the look of a swept ε, as in the histogram figure."""
    if NARROWED in mark.grids:
        return {"marker": "o", "ms": 5, "mfc": BLUE, "mec": BLUE, "mew": 1.0}
    return {"marker": "o", "ms": 5, "mfc": "white", "mec": "black", "mew": 0.9}


def _legend(numbers: FractionNumbers) -> list[tuple[Any, str]]:
    from matplotlib.lines import Line2D

    entries: list[tuple[Any, str]] = [(Line2D([], [], color="black", lw=1.5), numbers.total.title)]
    for index, kind in enumerate(numbers.kinds):
        look = _look(index)
        entries.append((Line2D([], [], color=look["color"], ls=look["ls"], lw=1.1), kind.title))
    entries.append(decades_entry())
    for grids, label in (((NARROWED,), "ε of the narrowed grid"), ((CONVENTIONAL,), "other swept ε")):
        if any(_mark(mark) == _mark(FractionMark(1.0, 0.0, grids)) for mark in numbers.marks):
            entries.append((Line2D([], [], ls="none", **_mark(FractionMark(1.0, 0.0, grids))), label))
    return entries
