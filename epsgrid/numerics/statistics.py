"""Means over seeds with Student's t intervals, since with three to five seeds a standard error alone misleads.

Two settings trained with the same seeds saw the same batches and initial weights: their difference is taken seed by
seed, which removes what the seeds have in common.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

LEVEL = 0.95
"""Probability with which all intervals cover the true value."""


@dataclass(frozen=True)
class Interval:
    """A mean of `n` values and a two-sided confidence interval by Student's t that covers the true mean with `level`.

    `low` and `high` are None where the values do not determine them.
    """

    mean: float
    low: float | None
    high: float | None
    n: int
    level: float = LEVEL


def mean_and_sd(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean and the sample standard deviation (divisor n − 1); ValueError without values.

    >>> mean_and_sd([1.0, 2.0, 3.0])
    (2.0, 1.0)

    The deviation is None for one value, and where a value is NaN or infinite.
    """
    if not values:
        raise ValueError("no values to take a mean of")
    if all(map(math.isfinite, values)):
        return fmean(values), stdev(values) if len(values) > 1 else None
    infinities = {value for value in values if math.isinf(value)}
    # Infinities of both signs, or a NaN, have no mean.
    mean = infinities.pop() if len(infinities) == 1 and not any(map(math.isnan, values)) else math.nan
    return mean, None


def t_quantile(degrees: float, level: float = (1 + LEVEL) / 2) -> float:
    """Return the point below which Student's t lies with a probability; by default half a two-sided interval.

    >>> round(t_quantile(2), 3)
    4.303
    """
    from scipy.special import stdtrit  # what scipy.stats.t.ppf calls; scipy.stats itself takes a second to import

    return float(stdtrit(degrees, level))


def share_interval(successes: float, n: int) -> tuple[float, float]:
    """Return Jeffreys' interval of a share, in [0, 1], after so many successes, not necessarily whole, in n ≥ 1 trials.

    >>> [round(end, 2) for end in share_interval(9, 10)]
    [0.62, 0.99]
    """
    from scipy.special import betaincinv

    low, high = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
    a, b = successes + 0.5, n - successes + 0.5
    return float(betaincinv(a, b, low)) if successes else 0.0, float(betaincinv(a, b, high)) if successes < n else 1.0


def mean_interval(values: Sequence[float]) -> Interval:
    """Return Student's t interval for the mean of independent values, one per seed; ValueError without any.

    With fewer than two, or with a NaN or infinity, the interval has no ends.
    """
    mean, sd = mean_and_sd(values)
    return _t_interval(mean, sd, len(values))


def paired_difference(a: Mapping[int, float], b: Mapping[int, float]) -> Interval:
    """Return the interval of a − b over the seeds that both have; ValueError without any.

    Equal differences for every seed do not mean that there is no doubt: an accuracy is counted in steps of one example.
    They are taken to be spread by half the smallest step between any two of the scores.
    """
    common = sorted(a.keys() & b.keys())
    if not common:
        raise ValueError(f"no seed in common: {sorted(a)} and {sorted(b)}")
    differences = [a[seed] - b[seed] for seed in common]
    mean, sd = mean_and_sd(differences)
    first, second = [a[seed] for seed in common], [b[seed] for seed in common]
    is_constant = len({*first}) == len({*second}) == 1
    step = None if is_constant else smallest_step([*first, *second])
    if sd is not None and step is not None and max(differences) - min(differences) < 1e-6 * step:
        sd = step / 2
    return _t_interval(mean, sd, len(common))


def _t_interval(mean: float, sd: float | None, n: int) -> Interval:
    if sd is None:
        return Interval(mean, None, None, n)
    half_width = t_quantile(n - 1) * sd / math.sqrt(n)
    return Interval(mean, mean - half_width, mean + half_width, n)


def smallest_step(scores: Sequence[float]) -> float | None:
    """Return the smallest distance of two scores that differ; None where none do, or one is not finite."""
    if not all(map(math.isfinite, scores)):
        return None
    ordered = sorted(scores)
    least = 1e-9 * max(map(abs, ordered))
    return min((high - low for low, high in itertools.pairwise(ordered) if high - low > least), default=None)
