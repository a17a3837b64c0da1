"""Gradient magnitudes over time as plain numbers: when, how far the bounds drifted, how a probe's bounds settled.

`bands` and `adaptable` hold the numbers of the larger figures; `epsgrid inspect` prints what is here. Time is in epochs
where every snapshot knows its epoch, else in steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from epsgrid.numerics.bounds import EpsilonBounds
from epsgrid.numerics.magnitudes import TAIL_FRACTION
from epsgrid.numerics.series import Series, Snapshot
from epsgrid.numerics.trajectory import settled_after

TimeUnit = Literal["epoch", "step"]
_T = TypeVar("_T")


@dataclass(frozen=True)
class CourseNumbers:
    """Everything the figure of the bounds' course shows; ε are the optimizer's own.

    Attributes:
        steps: steps of the probe, rising; not empty.
        low: lower bound after each, not rounded.
        high: upper bound, likewise.
        low_decade: the lower bound as the grid takes it.
        high_decade: the upper one.
        settled_after: step from which on both have these decades.
        optimizer: its name.
    """

    steps: tuple[int, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    low_decade: float
    high_decade: float
    settled_after: int
    optimizer: str


@dataclass(frozen=True)
class Drift:
    """The bounds at one later time, by the published rule, next to those of epoch 1.

    Attributes:
        step: of the snapshot.
        epoch: epochs done; None where not known.
        low: lower bound, √v̂ units, off by at most 0.8 %.
        high: upper bound, likewise.
        low_layers: the layers that set it, as far as percentiles can tell them apart.
        high_layers: likewise.
        low_moved: decades above the bound of epoch 1; negative below; None where nothing was probed.
        high_moved: likewise.
        threshold: the magnitude that the optimizer's ε weighs as much as; None where that is not known.
    """

    step: int
    epoch: float | None
    low: float
    high: float
    low_layers: tuple[str, ...]
    high_layers: tuple[str, ...]
    low_moved: float | None
    high_moved: float | None
    threshold: float | None


def time_unit(series: Series) -> TimeUnit:
    """Return "epoch" where every snapshot knows its epoch, else "step"."""
    return "epoch" if all(snapshot.epoch is not None for snapshot in series.snapshots) else "step"


def time_of(snapshot: Snapshot, unit: TimeUnit) -> float:
    """Return when a snapshot was taken."""
    return float(snapshot.step) if unit == "step" or snapshot.epoch is None else snapshot.epoch


def with_histograms(series: Series) -> tuple[Snapshot, ...]:
    """Return the snapshots that hold a histogram of some layer; the others hold percentiles only."""
    return tuple(s for s in series.snapshots if any(layer and layer.histogram for layer in s.layers))


def evenly(moments: Sequence[_T], count: int) -> tuple[_T, ...]:
    """Return at most `count` ≥ 1 moments, spread evenly: the last always, and from two on the first.

    >>> evenly(range(10), 4), evenly(range(10), 1)
    ((0, 3, 6, 9), (9,))
    """
    last = len(moments) - 1
    if last < count:
        return tuple(moments)
    if count == 1:
        return (moments[-1],)
    return tuple(moments[round(place * last / (count - 1))] for place in range(count))


def kinds_of(series: Series) -> dict[str, tuple[int, ...]]:
    """Return the indices of the layers of each kind; kinds in the order in which the model has them."""
    found: dict[str, list[int]] = {}
    for index, kind in enumerate(series.kinds):
        found.setdefault(kind, []).append(index)
    return {kind: tuple(indices) for kind, indices in found.items()}


def course_numbers(bounds: EpsilonBounds, optimizer: str) -> CourseNumbers | None:
    """Return the numbers of the figure of the bounds' course; None where the probe did not follow them."""
    course = bounds.reliability.course if bounds.reliability else None
    if course is None or not course.steps:
        return None
    settled = settled_after(course)
    assert settled is not None
    return CourseNumbers(
        steps=course.steps,
        low=course.low,
        high=course.high,
        low_decade=bounds.low.decade,
        high_decade=bounds.high.decade,
        settled_after=settled,
        optimizer=optimizer,
    )


def drift(series: Series, bounds: EpsilonBounds | None) -> tuple[Drift, ...]:
    """Return how the bounds moved: one row per snapshot in which a layer is measured.

    Args:
        series: what was kept; where it does not hold the percentiles of the bounds' tail there are no rows.
        bounds: those of epoch 1; None where nothing was probed: bounds are then taken at the published tail.
    """
    tail = bounds.tail_fraction if bounds else TAIL_FRACTION
    if not any(math.isclose(tail, held, abs_tol=1e-9) for held in series.fractions):
        return ()
    snapshots = {snapshot.step: snapshot for snapshot in series.snapshots}
    return tuple(
        Drift(
            step=ends.step,
            epoch=snapshots[ends.step].epoch,
            low=ends.low,
            high=ends.high,
            low_layers=ends.low_layers,
            high_layers=ends.high_layers,
            low_moved=_decades(ends.low, bounds.low.magnitude) if bounds else None,
            high_moved=_decades(ends.high, bounds.high.magnitude) if bounds else None,
            threshold=snapshots[ends.step].threshold,
        )
        for ends in series.ends_over_time(tail)
    )


def _decades(value: float, reference: float) -> float:
    return math.log10(value) - math.log10(reference)
