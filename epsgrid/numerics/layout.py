"""Compare sets of settings that were trained with the same seeds.

The score of setting k with seed s is taken to be μ_k + b_s + e_ks: a true score, what the seed does to every setting,
and what this one training adds. That is a two-way layout, whose residuals of all settings together estimate the spread
of e. At few seeds this decides far more than differences taken pair by pair, whose spread each has to be estimated from
the same few seeds. Settings that diverge or do not learn spread differently, and settings are pooled only down to the
one at which Bartlett's test finds spreads unequal, from the best one on; what lies below is compared in pairs.

**Which set has the better best?** `loss` compares the best settings of two sets. The setting that scores best in a set
owes part of its score to luck, the more so the larger the set. So the best of a set is estimated in two ways, both as a
mean over settings with weights exp(−z²/2τ²), where z is the distance to the best selecting score in standard errors of
a difference:

* *held out*: for each seed the weights come from the other seeds (τ = 1). No luck of choosing is left, and where
  several settings are equally good their mean is sharper than any of them. On average it is at most the best's score.
* *in sample*: the weights come from all seeds (τ = 0.4). On average it is hardly less than the score of the best.

The upper end of the interval of best(A) − best(B) is in sample for A and held out for B, the lower end the other way
round. Each holds at its level whatever the settings in the sets are worth, which `scripts/check_statistics.py` checks
by simulation. No correction for the number of settings is due: "every setting of A is less than δ better" is claimed
only where it is significant for the one that looks best, an intersection-union test (Berger, 1982).

**Which settings are as good as the best?** `compare_with_best` gives Hsu's simultaneous intervals (multiple comparisons
with the best; The Annals of Statistics 12, 1984): all of them hold together at their level.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from epsgrid.numerics.statistics import LEVEL, smallest_step

_HELD_OUT, _IN_SAMPLE = 1.0, 1.2
"""The τ of the two estimates, the second one before division by √seeds."""
_UNEQUAL, _LARGER = 0.05, 0.01
"""Levels of the tests for unequal spreads: of all settings, and of one setting that spreads more than the others."""
_MATTERS = 0.05
"""Weight from which on a setting outside the pool makes a comparison one of pairs."""

_Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Loss:
    """By how much the best of one set of settings beats the best of another, in units of the score.

    Attributes:
        mean: estimate; negative where the other set is better.
        low, high: lower and upper bound, each of them alone at the level; NaN with one seed.
        n: seeds.
        pooled: whether the spread is that of the whole layout; otherwise that of these two sets alone.
    """

    mean: float
    low: float
    high: float
    n: int
    pooled: bool


@dataclass(frozen=True, eq=False)
class Layout:
    """Scores of settings over the same seeds; larger is better.

    Attributes:
        selecting: score by which settings are chosen, finite, of shape (settings, seeds).
        test: score by which they are judged, of the same shape.
        grid: scores of these and other settings with some of these seeds, whose residuals sharpen the spread; None
            without such.
        rows: the row of `grid` of each of these settings.
    """

    selecting: _Array
    test: _Array
    grid: Layout | None = None
    rows: tuple[int, ...] = ()

    @property
    def seeds(self) -> int:
        """Number of seeds."""
        return int(self.test.shape[1])

    @cached_property
    def _equal(self) -> npt.NDArray[np.bool_]:
        """The settings whose spreads are equal by Bartlett's test: the best ones, none with fewer than two."""
        equal = np.zeros(len(self.test), dtype=bool)
        if self.seeds < 2:
            return equal
        order = np.argsort(-self.selecting.mean(1), kind="stable")
        if self.grid is not None:
            order = order[self.grid.pool[list(self.rows)][order]]
        for size in range(len(order), 1, -1):
            if _spreads_are_equal(_residuals(self.test[order[:size]])):
                equal[order[:size]] = True
                break
        return equal

    @cached_property
    def _squares(self) -> tuple[float, int]:
        """Sum of squared residuals and their degrees of freedom."""
        chosen = self.test[self._equal] if self._equal.any() else self.test[np.argsort(-self.selecting.mean(1))[:2]]
        squares, degrees = float((_residuals(chosen) ** 2).sum()), (len(chosen) - 1) * (self.seeds - 1)
        if self.grid is not None and self._equal.any():  # the residuals of the grid, and what more seeds add to them
            again = self.grid.test[[row for row, equal in zip(self.rows, self._equal, strict=True) if equal]]
            squares += self.grid._squares[0] - float((_residuals(again) ** 2).sum())
            degrees += self.grid._squares[1] - (len(again) - 1) * (self.grid.seeds - 1)
        return squares, degrees

    @cached_property
    def pool(self) -> npt.NDArray[np.bool_]:
        """The settings that spread alike as far as can be told, of shape (settings,)."""
        from scipy.special import fdtrc

        equal = self._equal.copy()
        squares, degrees = self._squares
        rest = degrees - (self.seeds - 1)
        if not equal.any() or rest < 1:
            return equal
        own = (_residuals(self.test[equal]) ** 2).sum(1) * equal.sum() / (equal.sum() - 1)
        others = np.maximum(squares - own, 0.0) / rest
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = own / (self.seeds - 1) / others
        equal[equal] = ~(fdtrc(self.seeds - 1, rest, ratio) < _LARGER)
        return equal

    @property
    def degrees(self) -> int:
        """Degrees of freedom of `sd`."""
        return self._squares[1]

    @cached_property
    def sd(self) -> float:
        """Standard deviation of what one training adds to a score; NaN with one seed or setting."""
        if self.degrees < 1:
            return math.nan
        return _at_least_a_step(math.sqrt(max(self._squares[0], 0.0) / self.degrees), self.test)

    def _weights(self, settings: npt.NDArray[np.intp], tau: float, seeds: Sequence[int]) -> _Array:
        """Return the weights of some settings by their selecting scores with some seeds."""
        means = self.selecting[settings][:, list(seeds)].mean(1)
        error = self.sd * math.sqrt(2 / len(seeds)) * tau
        with np.errstate(invalid="ignore"):
            weights = np.exp(-0.5 * ((means - means.max()) / error) ** 2) if error > 0 else means == means.max()
        return np.asarray(weights / weights.sum(), dtype=float)

    def held_out(self, settings: Sequence[int]) -> _Array:
        """Return weights of shape (len(settings), seeds): each seed's by the scores of the others."""
        chosen, seeds = np.asarray(settings), range(self.seeds)
        columns = [self._weights(chosen, _HELD_OUT, [other for other in seeds if other != seed]) for seed in seeds]
        return np.stack(columns, axis=1)

    def in_sample(self, settings: Sequence[int]) -> _Array:
        """Return weights of shape (len(settings), seeds), the same for every seed."""
        weights = self._weights(np.asarray(settings), _IN_SAMPLE / math.sqrt(self.seeds), range(self.seeds))
        return np.repeat(weights[:, None], self.seeds, axis=1)


def loss(layout: Layout, better: Sequence[int], other: Sequence[int], level: float = LEVEL) -> Loss:
    """Return by how much the best of some settings beats the best of others.

    Args:
        layout: the scores.
        better: places of the first settings in the layout, at least one.
        other: places of the second ones, at least one; none of the first.
        level: probability with which each of the two bounds holds, in (0.5, 1).
    """
    first, second = layout.test[list(better)], layout.test[list(other)]
    if layout.seeds < 2:
        best = [
            scores[int(np.argmax(layout.selecting[list(own), 0])), 0]
            for scores, own in ((first, better), (second, other))
        ]
        return Loss(float(best[0] - best[1]), math.nan, math.nan, layout.seeds, pooled=False)
    held = layout.held_out(better), layout.held_out(other)
    sample = layout.in_sample(better), layout.in_sample(other)
    mean = float(((held[0] * first).sum(0) - (held[1] * second).sum(0)).mean())
    pooled = all(
        layout.pool[list(own)][weights.max(1) > _MATTERS].all()
        for own, pair in ((better, (held[0], sample[0])), (other, (held[1], sample[1])))
        for weights in pair
    )
    ends = []
    for weights, sign in (((sample[0], held[1]), 1.0), ((held[0], sample[1]), -1.0)):
        differences = (weights[0] * first).sum(0) - (weights[1] * second).sum(0)
        if pooled:  # the in-sample side counts as one setting: its weights follow its scores
            averaged = weights[1] if sign > 0 else weights[0]
            error = layout.sd * math.sqrt(1 / layout.seeds + float((averaged**2).sum()) / layout.seeds**2)
            degrees = layout.degrees
        else:
            spread = _at_least_a_step(float(differences.std(ddof=1)), np.concatenate([first, second]))
            error, degrees = spread / math.sqrt(layout.seeds), layout.seeds - 1
        ends.append(float(differences.mean()) + sign * t_quantile(level, degrees) * error)
    high, low = ends
    return Loss(min(max(mean, low), high), low, high, layout.seeds, pooled)


def upper_bounds(layout: Layout, settings: Sequence[int], other: Sequence[int], level: float = LEVEL) -> _Array:
    """Return bounds of how much each of some settings beats the best of others, each bound alone at the level.

    Args:
        layout: the scores, with two or more seeds.
        settings: places of the settings.
        other: places of the others, at least one.
        level: probability with which each bound holds, in (0.5, 1).
    """
    held = layout.held_out(other)
    differences = layout.test[list(settings)] - (held * layout.test[list(other)]).sum(0)
    pooled = layout.pool[list(settings)] & layout.pool[list(other)][held.max(1) > _MATTERS].all()
    error = layout.sd * math.sqrt(1 / layout.seeds + float((held**2).sum()) / layout.seeds**2)
    alone = differences.std(axis=1, ddof=1) / math.sqrt(layout.seeds) * t_quantile(level, layout.seeds - 1)
    return np.asarray(differences.mean(1) + np.where(pooled, t_quantile(level, layout.degrees) * error, alone))


def compare_with_best(layout: Layout, level: float = LEVEL) -> tuple[Loss, ...]:
    """Return by how much the best of all other settings beats each setting, all at once.

    A setting whose `low` is above 0 is not the best; one whose `high` is below δ loses less than δ. All of this holds
    together with the probability `level`. Settings whose spread is not that of the pool are compared in pairs with
    the best of the pool, at a level that Bonferroni's correction raises.

    Args:
        layout: the scores of two or more settings with two or more seeds.
        level: probability in (0.5, 1).
    """
    settings, means = len(layout.test), layout.test.mean(1)
    pool = np.flatnonzero(layout.pool)
    rows = []
    for setting in range(settings):
        others = [other for other in (pool.tolist() or range(settings)) if other != setting]
        best = max(others, key=lambda other: means[other])
        mean = float(means[best] - means[setting])
        pooled = bool(layout.pool[setting])
        if pooled:
            half = dunnett_quantile(level, len(pool) - 1, layout.degrees) * layout.sd * math.sqrt(2 / layout.seeds)
        else:
            pair = layout.test[[best, setting]]
            spread = _at_least_a_step(float((pair[0] - pair[1]).std(ddof=1)), pair)
            corrected = 1 - (1 - level) / (settings - 1)
            half = t_quantile(corrected, layout.seeds - 1) * spread / math.sqrt(layout.seeds)
        rows.append(Loss(mean, mean - half, mean + half, layout.seeds, pooled))
    return tuple(rows)


def t_quantile(level: float, degrees: float) -> float:
    """Return the point below which Student's t lies with a probability."""
    from scipy.special import stdtrit  # what scipy.stats.t.ppf calls; scipy.stats itself takes a second to import

    return float(stdtrit(degrees, level))


@lru_cache(maxsize=256)
def dunnett_quantile(level: float, comparisons: int, degrees: int) -> float:
    """Return Dunnett's one-sided quantile: of the largest of some differences from one common setting.

    >>> round(dunnett_quantile(0.95, 1, 10), 3), round(dunnett_quantile(0.95, 4, 10), 2)
    (1.812, 2.34)

    Args:
        level: probability in (0.5, 1).
        comparisons: number of differences, ≥ 1, with equal numbers of seeds everywhere: a correlation of 1/2.
        degrees: of freedom of the spread, ≥ 1.

    Returns:
        To about four digits, by quadrature over the common setting and over the spread.
    """
    from scipy.optimize import brentq
    from scipy.special import gammaincinv, ndtr, ndtri

    middles = (np.arange(400) + 0.5) / 400
    common = ndtri(middles)[:, None]
    spread = np.sqrt(2 * gammaincinv(degrees / 2, middles) / degrees)[None, :]

    def excess(point: float) -> float:
        return float((ndtr(math.sqrt(2) * point * spread + common) ** comparisons).mean()) - level

    low = t_quantile(level, degrees) - 0.1
    return float(brentq(excess, low, low + 10 * t_quantile(1 - (1 - level) / (comparisons + 1), degrees), xtol=1e-5))


def _residuals(scores: _Array) -> _Array:
    return np.asarray(scores - scores.mean(1, keepdims=True) - scores.mean(0, keepdims=True) + scores.mean())


def _spreads_are_equal(residuals: _Array) -> bool:
    """Say whether Bartlett's test leaves it possible that all settings spread equally."""
    settings, seeds = residuals.shape
    variances = (residuals**2).sum(1) / (seeds - 1)
    if not variances.all():  # scores counted in whole examples can agree by chance
        variances = variances + (residuals**2).mean() * 1e-2
        if not variances.all():
            return True
    from scipy.special import chdtrc

    degrees = seeds - 1
    statistic = degrees * settings * (math.log(variances.mean()) - float(np.log(variances).mean()))
    statistic /= 1 + (settings + 1) / (3 * settings * degrees)
    return bool(chdtrc(settings - 1, statistic) >= _UNEQUAL)


def _at_least_a_step(sd: float, scores: _Array) -> float:
    """Return a spread, or where all residuals are zero half the smallest step between scores.

    Scores such as accuracies are counted in examples: that they agree does not mean that there is no doubt.
    """
    step = smallest_step(scores.ravel().tolist())
    return step / 2 if step is not None and sd < 1e-6 * step else sd
