"""Compare sets of settings that were trained with the same seeds.

The score of setting k with seed s is taken to be μ_k + b_s + e_ks: a true score, the effect of the seed on every
setting, and that of this one training. In this two-way layout the residuals of all settings together estimate the
spread of e, which at few seeds decides far more than pairwise differences would. Settings that diverge or do not learn
spread differently. So settings are pooled from the best one down to the one at which Bartlett's test finds spreads
unequal, without single ones that spread more than the rest by an F test; comparisons in which another setting matters
are made in pairs.

**Which set has the better best?** (`loss`) The setting that scores best in a set owes part of its score to luck. So the
best of a set is estimated in two ways, as a mean over settings with weights exp(−z²/2τ²), where z is the distance to
the best selecting score in standard errors of a difference:

* *held out*: for each seed the weights come from the other seeds (τ = 1). No luck of choosing is left; on average it is
  at most the best's score.
* *in sample*: the weights come from all seeds (τ = 2.1/seeds). On average it is hardly less than the best's score.

The upper end of the interval of best(A) − best(B) is in sample for A and held out for B, the lower end the other way
round. That each holds at its level is not derived, but found by simulation (`scripts/check_statistics.py`). The larger
the in-sample τ the more is decided, and the more often a loss is overlooked, at worst with one best setting among many
that lose about two standard errors: with τ = 0.7 in 3 % at 3 seeds and in 8 % at 8, with τ = 0.42 in 3 % at 5 seeds and
in 6 % at 8, with τ = 0.26 in 3.5 % at 8; hence a τ that falls with the seeds.

**With more seeds for some settings**, each seed is compared among the settings that have it. For the seeds that every
setting has, the held-out weights are taken over all of the set: those chosen for more seeds were lucky with these. A
setting without the further seeds keeps the upper bound that it had before them, which counts where it is the highest:
what they show of the spread of others is no reason to doubt it, and it will never have more seeds to be judged by.

**Which sets are as good as the best?** `compare_with_best` compares each with the best of the others, all at once
(multiple comparisons with the best; Hsu, The Annals of Statistics 12, 1984). A set is an ε with all its learning rates:
with the best-scoring rate alone, a quarter of the simulated sets were false. Between sets, Dunnett's quantile was too
small (8 % false at 8 seeds); Bonferroni's is 6 % larger.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from epsgrid.numerics.statistics import LEVEL, smallest_step, t_quantile

_HELD_OUT, _IN_SAMPLE = 1.0, 2.1
"""The τ of the two estimates, the latter times the seeds."""
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
        low, high: bounds, each of them alone at the level; NaN with one seed.
        n: seeds.
        pooled: whether the spread is that of the whole layout, or of these two sets alone.
    """

    mean: float
    low: float
    high: float
    n: int
    pooled: bool


@dataclass(frozen=True, eq=False)
class Layout:
    """Scores of settings with the same seeds; larger is better.

    Settings are chosen by `selecting` and judged by `test`, both (settings, seeds) with NaN in the same places: a
    setting with fewer seeds than others has the first ones.
    """

    selecting: _Array
    test: _Array

    @cached_property
    def counts(self) -> npt.NDArray[np.int64]:
        """Number of seeds of each setting, of shape (settings,)."""
        return np.asarray(np.isfinite(self.test).sum(1), dtype=np.int64)

    @property
    def seeds(self) -> int:
        """Number of seeds that every setting has."""
        return int(self.counts.min())

    @cached_property
    def _before(self) -> dict[int, Layout]:
        return {}

    def before(self, seeds: int) -> Layout:
        """Return the layout of the first seeds alone: what was known when settings with no more of them were left."""
        if seeds not in self._before:
            self._before[seeds] = Layout(self.selecting[:, :seeds], self.test[:, :seeds])
        return self._before[seeds]

    @cached_property
    def _equal(self) -> npt.NDArray[np.bool_]:
        """The best settings as far as Bartlett's test finds their spreads equal; none or at least two."""
        equal = np.zeros(len(self.test), dtype=bool)
        order = np.argsort(-self.selecting[:, : self.seeds].mean(1), kind="stable")
        for size in range(len(order), 1, -1) if self.seeds > 1 else ():
            if _spreads_are_equal(_residuals(self.test[order[:size], : self.seeds])):
                equal[order[:size]] = True
                break
        return equal

    @cached_property
    def _squares(self) -> tuple[float, int]:
        """Sum of squared residuals and their degrees of freedom, by least squares in the two-way layout."""
        chosen = self._equal
        if not chosen.any():
            chosen = np.zeros(len(self.test), dtype=bool)
            chosen[np.argsort(-self.selecting[:, : self.seeds].mean(1))[:2]] = True
        squares, degrees, before = 0.0, 0, 1
        for seeds in np.unique(self.counts[chosen]):  # what more seeds of some settings add
            scores = self.test[chosen & (self.counts >= seeds), :seeds]
            squares += float((_residuals(scores) ** 2).sum() - (_residuals(scores[:, :before]) ** 2).sum())
            degrees += (len(scores) - 1) * (int(seeds) - before)
            before = int(seeds)
        return squares, degrees

    @cached_property
    def pool(self) -> npt.NDArray[np.bool_]:
        """The settings that spread alike as far as can be told, of shape (settings,)."""
        from scipy.special import fdtrc

        pool = self._equal.copy()
        squares, degrees = self._squares
        for seeds in np.unique(self.counts[pool]):
            rows = np.flatnonzero(self._equal & (self.counts >= seeds))
            rest = degrees - (int(seeds) - 1)
            if len(rows) < 2 or rest < 1:
                continue
            own = (_residuals(self.test[rows, :seeds]) ** 2).sum(1) * len(rows) / (len(rows) - 1)
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = own / (seeds - 1) / (np.maximum(squares - own, 0.0) / rest)
            pool[rows[fdtrc(seeds - 1, rest, ratio) < _LARGER]] = False
        return pool

    @property
    def degrees(self) -> int:
        """Degrees of freedom of `sd`."""
        return self._squares[1]

    @cached_property
    def sd(self) -> float:
        """Standard deviation of what one training adds to a score; NaN with one seed or setting."""
        if self.degrees < 1:
            return math.nan
        return _at_least_a_step(math.sqrt(max(self._squares[0], 0.0) / self.degrees), self.test[np.isfinite(self.test)])

    def _weights(self, means: _Array, tau: float, seeds: int) -> _Array:
        """Return weights, each column's by mean scores over some seeds."""
        error = self.sd * math.sqrt(2 / seeds) * tau
        behind = means - means.max(0)
        weights = np.exp(-0.5 * (behind / error) ** 2) if error > 0 else (behind == 0).astype(float)
        return np.asarray(weights / weights.sum(0))

    def held_out(self, settings: Sequence[int], seeds: int) -> _Array:
        """Return weights of shape (len(settings), seeds): each seed's by the scores of the others.

        Settings without a seed have no weight there, and are compared with the others where they have one.
        """
        counts, weights = self.counts[list(settings)], np.zeros((len(settings), seeds))
        before = 0
        for count in np.unique(np.minimum(counts, seeds)).tolist():
            own = counts >= count
            scores = self.selecting[np.asarray(settings)[own], :count]
            means = (scores.sum(1, keepdims=True) - scores) / (count - 1) if count > 1 else scores
            weights[own, before:count] = self._weights(means[:, before:], _HELD_OUT, max(count - 1, 1))
            before = count
        return weights

    def in_sample(self, settings: Sequence[int], seeds: int) -> _Array:
        """Return weights of shape (len(settings), seeds) of those with so many seeds, the same for every seed."""
        own, weights = self.counts[list(settings)] >= seeds, np.zeros((len(settings), seeds))
        means = self.selecting[np.asarray(settings)[own], :seeds].mean(1, keepdims=True)
        weights[own] = self._weights(means, _IN_SAMPLE / seeds, seeds)
        return weights


def loss(layout: Layout, better: Sequence[int], other: Sequence[int], level: float = LEVEL) -> Loss:
    """Return by how much the best of the settings at the places `better` beats the best of those at `other`.

    Neither is empty, and they share no setting; each bound holds with the probability `level`, in (0.5, 1).
    """
    seeds = min(int(layout.counts[list(own)].max()) for own in (better, other))
    first, second = (np.nan_to_num(layout.test[list(own), :seeds]) for own in (better, other))
    if seeds < 2:
        best = [own[int(np.argmax(layout.selecting[list(own), 0]))] for own in (better, other)]
        return Loss(float(layout.test[best[0], 0] - layout.test[best[1], 0]), math.nan, math.nan, seeds, pooled=False)
    held = [layout.held_out(own, seeds) for own in (better, other)]
    sample = [layout.in_sample(own, seeds) for own in (better, other)]
    mean = float(((held[0] * first).sum(0) - (held[1] * second).sum(0)).mean())
    pooled = all(
        layout.pool[list(own)][weights.max(1) > _MATTERS].all()
        for pair in (held, sample)
        for own, weights in zip((better, other), pair, strict=True)
    )
    ends = []
    for weights, averaged, sign in (((sample[0], held[1]), held[1], 1.0), ((held[0], sample[1]), held[0], -1.0)):
        differences = (weights[0] * first).sum(0) - (weights[1] * second).sum(0)
        if pooled:  # the in-sample side counts as one setting: its weights follow its scores
            error = layout.sd * math.sqrt(1 / seeds + float((averaged**2).sum()) / seeds**2)
            degrees = layout.degrees
        else:
            spread = _at_least_a_step(float(differences.std(ddof=1)), np.concatenate([first, second]))
            error, degrees = spread / math.sqrt(seeds), seeds - 1
        ends.append(float(differences.mean()) + sign * t_quantile(degrees, level) * error)
    high, low = ends
    rest = [each for each in better if (count := int(layout.counts[each])) < seeds and layout.before(count).pool[each]]
    if rest:
        high = max(high, float(upper_bounds(layout, rest, other, level).max()))
    return Loss(min(max(mean, low), high), low, high, seeds, pooled)


def upper_bounds(layout: Layout, settings: Sequence[int], other: Sequence[int], level: float = LEVEL) -> _Array:
    """Return bounds of how much each of some settings beats the best of others, each bound alone at `level`.

    Their shape is (len(settings),); the layout has two or more seeds, and `other` is not empty. A setting with fewer
    seeds than `other` has the bound of the first seeds alone.
    """
    most = int(layout.counts[list(other)].max())
    counts = np.minimum(layout.counts[list(settings)], most)
    bounds = np.empty(len(settings))
    for seeds in np.unique(counts).tolist():
        rows = counts == seeds
        own, known = np.asarray(settings)[rows], layout if seeds == most else layout.before(seeds)
        held = known.held_out(other, seeds)
        differences = known.test[own, :seeds] - (held * np.nan_to_num(known.test[list(other), :seeds])).sum(0)
        pooled = known.pool[own] & known.pool[list(other)][held.max(1) > _MATTERS].all()
        error = known.sd * math.sqrt(1 / seeds + float((held**2).sum()) / seeds**2)
        alone = differences.std(axis=1, ddof=1) / math.sqrt(seeds) * t_quantile(seeds - 1, level)
        bounds[rows] = differences.mean(1) + np.where(pooled, t_quantile(known.degrees, level) * error, alone)
    return bounds


def compare_with_best(layout: Layout, sets: Sequence[Sequence[int]], level: float = LEVEL) -> tuple[Loss, ...]:
    """Return by how much the best of all other sets beats the best of each of two or more sets, all at once.

    A set whose `low` is above 0 does not hold the best; one whose `high` is below δ loses less than δ. All of this
    holds together with the probability `level`, in (0.5, 1). How far `low` is above 0 is not part of it.
    """
    each = 1 - (1 - level) / len(sets)
    others = [[place for other in sets if other is not own for place in other] for own in sets]
    return tuple(loss(layout, rest, own, each) for rest, own in zip(others, sets, strict=True))


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
