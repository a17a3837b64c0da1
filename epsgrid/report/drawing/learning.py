"""Draw the learning curves of the chosen settings and of the default ε: the mean, and the spread over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from epsgrid.report.drawing.axes import log_values, value_lines
from epsgrid.report.drawing.style import BLUE, PURPLE, VERMILION, add_legend, fix_layout, hover, new_figure, style
from epsgrid.report.numbers.learning import LearningCurve, LearningNumbers
from epsgrid.selection.cells import CONVENTIONAL, DEFAULT, NARROWED, Spread
from epsgrid.selection.formatting import count, score

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_HEIGHT_INCH = 3.3
_MARKED = 25
"""Epochs up to which each has a marker of its own, with its value where the pointer rests."""
_LOOKS: dict[str, dict[str, Any]] = {
    NARROWED: {"color": BLUE, "ls": "-", "marker": "s"},
    CONVENTIONAL: {"color": VERMILION, "ls": "--", "marker": "o"},
    DEFAULT: {"color": PURPLE, "ls": ":", "marker": "D"},
}
_OTHER: dict[str, Any] = {"color": "black", "ls": "-", "marker": "o"}


def draw_learning(numbers: LearningNumbers) -> Figure:
    """Draw the score of the split that selects on the left, and the training loss on the right."""
    with style():
        figure = new_figure(_HEIGHT_INCH)
        scores, losses = figure.subplots(1, 2)
        factor = numbers.metric.factor
        for curve in numbers.curves:
            _draw(scores, curve, [(p.epoch, p.score) for p in curve.points], factor)
            _draw(losses, curve, [(p.epoch, p.loss) for p in curve.points], 1.0)
            _mark(scores, curve, numbers)
        scores.set_ylabel(numbers.metric.label)
        scores.set_title(f"{numbers.selection} (selects)")
        losses.set_title("training loss")
        for axes in (scores, losses):
            _scale(axes)
        add_legend(figure, _legend(numbers), columns=1)
        return fix_layout(figure)


def _draw(axes: Axes, curve: LearningCurve, course: Sequence[tuple[int, Spread | None]], factor: float) -> None:
    """Draw one mean, shaded by the standard deviation over seeds where there are several."""
    known = [(epoch, spread) for epoch, spread in course if spread is not None]
    if not known:
        return
    look, epochs = _look(curve), [epoch for epoch, _ in known]
    means = [factor * spread.mean for _, spread in known]
    deviations = [factor * (spread.sd or 0.0) for _, spread in known]
    if any(deviations):
        low = [mean - sd for mean, sd in zip(means, deviations, strict=True)]
        high = [mean + sd for mean, sd in zip(means, deviations, strict=True)]
        axes.fill_between(epochs, low, high, color=look["color"], alpha=0.18, lw=0, zorder=2)
    alone = look["marker"] if len(epochs) == 1 else None
    axes.plot(epochs, means, color=look["color"], ls=look["ls"], lw=1.5, marker=alone, ms=4, zorder=3)


def _mark(axes: Axes, curve: LearningCurve, numbers: LearningNumbers) -> None:
    """Set a marker with its value on each epoch of a short training, and on the last of a long one."""
    known = [(point.epoch, point.score) for point in curve.points if point.score is not None]
    shown = known if len(known) <= _MARKED else known[-1:]
    if shown:
        look, means = _look(curve), [numbers.metric.factor * spread.mean for _, spread in shown]
        epochs = [epoch for epoch, _ in shown]
        (drawn,) = axes.plot(epochs, means, ls="none", marker=look["marker"], ms=3.6, color=look["color"], zorder=4)
        hover(drawn, *(f"{_name(curve)}, epoch {epoch}: {_value(spread, numbers)}" for epoch, spread in shown))


def _value(spread: Spread, numbers: LearningNumbers) -> str:
    return f"{score(spread.mean, spread.sd, numbers.metric)}, {count(spread.n, 'seed')}"


def _scale(axes: Axes) -> None:
    """Number the epochs, and use a log axis where values range over more than a decade."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.margins(x=0.04, y=0.08)
    values = [float(y) for line in axes.lines for y in np.asarray(line.get_ydata(), dtype=float)]
    if values and 0 < 10 * min(values) < max(values):
        log_values(axes)
    if not values:
        axes.set_yticks([])
        axes.text(0.5, 0.5, "no finite value", transform=axes.transAxes, ha="center", va="center")
    value_lines(axes)


def _look(curve: LearningCurve) -> dict[str, Any]:
    return _LOOKS.get(curve.names[0], _OTHER)


def _name(curve: LearningCurve) -> str:
    names = ["default ε" if name == DEFAULT else name for name in curve.names]
    return " and ".join(names)


def _legend(numbers: LearningNumbers) -> list[tuple[Any, str]]:
    from matplotlib.lines import Line2D

    return [
        (
            Line2D([], [], lw=1.5, ms=4, **_look(curve)),
            f"{_name(curve)}: {curve.cell}, {count(curve.seeds, 'seed')}",
        )
        for curve in numbers.curves
    ]
