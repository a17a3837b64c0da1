"""The figure of learning curves: how the chosen settings and the default ε came to their scores, epoch by epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from epsgrid.grids import CONVENTIONAL, DEFAULT, NARROWED, REFERENCE
from epsgrid.report.figures import style
from epsgrid.report.rows import Comparison
from epsgrid.selection.cells import Cell, Spread, spread_of
from epsgrid.selection.formatting import Metric, count
from epsgrid.selection.load import StoredExperiment
from epsgrid.store.records import read_epochs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LOOKS: dict[str, dict[str, Any]] = {
    NARROWED: {"color": style.BLUE, "ls": "-", "marker": "s"},
    CONVENTIONAL: {"color": style.VERMILION, "ls": "--", "marker": "o"},
    DEFAULT: {"color": style.PURPLE, "ls": ":", "marker": "D"},
    REFERENCE: {"color": style.GREEN, "ls": "-", "marker": "o"},
}


@dataclass(frozen=True)
class _LearningCurve:
    """One setting, epoch by epoch from 1, and the grids that chose it; None where no seed has a finite value."""

    names: tuple[str, ...]
    cell: str
    seeds: int
    scores: tuple[Spread | None, ...]
    losses: tuple[Spread | None, ...]


@dataclass(frozen=True)
class _LearningNumbers:
    """The numbers of the figure: at least one curve; a setting that several grids chose is there once."""

    curves: tuple[_LearningCurve, ...]
    metric: Metric
    selection: str


def learning_numbers(stored: StoredExperiment, comparison: Comparison) -> _LearningNumbers | None:
    """Return the numbers of the figure; None where nothing was chosen, or no epoch is stored.

    Raises:
        StoreError: a newer version of epsgrid wrote them.
        CorruptRecordError: they are damaged; the message names the file.
    """
    chosen: dict[int, tuple[Cell, list[str]]] = {}
    for name in _LOOKS:
        row = comparison.best_of(name)
        if row is not None and row.choice.cell is not None:
            chosen.setdefault(id(row.choice.cell), (row.choice.cell, []))[1].append(name)
    curves = [curve for cell, names in chosen.values() if (curve := _curve(stored, cell, names)) is not None]
    if comparison.metric is None or not curves:
        return None
    return _LearningNumbers(tuple(curves), comparison.metric, comparison.selection)


def _curve(stored: StoredExperiment, cell: Cell, names: Sequence[str]) -> _LearningCurve | None:
    courses = [read_epochs(stored.folder.trial(trial.id).metrics_jsonl) for trial in cell.trials]
    courses = [epochs for epochs in courses if epochs]
    if not courses:
        return None
    scores, losses = [], []
    for place in range(max(map(len, courses))):
        records = [epochs[place] for epochs in courses if place < len(epochs)]
        selecting = [record.selecting.metric for record in records if record.selecting is not None]
        scores.append(spread_of(value for value in selecting if math.isfinite(value)))
        losses.append(spread_of(record.train_loss for record in records if math.isfinite(record.train_loss)))
    return _LearningCurve(tuple(names), cell.label, len(courses), tuple(scores), tuple(losses))


def draw_learning(numbers: _LearningNumbers) -> Figure:
    """Draw the score of the split that selects above the training loss; more than a decade gets a log axis."""
    from matplotlib.ticker import MaxNLocator

    with style.applied():
        figure = style.new_figure(4.9)
        scores, losses = figure.subplots(2, 1, sharex=True)
        for curve in numbers.curves:
            _draw(scores, curve, curve.scores, numbers.metric.factor)
            _draw(losses, curve, curve.losses, 1.0)
        scores.set_ylabel(f"{numbers.selection} {numbers.metric.label}")
        losses.set_ylabel("training loss")
        losses.set_xlabel("epoch")
        losses.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        for axes in (scores, losses):
            axes.margins(x=0.04, y=0.08)
            values = [float(y) for line in axes.lines for y in np.asarray(line.get_ydata(), dtype=float)]
            if values and 0 < 10 * min(values) < max(values):
                style.log_values(axes)
            if not values:
                axes.set_yticks([])
                axes.text(0.5, 0.5, "no finite value", transform=axes.transAxes, ha="center", va="center")
            style.value_lines(axes)
        return style.finished(figure, columns=1)


def _draw(axes: Axes, curve: _LearningCurve, spreads: Sequence[Spread | None], factor: float) -> None:
    """Draw means, shaded by the standard deviation over seeds where there are several."""
    known = [(epoch, spread) for epoch, spread in enumerate(spreads, 1) if spread is not None]
    if not known:
        return
    epochs, look = [epoch for epoch, _ in known], _LOOKS[curve.names[0]]
    means = np.array([factor * spread.mean for _, spread in known])
    deviations = np.array([factor * (spread.sd or 0.0) for _, spread in known])
    if deviations.any():
        axes.fill_between(epochs, means - deviations, means + deviations, color=look["color"], alpha=0.18, lw=0)
    names = " and ".join("default ε" if name == DEFAULT else name for name in curve.names)
    label = f"{names}:\n{curve.cell}, {count(curve.seeds, 'seed')}"  # as one line it is wider than the figure
    axes.plot(epochs, means, lw=1.5, ms=3.6, markevery=max(1, len(epochs) // 20), zorder=3, label=label, **look)
