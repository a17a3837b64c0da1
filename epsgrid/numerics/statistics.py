"""Means over seeds and how far they can be trusted.

With three to five seeds a standard error alone misleads, so intervals use Student's t. Two settings trained with the
same seeds saw the same batches and initial weights: their difference is taken seed by seed, which removes what the
seeds have in common.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean and a two-sided confidence interval.

    Attributes:
        mean: arithmetic mean.
        low: lower end; None where the values do not determine one.
        high: upper end, likewise.
        n: number of values.
        level: probability with which such intervals cover the true mean, in (0, 1).
    """

    mean: float
    low: float | None
    high: float | None
    n: int
    level: float


def mean_and_sd(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean and the sample standard deviation (divisor n − 1).

    >>> mean_and_sd([1.0, 2.0, 3.0])
    (2.0, 1.0)

    Returns:
        The deviation is None for one value, and where a value is NaN or infinite.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("no values to take a mean of")
    if not all(map(math.isfinite, values)):
        return math.fsum(values) if _one_infinity(values) else math.nan, None
    return fmean(values), stdev(values) if len(values) > 1 else None


def t_interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """Return Student's t interval for the mean of independent values.

    Args:
        values: one per seed; with fewer than two, or with a NaN or infinity, the interval has no ends.
        level: in (0, 1).

    Raises:
        ValueError: there are no values, or `level` lies outside (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie in (0, 1), got {level!r}")
    mean, sd = mean_and_sd(values)
    n = len(values)
    if sd is None:
        return Interval(mean, None, None, n, level)
    from scipy.stats import t

    half_width = float(t.ppf((1 + level) / 2, n - 1)) * sd / math.sqrt(n)
    return Interval(mean, mean - half_width, mean + half_width, n, level)


def paired_difference(a: Mapping[int, float], b: Mapping[int, float], level: float = LEVEL) -> Interval:
    """Return the t interval of a − b, paired by seed.

    Args:
        a: score of each seed.
        b: score of each seed; seeds that only one of the two has are left out.
        level: in (0, 1).

    Raises:
        ValueError: no seed is in both, or `level` lies outside (0, 1).
    """
    common = sorted(a.keys() & b.keys())
    if not common:
        raise ValueError(f"no seed in common: {sorted(a)} and {sorted(b)}")
    return t_interval([a[seed] - b[seed] for seed in common], level)


def _one_infinity(values: Sequence[float]) -> bool:
    """Whether infinities of one sign make the sum infinite, rather than undefined."""
    return not any(map(math.isnan, values)) and len({value for value in values if math.isinf(value)}) == 1
