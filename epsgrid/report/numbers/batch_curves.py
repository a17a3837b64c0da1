"""The numbers of the figure of learning curves at several batch sizes, without drawing them."""

from __future__ import annotations

from dataclasses import dataclass

from epsgrid.report.batches import BASE, TrainedBatches, course, mean_course
from epsgrid.report.cells import Cell, Spread
from epsgrid.report.load import StoredExperiment
from epsgrid.report.words import Metric, score


@dataclass(frozen=True)
class BatchCurve:
    """The course of one cell.

    Attributes:
        batch_size: it was trained with.
        points: epoch and the metric over seeds, by epoch; not empty.
    """

    batch_size: int
    points: tuple[tuple[int, Spread], ...]


@dataclass(frozen=True)
class RulePanel:
    """The curves of one rule, by rising batch size."""

    rule: str
    curves: tuple[BatchCurve, ...]


@dataclass(frozen=True)
class BatchCurveNumbers:
    """Everything the figure shows; x is epochs, which is the continuous time that the rules keep.

    Attributes:
        panels: one per rule; at least one.
        base: the curve of the setting itself, drawn in every panel; None while none of its epochs is done.
        sizes: all batch sizes, rising.
        metric: what the curves are.
        selection: the split they are on.
    """

    panels: tuple[RulePanel, ...]
    base: BatchCurve | None
    sizes: tuple[int, ...]
    metric: Metric
    selection: str


def batch_curve_numbers(stored: StoredExperiment, trained: TrainedBatches | None) -> BatchCurveNumbers | None:
    """Return the numbers of the figure; None where no rule has a curve."""
    if trained is None:
        return None
    panels: dict[str, list[BatchCurve]] = {}
    base = None
    for row in trained.rows:
        curve = _curve(stored, row.cell, row.batch_size)
        if row.rule == BASE:
            base = curve
        elif curve is not None:
            panels.setdefault(row.rule, []).append(curve)
    if not panels:
        return None
    return BatchCurveNumbers(
        panels=tuple(RulePanel(rule, tuple(curves)) for rule, curves in panels.items()),
        base=base,
        sizes=tuple(sorted({row.batch_size for row in trained.rows})),
        metric=trained.metric,
        selection=trained.selection,
    )


def described(numbers: BatchCurveNumbers) -> str:
    """Say what the figure shows, for who cannot see it: where each curve ends."""
    ends = [
        f"{panel.rule}, batch {curve.batch_size}: {_end(curve, numbers)}"
        for panel in numbers.panels
        for curve in panel.curves
    ]
    own = [] if numbers.base is None else [f"the base, batch {numbers.base.batch_size}: {_end(numbers.base, numbers)}"]
    return f"{numbers.selection} {numbers.metric.name} after the last epoch. {'; '.join([*own, *ends])}."


def _end(curve: BatchCurve, numbers: BatchCurveNumbers) -> str:
    spread = curve.points[-1][1]
    return score(spread.mean, spread.sd, numbers.metric)


def _curve(stored: StoredExperiment, cell: Cell, batch_size: int) -> BatchCurve | None:
    points = tuple(mean_course(course(stored, cell)).items())
    return BatchCurve(batch_size, points) if points else None
