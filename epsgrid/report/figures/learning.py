"""The figure of learning curves: how the chosen settings and the default ε came to their scores, epoch by epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from epsgrid.report.figures import style
from epsgrid.report.rows import Comparison
from epsgrid.selection.cells import CONVENTIONAL, DEFAULT, NARROWED, REFERENCE, Cell, Spread, spread_of
from epsgrid.selection.formatting import Metric, count, score
from epsgrid.selection.load import StoredExperiment
from epsgrid.store.records import read_epochs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_HEIGHT_INCH = 3.3
_MARKED = 25
"""Epochs up to which each has a marker of its own, with its value where the pointer rests."""
_LOOKS: dict[str, dict[str, Any]] = {
    NARROWED: {"color": style.BLUE, "ls": "-", "marker": "s"},
    CONVENTIONAL: {"color": style.VERMILION, "ls": "--", "marker": "o"},
    DEFAULT: {"color": style.PURPLE, "ls": ":", "marker": "D"},
    REFERENCE: {"color": "black", "ls": "-", "marker": "o"},
}


@dataclass(frozen=True)
class _LearningPoint:
    """One epoch of a setting: means and spreads over the seeds that got so far with finite values.

    Attributes:
        epoch: from 1.
        score: on the split that selects; None where no seed has a finite one.
        loss: the training loss; None where no seed has a finite one.
    """

    epoch: int
    score: Spread | None
    loss: Spread | None


@dataclass(frozen=True)
class _LearningCurve:
    """One setting.

    Attributes:
        names: the grids, or "default", that chose it.
        cell: learning rate and ε in words.
        seeds: number of seeds with at least one epoch.
        points: by epoch; not empty.
    """

    names: tuple[str, ...]
    cell: str
    seeds: int
    points: tuple[_LearningPoint, ...]

    @property
    def label(self) -> str:
        """The searches that chose it, in words."""
        return " and ".join("default ε" if name == DEFAULT else name for name in self.names)


@dataclass(frozen=True)
class _LearningNumbers:
    """The numbers of the figure.

    Attributes:
        curves: narrowed, conventional, default, at least one; a setting that several chose is there once.
        metric: of the scores.
        selection: the split that selects.
    """

    curves: tuple[_LearningCurve, ...]
    metric: Metric
    selection: str


def learning_numbers(stored: StoredExperiment, comparison: Comparison) -> _LearningNumbers | None:
    """Return the numbers of the figure; None where nothing was chosen, or no epoch is stored.

    Only the epochs of the chosen settings are read.

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
    points = []
    for place in range(max(map(len, courses))):
        records = [epochs[place] for epochs in courses if place < len(epochs)]
        scores = [record.selecting.metric for record in records if record.selecting is not None]
        losses = [record.train_loss for record in records]
        spreads = [spread_of(value for value in values if math.isfinite(value)) for values in (scores, losses)]
        points.append(_LearningPoint(place + 1, *spreads))
    return _LearningCurve(tuple(names), cell.label, len(courses), tuple(points))


def draw_learning(numbers: _LearningNumbers) -> Figure:
    """Draw the score of the split that selects on the left, and the training loss on the right.

    Values that span more than a decade get a log axis.
    """
    from matplotlib.ticker import MaxNLocator

    with style.applied():
        figure = style.new_figure(_HEIGHT_INCH)
        scores, losses = figure.subplots(1, 2)
        for curve in numbers.curves:
            _draw(scores, curve, [(p.epoch, p.score) for p in curve.points], numbers.metric)
            _draw(losses, curve, [(p.epoch, p.loss) for p in curve.points], None)
        scores.set_ylabel(numbers.metric.label)
        scores.set_title(f"{numbers.selection} (selects)")
        losses.set_title("training loss")
        for axes in (scores, losses):
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
            axes.margins(x=0.04, y=0.08)
            values = [float(y) for line in axes.lines for y in np.asarray(line.get_ydata(), dtype=float)]
            if values and 0 < 10 * min(values) < max(values):
                style.log_values(axes)
            if not values:
                axes.set_yticks([])
                axes.text(0.5, 0.5, "no finite value", transform=axes.transAxes, ha="center", va="center")
            style.value_lines(axes)
        return style.finished(figure)


def _draw(
    axes: Axes, curve: _LearningCurve, points: Sequence[tuple[int, Spread | None]], metric: Metric | None
) -> None:
    """Draw one mean, shaded by the standard deviation over seeds where there are several.

    Each epoch of a short training has a marker, of a long one the last; with a metric the markers tell their values.
    """
    known = [(epoch, spread) for epoch, spread in points if spread is not None]
    if not known:
        return
    look, epochs, factor = _LOOKS[curve.names[0]], [epoch for epoch, _ in known], metric.factor if metric else 1.0
    means = np.array([factor * spread.mean for _, spread in known])
    deviations = np.array([factor * (spread.sd or 0.0) for _, spread in known])
    if deviations.any():
        axes.fill_between(epochs, means - deviations, means + deviations, color=look["color"], alpha=0.18, lw=0)
    label = f"{curve.label}: {curve.cell}, {count(curve.seeds, 'seed')}"
    marked = known if len(known) <= _MARKED else known[-1:]
    every = range(len(known) - len(marked), len(known))
    (line,) = axes.plot(epochs, means, lw=1.5, ms=3.6, markevery=list(every), zorder=3, label=label, **look)
    if metric is not None:
        texts = [(epoch, score(s.mean, s.sd, metric), count(s.n, "seed")) for epoch, s in marked]
        style.hover(line, *(f"{curve.label}, epoch {epoch}: {value}, {seeds}" for epoch, value, seeds in texts))
