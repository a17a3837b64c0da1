"""Draw the cost ledger: a bar for each way to search, with the probe as part of the narrowed one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from epsgrid.report.drawing.style import BLUE, GREY, VERMILION, add_legend, fix_layout, hover, new_figure, style
from epsgrid.report.numbers.ledger import LedgerBar, LedgerNumbers, LedgerPart
from epsgrid.selection.formatting import count, duration

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BAR_INCH, _REST_INCH = 0.46, 0.95
_UNITS = ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"))
_COLOURS = {"probe": VERMILION, "narrowed grid": BLUE, "conventional grid": GREY}


def draw_ledger(numbers: LedgerNumbers) -> Figure:
    """Draw the bars, the longest cost setting the scale; hatched is what will still grow."""
    with style():
        figure = new_figure(_BAR_INCH * len(numbers.bars) + _REST_INCH)
        axes = figure.subplots()
        scale, unit = unit_for(max(bar.seconds for bar in numbers.bars))
        for row, bar in enumerate(numbers.bars):
            _draw_bar(axes, row, bar, scale)
        longest = max(bar.seconds for bar in numbers.bars) / scale
        axes.set_xlim(0, 1.4 * longest)
        axes.set_ylim(len(numbers.bars) - 0.5, -0.5)
        axes.set_yticks(range(len(numbers.bars)), [bar.name for bar in numbers.bars])
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(f"training and probing time, {unit}")
        add_legend(figure, _legend(numbers), columns=4)
        return fix_layout(figure)


def unit_for(seconds: float) -> tuple[float, str]:
    """Return the unit that a scale up to so many seconds is best read in, as (seconds in it, its name).

    >>> unit_for(90.0), unit_for(7000.0), unit_for(0.2)
    ((1.0, 'seconds'), (60.0, 'minutes'), (1.0, 'seconds'))
    """
    return next((unit for unit in _UNITS if seconds >= 2 * unit[0]), _UNITS[-1])


def _draw_bar(axes: Axes, row: int, bar: LedgerBar, scale: float) -> None:
    start = 0.0
    for part in bar.parts:
        (drawn,) = axes.barh(row, part.seconds / scale, left=start, height=0.62, lw=0, **_look(part))
        hover(drawn, f"{part.name}: {_words(part)}")
        start += part.seconds / scale
    trials = sum(part.trials or 0 for part in bar.parts)
    axes.annotate(
        f"{duration(bar.seconds)}{', ' + count(trials, 'trial') if trials else ''}{' so far' if bar.missing else ''}",
        (start, row),
        xytext=(5, 0),
        textcoords="offset points",
        va="center_baseline",
    )


def _words(part: LedgerPart) -> str:
    words = duration(part.seconds)
    if part.trials is not None:
        words += f" for {count(part.trials, 'trial')}"
    return words + (f", {part.missing} of them still without a result" if part.missing else "")


def _look(part: LedgerPart) -> dict[str, Any]:
    look: dict[str, Any] = {"color": _COLOURS[part.name]}
    return look | ({"hatch": "////", "ec": "white"} if part.missing else {})


def _legend(numbers: LedgerNumbers) -> list[tuple[Any, str]]:
    from matplotlib.patches import Patch

    names = dict.fromkeys(part.name for bar in numbers.bars for part in bar.parts)
    entries: list[tuple[Any, str]] = [(Patch(color=_COLOURS[name], lw=0), name) for name in names]
    if any(bar.missing for bar in numbers.bars):
        entries.append((Patch(fc=GREY, ec="white", hatch="////", lw=0), "not complete yet"))
    return entries
