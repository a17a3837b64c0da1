"""The numbers of the map of learning rates and ε: what was scored where, and where training diverged.

`draw_map` draws them.
"""

from __future__ import annotations

from dataclasses import dataclass

from epsgrid.report.rows import Comparison
from epsgrid.selection.cells import Cell, Spread
from epsgrid.selection.formatting import Metric
from epsgrid.selection.load import StoredExperiment


@dataclass(frozen=True)
class MapCell:
    """One learning rate and ε.

    Attributes:
        learning_rate: of the grid.
        epsilon: the optimizer's own.
        score: of the done seeds, on the split that selects; None where none is done.
        seeds: seeds asked for.
        done: seeds with a score.
        diverged: seeds that diverged.
        best_of: the grids, or "default", that chose this cell.
    """

    learning_rate: float
    epsilon: float
    score: Spread | None
    seeds: int
    done: int
    diverged: int
    best_of: tuple[str, ...]

    @property
    def all_diverged(self) -> bool:
        """Whether no seed trained and none is still to come."""
        return self.diverged == self.seeds


@dataclass(frozen=True)
class MapNumbers:
    """Everything the map shows.

    Attributes:
        rates: learning rates, rising; at least two.
        epsilons: swept ε, rising; at least two.
        cells: those with a result, in the order of the grids.
        metric: what the scores are.
        selection: the split that selects.
        band: first and last decade of the bounds; None without bounds.
        default_epsilon: the ε without a search.
        optimizer: its name.
    """

    rates: tuple[float, ...]
    epsilons: tuple[float, ...]
    cells: tuple[MapCell, ...]
    metric: Metric
    selection: str
    band: tuple[float, float] | None
    default_epsilon: float
    optimizer: str


def map_numbers(stored: StoredExperiment, comparison: Comparison) -> MapNumbers | None:
    """Return the numbers of the map; None without results, or with one learning rate or one ε alone."""
    planned = [cell for cell in comparison.cells if cell.epsilon is not None]
    rates = sorted({cell.learning_rate for cell in planned})
    epsilons = sorted({cell.epsilon for cell in planned if cell.epsilon is not None})
    cells = tuple(_cell(cell, comparison) for cell in planned if cell.tally.done or cell.tally.diverged)
    if comparison.metric is None or stored.grid is None or not cells or len(rates) < 2 or len(epsilons) < 2:
        return None
    bounds = comparison.bounds
    return MapNumbers(
        rates=tuple(rates),
        epsilons=tuple(epsilons),
        cells=cells,
        metric=comparison.metric,
        selection=comparison.selection,
        band=(bounds.low.decade, bounds.high.decade) if bounds else None,
        default_epsilon=stored.grid.default_epsilon,
        optimizer=comparison.optimizer,
    )


def _cell(cell: Cell, comparison: Comparison) -> MapCell:
    assert cell.epsilon is not None
    chosen_by = tuple(row.name for row in comparison.best if row.choice.cell is cell)
    tally = cell.tally
    return MapCell(cell.learning_rate, cell.epsilon, cell.score, tally.trials, tally.done, tally.diverged, chosen_by)
