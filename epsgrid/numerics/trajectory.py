"""The bounds over the steps of a probe, and whether they have settled."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

from epsgrid.numerics.magnitudes import TAIL_FRACTION, decade_of
from epsgrid.numerics.placement import Placement
from epsgrid.numerics.series import Series

End = Literal["low", "high"]

_LEAST_STEPS = 32
"""Fewer steps never count as settled: v then rests on a handful of batches."""

LARGEST_DRIFT = 0.1
"""Decades that a settled end may still move over the last half of the steps."""


@dataclass(frozen=True)
class Trajectory:
    """The bounds after some of a probe's `steps`, rising, the last of them its own.

    `low` and `high` are in the optimizer's ε, not rounded, one for each of the steps, off by at most a bin's width.
    """

    steps: tuple[int, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self) -> None:
        assert len(self.steps) == len(self.low) == len(self.high), "steps, low and high differ in number"

    @property
    def decades(self) -> list[tuple[float, float]]:
        """The powers of ten nearest to both ends, at each step."""
        return [(decade_of(low), decade_of(high)) for low, high in zip(self.low, self.high, strict=True)]

    def since(self, part: int) -> Trajectory | None:
        """Return the trajectory from the last step up to 1/part of all steps on; None where there is no such step."""
        before = [index for index, step in enumerate(self.steps) if part * step <= self.steps[-1]]
        if not before:
            return None
        return Trajectory(self.steps[before[-1] :], self.low[before[-1] :], self.high[before[-1] :])

    def drift(self, end: End) -> float:
        """Return by how many decades an end has moved from the first to the last of the steps; positive is up."""
        values = getattr(self, end)
        return math.log10(values[-1]) - math.log10(values[0])


def settled_after(trajectory: Trajectory) -> int | None:
    """Return the first step from which on both ends keep their final decade; None without steps.

    >>> settled_after(Trajectory((1, 2, 3, 4), (1e-8, 1e-7, 1.2e-7, 1e-7), (1e-3, 1e-3, 1e-3, 1e-3)))
    2
    """
    decades = trajectory.decades
    if not decades:
        return None
    changes = [index for index, there in enumerate(decades) if there != decades[-1]]
    return trajectory.steps[changes[-1] + 1 if changes else 0]


def has_settled(trajectory: Trajectory) -> bool:
    """Return whether the bounds have settled, so that a probe may stop early.

    The rule: after t steps, t at least `_LEAST_STEPS`, both ends have had their decade ever since step t/4, and have
    moved by less than `LARGEST_DRIFT` decades from t/4 to t/2 and from t/2 to t.
    """
    quarter, half = trajectory.since(4), trajectory.since(2)
    if quarter is None or half is None or half.steps[-1] < _LEAST_STEPS:
        return False
    logs = [[math.log10(end[place]) for place in (0, -len(half.steps), -1)] for end in (quarter.low, quarter.high)]
    drifts = [abs(after - before) for log in logs for before, after in itertools.pairwise(log)]
    return len(set(quarter.decades)) == 1 and max(drifts) < LARGEST_DRIFT


def trajectory_of(
    series: Series,
    placement: Callable[[int], Placement],
    tail_fraction: float = TAIL_FRACTION,
    *,
    leave_out: Collection[str] = (),
) -> Trajectory:
    """Return the bounds over the steps of a series; `placement` gives where the optimizer adds its ε at each step.

    Raises ValueError as `Series.ends_over_time`, with its arguments.
    """
    rows = series.ends_over_time(tail_fraction, leave_out=leave_out)
    return Trajectory(
        steps=tuple(ends.step for ends in rows),
        low=tuple(placement(ends.step).epsilon_from_magnitude(ends.low) for ends in rows),
        high=tuple(placement(ends.step).epsilon_from_magnitude(ends.high) for ends in rows),
    )
