"""Paired differences: by how much one chosen setting is better than another, seed by seed, on the test metric."""

from __future__ import annotations

from dataclasses import dataclass

from epsgrid.numerics.statistics import LEVEL, paired_difference
from epsgrid.selection.cells import Choice
from epsgrid.selection.formatting import Metric, count


@dataclass(frozen=True)
class Difference:
    """How much better one cell is than another on the test metric, paired by seed.

    Attributes:
        mean: in the metric's good direction, in its stored unit; None where it is not known.
        low, high: ends of the interval; None with fewer than two common seeds.
        n: common seeds.
        level: of the interval, in (0, 1).
        same_cell: both are the same cell, so that the difference is zero by definition.
        unknown: why it is not known; None where it is.
    """

    mean: float | None
    low: float | None
    high: float | None
    n: int
    level: float
    same_cell: bool
    unknown: str | None


def unknown_difference(why: str) -> Difference:
    """Return a difference that is not known, with the reason."""
    return Difference(None, None, None, 0, LEVEL, same_cell=False, unknown=why)


def difference(better: Choice, worse: Choice, names: tuple[str, str], metric: Metric | None) -> Difference:
    """Return by how much the first of two chosen cells beats the second on the test metric.

    Args:
        better: the first; the result is positive where it is better.
        worse: the second.
        names: what the two are called where a reason names them.
        metric: None while no trial has a result.
    """
    for choice, name in zip((better, worse), names, strict=True):
        if choice.cell is None:
            return unknown_difference(f"{name}: {choice.unknown}")
        if choice.cell.tally.diverged:
            shares = f"{choice.cell.tally.diverged} of {count(choice.cell.tally.trials, 'seed')}"
            return unknown_difference(f"{name}: the best cell, {choice.cell.words}, diverged on {shares}")
    assert better.cell is not None and worse.cell is not None and metric is not None
    first, second = better.cell.test_by_seed(), worse.cell.test_by_seed()
    if not first.keys() & second.keys():
        return unknown_difference(f"{names[0]} and {names[1]} share no seed with a test score")
    if better.cell is worse.cell:
        return Difference(0.0, 0.0, 0.0, len(first), LEVEL, same_cell=True, unknown=None)
    sign = metric.sign
    paired = paired_difference({k: sign * v for k, v in first.items()}, {k: sign * v for k, v in second.items()})
    ends = paired.mean, paired.low, paired.high, paired.n, LEVEL
    return Difference(*ends, same_cell=False, unknown=None)
