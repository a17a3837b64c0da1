"""Draw learning curves at several batch sizes: a panel for each rule, the base in black in all of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from epsgrid.report.drawing.axes import value_lines
from epsgrid.report.drawing.style import add_legend, fix_layout, new_figure, style
from epsgrid.report.numbers.batch_curves import BatchCurve, BatchCurveNumbers, RulePanel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROW_INCH, _REST_INCH = 2.3, 0.9
_COLUMNS = 4
_MARKERS = "osD^vPp*<>hd"


def draw_batch_curves(numbers: BatchCurveNumbers) -> Figure:
    """Draw the mean over seeds with one standard deviation as a band; batch sizes from dark to light."""
    with style():
        columns = min(len(numbers.panels), _COLUMNS)
        rows = math.ceil(len(numbers.panels) / columns)
        figure = new_figure(rows * _ROW_INCH + _REST_INCH)
        grid = list(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat)
        for place, (axes, panel) in enumerate(zip(grid, numbers.panels, strict=False)):
            _draw_panel(axes, panel, numbers)
            if place % columns == 0:
                axes.set_ylabel(f"{numbers.selection} {numbers.metric.label}")
            if place + columns >= len(numbers.panels):
                axes.set_xlabel("epoch")
                axes.tick_params(labelbottom=True)
        for axes in grid[len(numbers.panels) :]:
            axes.remove()
        add_legend(figure, _legend(numbers), columns=5)
        return fix_layout(figure)


def _draw_panel(axes: Axes, panel: RulePanel, numbers: BatchCurveNumbers) -> None:
    from matplotlib.ticker import MaxNLocator

    for curve in panel.curves:
        colour, marker = _look(curve.batch_size, numbers)
        _draw_curve(axes, curve, colour, marker, numbers)
    if numbers.base is not None:
        _draw_curve(axes, numbers.base, "black", "", numbers)
    axes.set_title(panel.rule)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    value_lines(axes)


def _draw_curve(axes: Axes, curve: BatchCurve, colour: Any, marker: str, numbers: BatchCurveNumbers) -> None:
    factor = numbers.metric.factor
    epochs = [epoch for epoch, _ in curve.points]
    means = [factor * spread.mean for _, spread in curve.points]
    sds = [factor * (spread.sd or 0.0) for _, spread in curve.points]
    low = [mean - sd for mean, sd in zip(means, sds, strict=True)]
    high = [mean + sd for mean, sd in zip(means, sds, strict=True)]
    axes.fill_between(epochs, low, high, color=colour, alpha=0.15, lw=0)
    every = max(1, len(epochs) // 8)
    axes.plot(epochs, means, color=colour, lw=1.3, ls="-" if marker else "--", marker=marker, ms=3.5, markevery=every)


def _look(batch_size: int, numbers: BatchCurveNumbers) -> tuple[Any, str]:
    """Return colour and marker of a batch size: dark to light, one marker each."""
    import matplotlib

    place = numbers.sizes.index(batch_size)
    share = place / max(1, len(numbers.sizes) - 1)
    return matplotlib.colormaps["viridis"](0.05 + 0.8 * share), _MARKERS[place % len(_MARKERS)]


def _legend(numbers: BatchCurveNumbers) -> list[tuple[Any, str]]:
    from matplotlib.lines import Line2D

    entries: list[tuple[Any, str]] = []
    if numbers.base is not None:
        entries.append((Line2D([], [], color="black", lw=1.3, ls="--"), f"batch {numbers.base.batch_size} (base)"))
    drawn = {curve.batch_size for panel in numbers.panels for curve in panel.curves}
    for size in sorted(drawn):
        colour, marker = _look(size, numbers)
        entries.append((Line2D([], [], color=colour, lw=1.3, marker=marker, ms=4), f"batch {size}"))
    return entries
