"""Train fresh seeds until the questions are decided: which settings, when to look, and what looking often costs.

After the grids, only the contenders are trained, on seeds that no grid has used: the settings that may still turn an
open answer. Results are looked at after the grids and after each block of fresh seeds, and the sweep ends at the first
look at which more seeds can decide nothing. Whoever looks several times is wrong more often; so each look is taken at a
higher level (Pocock, Biometrika 64, 1977), such that all looks together are wrong as often as a single one would be.

At each look the contenders are chosen again from those that still have all seeds. A setting that falls out is one whose
own bound excludes that it is better by the margin; this bound stays part of the answer. With only the few best settings
as contenders, an unlucky better one would be lost and the answer a false "keep" (`scripts/check_statistics.py`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache

from epsgrid.grids import CONVENTIONAL, NARROWED
from epsgrid.numerics.statistics import LEVEL
from epsgrid.selection.answers import Answers
from epsgrid.selection.cells import Cell, of_grid
from epsgrid.selection.evidence import Evidence

MAX_FRESH_SEEDS = 12
QUESTIONS = ("default", "narrowing")
"""Those that fresh seeds are trained for."""
_SERIOUS = 0.1
"""In-sample weight, relative to the best, from which on a setting is a contender."""


def looks(max_fresh: int) -> tuple[int, ...]:
    """Return after how many fresh seeds results are looked at: after none, a quarter, half and all of them.

    >>> looks(12), looks(5), looks(1)
    ((0, 3, 6, 12), (0, 2, 3, 5), (0, 1))
    """
    return tuple(sorted({0, math.ceil(max_fresh / 4), math.ceil(max_fresh / 2), max_fresh}))


@lru_cache(maxsize=64)
def level_of(seeds: tuple[int, ...]) -> float:
    """Return the level of each look such that all looks together hold with the probability `LEVEL`.

    >>> level_of((3,)), level_of((3, 6, 9, 15))
    (0.95, 0.9816)

    Returns:
        Pocock's constant for one-sided bounds of sums of independent seeds, whose number rises from look to look, as a
        probability with four digits; `LEVEL` for a single look.
    """
    import numpy as np
    from scipy.optimize import brentq
    from scipy.special import ndtr

    if len(seeds) == 1:
        return LEVEL

    def missed(bound: float) -> float:
        """Return the probability that a look exceeds the bound, by recursion over the density of the running mean."""
        grid = np.linspace(-8, bound, 501)
        weights = np.full(len(grid), grid[1] - grid[0])
        weights[[0, -1]] /= 2
        density = np.exp(-(grid**2) / 2) / np.sqrt(2 * np.pi)
        for before, now in itertools.pairwise(seeds):
            keep = np.sqrt(before / now)
            spread = np.sqrt(1 - keep**2)
            kernel = np.exp(-(((grid[:, None] - keep * grid) / spread) ** 2) / 2) / (spread * np.sqrt(2 * np.pi))
            density = kernel @ (weights * density)
        return float(1 - weights @ density)

    bound = brentq(lambda value: missed(value) - (1 - LEVEL), 1.5, 3.5, xtol=1e-4)
    return round(float(ndtr(bound)), 4)


def contenders(evidence: Evidence) -> tuple[Cell, ...]:
    """Return the settings whose fresh seeds can decide what is open; none where more seeds can decide nothing.

    Of the side of a comparison that may be better these are the settings close to its best and all others that are not
    shown to be less than the margin better; of the other side those close to its best. (With its best alone a learning
    rate that was lucky at first stood for the side: 5.5 % false "change", where now it is 2 %.) Where an answer hangs
    on a learning rate at the end of those tried, they are that setting, the best learning rate inside, and the two that
    are compared. Settings that were no contenders at the last look have fewer seeds, and stay out.
    """
    from epsgrid.numerics.layout import upper_bounds

    compared, layout, margin = evidence.trained, evidence.trained.layout, evidence.margin
    if layout is None or margin is None or layout.seeds < 2:
        return ()
    chosen: list[Cell] = []
    for better, other in comparisons(evidence):
        found, top, own = evidence.loss(better, other), evidence.trained.top(better), evidence.trained.top(other)
        if found is None or top is None or own is None:
            continue
        if found.high < margin or found.low > 0:
            cell = top if found.high < margin else own
            edge, inner = evidence.edge(cell), evidence.inner(cell)
            if edge is not None and edge.is_unsure and inner is not None:
                chosen += [top, own, cell, inner]
            continue
        first, second = compared.places(better), compared.places(other)
        weights = layout.in_sample(first, found.n).max(1)
        bounds = upper_bounds(layout, first, second, evidence.level)
        within = (weights >= _SERIOUS * weights.max()) | ((bounds >= margin) & layout.pool[first])
        within &= layout.counts[first] >= found.n
        chosen += [compared.cells[place] for place, each in zip(first, within, strict=True) if each]
        weights = layout.in_sample(second, found.n).max(1)
        within = (weights >= _SERIOUS * weights.max()) & (layout.counts[second] >= found.n)
        chosen += [own, *(compared.cells[place] for place, each in zip(second, within, strict=True) if each)]
    return tuple({(cell.learning_rate, cell.epsilon): cell for cell in chosen}.values())


def comparisons(evidence: Evidence) -> Sequence[tuple[Sequence[Cell], Sequence[Cell]]]:
    """Return the two sides of each comparison, those that may be better first."""
    narrowed, conventional = of_grid(NARROWED, evidence.cells), of_grid(CONVENTIONAL, evidence.cells)
    outside = [cell for cell in conventional if cell not in narrowed]
    sides = [(evidence.without(evidence.baseline), evidence.baseline)]
    return [*sides, (outside, narrowed)] if narrowed and outside else sides


def is_open(answers: Answers) -> bool:
    """Say whether more seeds can decide a question that is still open."""
    return any(answers.of(question).more_seeds for question in QUESTIONS)
