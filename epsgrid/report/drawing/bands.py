"""Draw percentiles of √v̂ over time as bands: one panel for each kind of layer, or for one layer alone.

The bounds of epoch 1 stay where they were measured, so that the eye sees whether the magnitudes stay between them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from epsgrid.report.drawing.axes import log_axis
from epsgrid.report.drawing.style import (
    BLUE,
    PURPLE,
    VERMILION,
    add_legend,
    elided,
    fix_layout,
    new_figure,
    short_count,
    style,
)
from epsgrid.report.numbers.bands import BAND_FRACTIONS, Band, BandNumbers
from epsgrid.selection.formatting import count, power

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SHADES = ("#d9d9d9", "#b5b5b5", "#868686")
"""Of the bands, the widest first; grey, so that the coloured lines stand out, also in print."""
_ROW_INCH, _ALONE_INCH, _REST_INCH = 1.75, 2.6, 1.0
_MIDDLE = len(BAND_FRACTIONS) // 2


def draw_bands(numbers: BandNumbers) -> Figure:
    """Draw a panel for each band, two side by side, all with the same axes."""
    with style():
        columns = min(len(numbers.bands), 2)
        rows = math.ceil(len(numbers.bands) / columns)
        figure = new_figure((_ALONE_INCH if columns == 1 else rows * _ROW_INCH) + _REST_INCH)
        panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        used, spare = list(panels.flat)[: len(numbers.bands)], list(panels.flat)[len(numbers.bands) :]
        for axes, band in zip(used, numbers.bands, strict=True):
            _draw_band(axes, band, numbers)
        _name_axes(used, columns, numbers)
        for axes in spare:
            axes.remove()
        add_legend(figure, _legend(numbers), columns=4)
        return fix_layout(figure)


def _draw_band(axes: Axes, band: Band, numbers: BandNumbers) -> None:
    for wide, shade in enumerate(_SHADES):
        low, high = band.magnitudes[wide], band.magnitudes[-1 - wide]
        if len(band.times) == 1:
            axes.plot([band.times[0]] * 2, [low[0], high[0]], color=shade, lw=6 + 2 * wide, solid_capstyle="butt")
        else:
            axes.fill_between(band.times, low, high, color=shade, lw=0, zorder=1)
    marker = "o" if len(band.times) == 1 else None
    axes.plot(band.times, band.magnitudes[_MIDDLE], color="black", lw=1.2, marker=marker, ms=4, zorder=3)
    if numbers.low is not None and numbers.high is not None:
        axes.axhline(numbers.low, color=BLUE, lw=1.1, ls="--", zorder=4)
        axes.axhline(numbers.high, color=VERMILION, lw=1.1, ls="-.", zorder=4)
    if numbers.thresholds:
        _draw_epsilon(axes, numbers)
    axes.set_yscale("log")
    log_axis(axes.yaxis)
    axes.margins(x=0 if len(band.times) > 1 else 0.5)
    size = f"{count(band.layers, 'layer')}, " if band.layers > 1 else ""
    title = axes.set_title(f"{elided(band.title)} ({size}{short_count(band.entries)} entries)", loc="left")
    title.set_parse_math(False)


def _draw_epsilon(axes: Axes, numbers: BandNumbers) -> None:
    """Draw where ε stands; a white line below keeps the dots apart from the grey behind them."""
    times, magnitudes = zip(*numbers.thresholds, strict=True)
    if len(times) == 1:
        axes.axhline(magnitudes[0], color=PURPLE, lw=1.7, ls=":", zorder=5)
        return
    axes.plot(times, magnitudes, color="white", lw=2.4, zorder=5)
    axes.plot(times, magnitudes, color=PURPLE, lw=1.7, ls=":", zorder=6)


def _name_axes(panels: Sequence[Axes], columns: int, numbers: BandNumbers) -> None:
    """Name the axes at the left and in the lowest row, and number the lowest panel of each column."""
    from matplotlib.ticker import MaxNLocator

    lowest_row = (len(panels) - 1) // columns
    for place, axes in enumerate(panels):
        if place % columns == 0:
            axes.set_ylabel("√v̂")
        if place // columns == lowest_row:
            axes.set_xlabel(numbers.unit)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        axes.tick_params(labelbottom=place + columns >= len(panels))


def _legend(numbers: BandNumbers) -> list[tuple[Any, str]]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    entries: list[tuple[Any, str]] = [(Line2D([], [], color="black", lw=1.2), "median")]
    for wide, shade in reversed(list(enumerate(_SHADES))):
        low, high = BAND_FRACTIONS[wide], BAND_FRACTIONS[-1 - wide]
        entries.append((Patch(color=shade, lw=0), f"{100 * low:.3g}–{100 * high:.3g} %"))
    if numbers.low is not None and numbers.high is not None:
        low_label, high_label = (f"{end} bound of epoch 1, {power(value)}" for end, value in _ends(numbers))
        entries.append((Line2D([], [], color=BLUE, ls="--", lw=1.1), low_label))
        entries.append((Line2D([], [], color=VERMILION, ls="-.", lw=1.1), high_label))
    if numbers.thresholds:
        entries.append(
            (Line2D([], [], color=PURPLE, ls=":", lw=1.6), f"ε of {numbers.optimizer}, {power(numbers.epsilon)}")
        )
    return entries


def _ends(numbers: BandNumbers) -> tuple[tuple[str, float | None], ...]:
    return ("lower", numbers.low), ("upper", numbers.high)
