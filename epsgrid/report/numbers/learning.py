"""The numbers of the learning curves: how the chosen settings, and the default ε, came to their scores epoch by epoch.

`draw_learning` draws them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from epsgrid.report.rows import Comparison
from epsgrid.selection.cells import CONVENTIONAL, DEFAULT, NARROWED, REFERENCE, Cell, Spread, spread_of
from epsgrid.selection.formatting import Metric
from epsgrid.selection.load import StoredExperiment
from epsgrid.store.records import EpochRecord, read_epochs

_SHOWN = (NARROWED, CONVENTIONAL, DEFAULT, REFERENCE)


@dataclass(frozen=True)
class LearningPoint:
    """One epoch of a setting: means and spreads over the seeds that got so far with finite values.

    Attributes:
        epoch: from 1.
        score: on the split that selects; None where no seed has a finite one.
        loss: the training loss, likewise.
    """

    epoch: int
    score: Spread | None
    loss: Spread | None


@dataclass(frozen=True)
class LearningCurve:
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
    points: tuple[LearningPoint, ...]


@dataclass(frozen=True)
class LearningNumbers:
    """Everything the figure shows: curves in the order narrowed, conventional, default; at least one.

    Attributes:
        curves: one per setting; a setting that several chose is there once.
        metric: what the scores are.
        selection: the split that selects.
    """

    curves: tuple[LearningCurve, ...]
    metric: Metric
    selection: str


def learning_numbers(stored: StoredExperiment, comparison: Comparison) -> LearningNumbers | None:
    """Return the numbers of the learning curves; None where nothing was chosen, or no epoch is stored.

    Only the epochs of the chosen settings are read.

    Raises:
        StoreError: a newer version of epsgrid wrote them.
        CorruptRecordError: they are damaged; the message names the file.
    """
    chosen: list[tuple[Cell, list[str]]] = []
    for name in _SHOWN:
        row = comparison.best_of(name)
        if row is None or row.choice.cell is None:
            continue
        names = next((names for cell, names in chosen if cell is row.choice.cell), None)
        if names is None:
            chosen.append((row.choice.cell, [name]))
        else:
            names.append(name)
    curves = [curve for cell, names in chosen if (curve := _curve(stored, cell, names)) is not None]
    if comparison.metric is None or not curves:
        return None
    return LearningNumbers(tuple(curves), comparison.metric, comparison.selection)


def _curve(stored: StoredExperiment, cell: Cell, names: Sequence[str]) -> LearningCurve | None:
    courses = [read_epochs(stored.folder.trial(trial.id).metrics_jsonl) for trial in cell.trials]
    courses = [epochs for epochs in courses if epochs]
    if not courses:
        return None
    longest = max(map(len, courses))
    points = tuple(
        _point(epoch, [epochs[epoch] for epochs in courses if epoch < len(epochs)]) for epoch in range(longest)
    )
    return LearningCurve(tuple(names), cell.words, len(courses), points)


def _point(epoch: int, records: Sequence[EpochRecord]) -> LearningPoint:
    selecting = [record.validation or record.test for record in records]
    return LearningPoint(
        epoch + 1,
        spread_of(_finite(scores.metric) for scores in selecting if scores is not None),
        spread_of(_finite(record.train_loss) for record in records),
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
