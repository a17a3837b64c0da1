"""Train fresh seeds until the questions are decided: which settings, when to look, and what looking often costs.

After the grids, only the contenders are trained, on seeds that no grid has used: the settings that may still turn an
open answer. Results are looked at after the grids and after each block of fresh seeds, and the sweep ends at the first
look at which nothing is open. Whoever looks several times is wrong more often; so each look is taken at a higher level
(Pocock, Biometrika 64, 1977), such that all looks together are wrong as often as a single one would be.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import lru_cache

from epsgrid.numerics.statistics import LEVEL
from epsgrid.selection.answers import OPEN, Answers, Evidence, edge_sentence
from epsgrid.selection.cells import CONVENTIONAL, NARROWED, Cell, of_grid

QUESTIONS = ("default", "narrowing")
"""Those that fresh seeds are trained for."""
MAX_FRESH_SEEDS = 12
_BLOCK = 4
_SERIOUS = 0.1
"""In-sample weight, relative to the best, from which on a setting is a contender."""


def looks(max_fresh: int, first: int = 0) -> tuple[int, ...]:
    """Return after how many fresh seeds results are looked at.

    >>> looks(12), looks(6), looks(12, first=2), looks(1, first=2)
    ((0, 4, 8, 12), (0, 4, 6), (2, 6, 10, 12), (2,))

    Args:
        max_fresh: number of fresh seeds at most, ≥ 1.
        first: number of fresh seeds that there are already; 0 is a look at the grids alone.
    """
    return (*range(first, max_fresh, _BLOCK), max(first, max_fresh))


@lru_cache(maxsize=64)
def level_of(seeds: tuple[int, ...]) -> float:
    """Return the level of each look such that all looks together hold with the probability `LEVEL`.

    >>> level_of((3,)), level_of((3, 7, 11, 15))
    (0.95, 0.9796)

    Args:
        seeds: number of seeds at each look, rising.

    Returns:
        Pocock's constant for one-sided bounds of sums of independent seeds, as a probability with four digits.
    """
    import numpy as np
    from scipy.optimize import brentq
    from scipy.special import ndtr

    if len(seeds) == 1:
        return LEVEL
    grid = np.linspace(-8, 8, 801)
    step = grid[1] - grid[0]

    def missed(bound: float) -> float:
        """Return the probability that a look exceeds the bound, by recursion over the density of the running mean."""
        density = np.exp(-(grid**2) / 2) / np.sqrt(2 * np.pi) * (grid <= bound)
        for before, now in itertools.pairwise(seeds):
            keep = np.sqrt(before / now)
            spread = np.sqrt(1 - keep**2)
            kernel = np.exp(-(((grid[:, None] - keep * grid[None, :]) / spread) ** 2) / 2) / (
                spread * np.sqrt(2 * np.pi)
            )
            density = (kernel @ density) * step * (grid <= bound)
        return float(1 - density.sum() * step)

    bound = brentq(lambda value: missed(value) - (1 - LEVEL), 1.5, 3.5, xtol=1e-4)
    return round(float(ndtr(bound)), 4)


def contenders(evidence: Evidence) -> tuple[Cell, ...]:
    """Return the settings whose fresh seeds can decide what is open: default against the best, narrowed against others.

    Of each side of a comparison these are the best setting, and of the side that may be better all that are close to
    its best.
    """
    layout = evidence.grid.layout
    if layout is None:
        return ()
    chosen: dict[tuple[float, float | None], Cell] = {}
    for better, other in undecided(evidence):
        first, second = evidence.grid.places(better), evidence.grid.places(other)
        if not first or not second:
            continue
        weights = layout.in_sample(first)[:, 0]
        serious = [place for place, weight in zip(first, weights, strict=True) if weight >= _SERIOUS * weights.max()]
        best = max(second, key=lambda place: layout.selecting[place].mean())
        for place in (*serious, best):
            cell = evidence.grid.cells[place]
            chosen[cell.learning_rate, cell.epsilon] = cell
    return tuple(chosen.values())


def undecided(evidence: Evidence) -> Sequence[tuple[Sequence[Cell], Sequence[Cell]]]:
    """Return the two sides of each comparison that more seeds can decide: those that may be better first.

    Where a best learning rate is at an edge of those tried, they cannot.
    """
    narrowed, conventional = of_grid(NARROWED, evidence.cells), of_grid(CONVENTIONAL, evidence.cells)
    outside = [cell for cell in conventional if cell not in narrowed]
    sides = [(evidence.without(evidence.baseline), evidence.baseline)]
    if narrowed and outside:
        sides.append((outside, narrowed))
    found = []
    for better, other in sides:
        loss, tops = evidence.loss(better, other), (evidence.top(better), evidence.top(other))
        if loss is None or evidence.margin is None or loss.high < evidence.margin or loss.low > 0:
            continue
        if not edge_sentence([cell for cell in tops if cell is not None], evidence.cells):
            found.append((better, other))
    return found


def is_open(answers: Answers) -> bool:
    """Say whether a question that fresh seeds are trained for is open."""
    return any(answers.of(question).answer == OPEN for question in QUESTIONS)
