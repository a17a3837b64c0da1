"""Means over seeds and how far they can be trusted.

With three to five seeds a standard error alone misleads, so intervals use Student's t, which is right where scores are
normal. From eight seeds on there is enough to see how they are spread, and a bootstrap takes that into account. Two
settings trained with the same seeds saw the same batches and initial weights: their difference is taken seed by seed,
which removes what the seeds have in common.

The bootstrap is Efron's BCa, bias-corrected and accelerated, with the percentiles moved outwards as Hesterberg proposes
(What teachers should know about the bootstrap, The American Statistician 69, 2015): resampling n values makes the
spread too small by √((n − 1)/n) and knows no heavier tail than the normal one, so that plain BCa intervals of eight
normal values cover the mean in 90 % of cases instead of 95 %. Resamples are drawn with a fixed seed: equal values give
equal intervals.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Method = Literal["t", "BCa"]
LEVEL = 0.95
ENOUGH_TO_RESAMPLE = 8
"""Values from which on `mean_interval` resamples them; `scripts/check_statistics.py` shows why not fewer."""
_RESAMPLES = 9_999
_RESAMPLED_AT_ONCE = 1_000_000
_MOST_STEPS = 200


@dataclass(frozen=True)
class Interval:
    """A mean and a two-sided confidence interval.

    Attributes:
        mean: arithmetic mean.
        low: lower end; None where the values do not determine one.
        high: upper end, likewise.
        n: number of values.
        level: probability with which such intervals cover the true mean, in (0, 1).
        method: Student's t, or the bootstrap.
    """

    mean: float
    low: float | None
    high: float | None
    n: int
    level: float
    method: Method = "t"


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
    mean, sd = _checked(values, level)
    n = len(values)
    if sd is None:
        return Interval(mean, None, None, n, level)
    half_width = t_quantile((1 + level) / 2, n - 1) * sd / math.sqrt(n)
    return Interval(mean, mean - half_width, mean + half_width, n, level)


def t_quantile(probability: float, degrees: int) -> float:
    """Return the quantile of Student's t with so many degrees of freedom.

    By Newton's steps from the normal quantile, which lies nearer to 0: from there on the distribution function is
    concave, so that no step overshoots. scipy's agrees to twelve digits at the levels in use, but takes a fifth of a
    second to import, and every report needs it.

    >>> round(t_quantile(0.975, 2), 3)
    4.303

    Args:
        probability: in (0, 1).
        degrees: 1 or more.
    """
    if probability < 0.5:
        return -t_quantile(1 - probability, degrees)
    inside, t = 2 * probability - 1, NormalDist().inv_cdf(probability)
    scale = math.exp(math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)) / math.sqrt(degrees * math.pi)
    for _ in range(_MOST_STEPS):
        density = scale * (1 + t * t / degrees) ** (-(degrees + 1) / 2)
        step = (inside - _t_within(t, degrees)) / (2 * density)
        t += step
        if step <= 1e-15 * t:  # or below 0, by rounding
            break
    return t


def _t_within(t: float, degrees: int) -> float:
    """Return the probability that Student's t lies between −t and t (Abramowitz and Stegun, 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(degrees))
    cosine, terms = math.cos(angle), []
    term = cosine if degrees % 2 else 1.0
    for power in range(3 if degrees % 2 else 2, degrees + 1, 2):
        terms.append(term)
        term *= cosine * cosine * (power - 1) / power
    total = math.sin(angle) * math.fsum(terms)
    return 2 / math.pi * (angle + total) if degrees % 2 else total


def bootstrap_interval(
    values: Sequence[float], level: float = LEVEL, *, resamples: int = _RESAMPLES, seed: int = 0, expand: bool = True
) -> Interval:
    """Return the BCa bootstrap interval for the mean of independent values; the module's own words say more.

    Args:
        values: one per seed; with fewer than two, or with a NaN or infinity, the interval has no ends.
        level: in (0, 1).
        resamples: how often the values are drawn anew.
        seed: of the draws.
        expand: move the percentiles outwards as few values need it; without, it is the textbook's interval.

    Returns:
        Equal values have an interval of no width.

    Raises:
        ValueError: there are no values, or `level` lies outside (0, 1).
    """
    import numpy as np

    mean, sd = _checked(values, level)
    n = len(values)
    if not sd:
        end = None if sd is None else mean
        return Interval(mean, end, end, n, level, "BCa")
    means = _resampled_means(np.asarray(values, dtype=np.float64), resamples, seed)
    below = (np.count_nonzero(means < mean) + 0.5 * np.count_nonzero(means == mean)) / resamples
    normal = NormalDist()
    bias = normal.inv_cdf(min(max(below, 1 / resamples), 1 - 1 / resamples))
    acceleration = _skewness(values, mean) / (6 * math.sqrt(n))
    tail = -math.sqrt(n / (n - 1)) * t_quantile((1 + level) / 2, n - 1) if expand else normal.inv_cdf((1 - level) / 2)
    shifted = [bias + (bias + z) / max(1 - acceleration * (bias + z), 0.1) for z in (tail, -tail)]
    low, high = np.quantile(means, [normal.cdf(z) for z in shifted])
    return Interval(mean, float(low), float(high), n, level, "BCa")


def mean_interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """Return an interval for the mean of independent values: Student's t for few, the bootstrap from eight on.

    Args:
        values: one per seed; with fewer than two, or with a NaN or infinity, the interval has no ends.
        level: in (0, 1).

    Raises:
        ValueError: there are no values, or `level` lies outside (0, 1).
    """
    return (bootstrap_interval if len(values) >= ENOUGH_TO_RESAMPLE else t_interval)(values, level)


def paired_difference(a: Mapping[int, float], b: Mapping[int, float], level: float = LEVEL) -> Interval:
    """Return the interval of a − b, paired by seed; see `mean_interval`.

    Differences that are the same for every seed do not mean that there is no doubt: an accuracy is counted in steps of
    one example. They are taken to be spread by half the smallest step between any two of the scores.

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
    differences = [a[seed] - b[seed] for seed in common]
    step = _smallest_step([a[seed] for seed in common], [b[seed] for seed in common])
    if len(common) > 1 and step is not None and max(differences) - min(differences) < 1e-6 * step:
        mean, _ = _checked(differences, level)
        half_width = t_quantile((1 + level) / 2, len(common) - 1) * step / 2 / math.sqrt(len(common))
        return Interval(mean, mean - half_width, mean + half_width, len(common), level)
    return mean_interval(differences, level)


def _smallest_step(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return the smallest distance of two scores that differ; None where neither setting's scores do."""
    if not all(map(math.isfinite, (*first, *second))) or max(map(_reach, (first, second))) == 0:
        return None
    ordered = sorted((*first, *second))
    least = 1e-9 * max(map(abs, ordered))
    return min((high - low for low, high in itertools.pairwise(ordered) if high - low > least), default=None)


def _reach(values: Sequence[float]) -> float:
    return max(values) - min(values)


def _checked(values: Sequence[float], level: float) -> tuple[float, float | None]:
    """Return mean and standard deviation of what an interval is asked for."""
    if not 0 < level < 1:
        raise ValueError(f"level must lie in (0, 1), got {level!r}")
    return mean_and_sd(values)


def _resampled_means(values: npt.NDArray[np.float64], resamples: int, seed: int) -> npt.NDArray[np.float64]:
    """Return the mean of each resample, drawn in blocks that fit into little memory."""
    import numpy as np

    rng, n = np.random.default_rng(seed), len(values)
    block = max(_RESAMPLED_AT_ONCE // n, 1)
    sizes = [min(block, resamples - start) for start in range(0, resamples, block)]
    return np.concatenate([values[rng.integers(0, n, (size, n))].mean(axis=1) for size in sizes])


def _skewness(values: Sequence[float], mean: float) -> float:
    """Return the third central moment over the standard deviation (divisor n) to the third."""
    second = fmean((value - mean) ** 2 for value in values)
    third = fmean((value - mean) ** 3 for value in values)
    return float(third / second**1.5)


def _one_infinity(values: Sequence[float]) -> bool:
    """Whether infinities of one sign make the sum infinite, rather than undefined."""
    return not any(map(math.isnan, values)) and len({value for value in values if math.isinf(value)}) == 1
