"""The figure of costs: a bar for each search, with the probe as part of the narrowed one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from epsgrid.report.figures import style
from epsgrid.report.rows import Comparison, GridRow
from epsgrid.selection.cells import CONVENTIONAL, NARROWED
from epsgrid.selection.formatting import count, duration

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BAR_INCH, _REST_INCH = 0.46, 0.95
_UNITS = ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"))
_COLOURS = {"probe": style.VERMILION, "narrowed grid": style.BLUE, "conventional grid": style.GREY}
_INCOMPLETE: dict[str, Any] = {"hatch": "////", "ec": "white"}


@dataclass(frozen=True)
class CostPart:
    """A part of a bar.

    Attributes:
        name: "probe", or the grid.
        seconds: wall time, summed over trials.
        trials: number of trials; None for the probe.
        missing: trials without a result, whose seconds are still to come.
    """

    name: str
    seconds: float
    trials: int | None
    missing: int = 0


@dataclass(frozen=True)
class CostBar:
    """One search: its name, and its parts in order."""

    name: str
    parts: tuple[CostPart, ...]

    @property
    def seconds(self) -> float:
        """Seconds of all parts."""
        return sum(part.seconds for part in self.parts)

    @property
    def missing(self) -> int:
        """Trials without a result."""
        return sum(part.missing for part in self.parts)


def cost_numbers(comparison: Comparison) -> tuple[CostBar, ...] | None:
    """Return the bars, the conventional search first; None unless there is more than one cost to compare."""
    narrowed, conventional = comparison.grid(NARROWED), comparison.grid(CONVENTIONAL)
    seconds = comparison.costs.probe_seconds
    bars = []
    if conventional is not None:
        bars.append(CostBar("conventional search", (_part(conventional),)))
    probe = () if seconds is None else (CostPart("probe", seconds, None),)
    if narrowed is not None:
        bars.append(CostBar("narrowed search", (*probe, _part(narrowed))))
    elif probe and bars:
        bars.append(CostBar("probe alone", probe))
    several = sum(len(bar.parts) for bar in bars) > 1 and any(bar.seconds for bar in bars)
    return tuple(bars) if several else None


def _part(row: GridRow) -> CostPart:
    return CostPart(f"{row.name} grid", row.tally.seconds, row.tally.trials, row.tally.failed + row.tally.missing)


def draw_cost(bars: tuple[CostBar, ...]) -> Figure:
    """Draw the bars, the longest one setting the scale; parts that are not complete are hatched."""
    with style.applied():
        figure = style.new_figure(_BAR_INCH * len(bars) + _REST_INCH)
        axes = figure.subplots()
        longest = max(bar.seconds for bar in bars)
        scale, unit = unit_for(longest)
        for row, bar in enumerate(bars):
            _draw_bar(axes, row, bar, scale)
        axes.set_xlim(0, 1.4 * longest / scale)
        axes.set_ylim(len(bars) - 0.5, -0.5)
        axes.set_yticks(range(len(bars)), [bar.name for bar in bars])
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(f"training and probing time, {unit}")
        return style.finished(figure, columns=3)


def unit_for(seconds: float) -> tuple[float, str]:
    """Return the unit for a scale that ends at some seconds, as (seconds in it, its name).

    >>> unit_for(90.0), unit_for(7000.0), unit_for(0.2)
    ((1.0, 'seconds'), (60.0, 'minutes'), (1.0, 'seconds'))
    """
    return next((unit for unit in _UNITS if seconds >= 2 * unit[0]), _UNITS[-1])


def _draw_bar(axes: Axes, row: int, bar: CostBar, scale: float) -> None:
    start = 0.0
    for part in bar.parts:
        look: dict[str, Any] = {"color": _COLOURS[part.name], "lw": 0} | (_INCOMPLETE if part.missing else {})
        label = part.name + (", not complete yet" if part.missing else "")
        (drawn,) = axes.barh(row, part.seconds / scale, left=start, height=0.62, label=label, **look)
        trials = "" if part.trials is None else f" for {count(part.trials, 'trial')}"
        missing = f", {part.missing} of them still without a result" if part.missing else ""
        style.hover(drawn, f"{part.name}: {duration(part.seconds)}{trials}{missing}")
        start += part.seconds / scale
    number = sum(part.trials or 0 for part in bar.parts)
    text = duration(bar.seconds) + (f", {count(number, 'trial')}" if number else "")
    text += " so far" if bar.missing else ""
    axes.annotate(text, (start, row), xytext=(5, 0), textcoords="offset points", va="center_baseline")
