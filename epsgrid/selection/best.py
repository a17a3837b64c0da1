"""The best setting of each grid and at the default ε: what it scores, and what the grid costs.

The default ε is looked up among the settings of the grids. It still chooses its learning rate.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from epsgrid.grids import CONVENTIONAL, DEFAULT, NARROWED
from epsgrid.numerics.statistics import Interval, mean_interval
from epsgrid.selection.cells import Cell, Choice, Spread, Tally, at_epsilon, best, of_grid, spread_of, tally
from epsgrid.selection.formatting import Metric
from epsgrid.selection.load import StoredExperiment
from epsgrid.store.records import Scores


@dataclass(frozen=True)
class _OtherRow:
    """A score kept beside the metric, on the split that selects and the test split, over the done seeds of a cell."""

    name: str
    selecting: Spread | None
    test: Spread | None


@dataclass(frozen=True)
class CostRow:
    """What it costs to choose a setting in one way, as if that were the only one.

    Attributes:
        device_seconds: of training, summed over its trials with a result: the time devices were busy.
        wall_seconds: how long at least one of them was training, however many ran at once; None where not known.
        probe_seconds: of the probe that it needs; 0 where it needs none, None where it was not measured.
        saved_trials: those of the conventional grid − these; None where that was not swept.
        saved_seconds: device seconds of the conventional grid − these − the probe's; None where a trial has no result.
    """

    trials: int
    device_seconds: float
    wall_seconds: float | None
    probe_seconds: float | None
    saved_trials: int | None
    saved_seconds: float | None


@dataclass(frozen=True)
class BestRow:
    """The best setting of a grid or at the default ε, the interval of its mean test metric, and what the grid costs."""

    name: str
    choice: Choice
    others: tuple[_OtherRow, ...]
    interval: Interval | None
    cost: CostRow
    label: str


def grid_names(stored: StoredExperiment, cells: Sequence[Cell]) -> tuple[str, ...]:
    """Return the names of all grids: those that were planned, in their order, then any others that cells name."""
    planned = stored.grid.epsilons if stored.grid else ()
    return tuple(dict.fromkeys([*planned, *(name for cell in cells for name in cell.grids)]))


def best_rows(stored: StoredExperiment, cells: Sequence[Cell], metric: Metric | None) -> tuple[BestRow, ...]:
    """Return the best setting of each grid that has settings, and of the default ε."""
    conventional = of_grid(CONVENTIONAL, cells)
    whole = tally_cells(conventional) if conventional else None
    searches = [(name, of_grid(name, cells)) for name in grid_names(stored, cells) if name != DEFAULT]
    if stored.grid is not None and (at_default := at_epsilon(stored.grid.default_epsilon, cells)):
        searches.append((DEFAULT, at_default))
    rows = []
    for name, own in searches:
        choice = best(own, metric)
        is_list = name == NARROWED and stored.is_listed
        needs_probe = name == NARROWED and not is_list
        probe = (stored.probe.cost_seconds if stored.probe else None) if needs_probe else 0.0
        spent, saved = tally_cells(own), None
        if whole is not None and whole.complete and spent.complete and probe is not None:
            saved = whole.seconds - spent.seconds - probe
        cost = CostRow(
            trials=spent.trials,
            device_seconds=spent.seconds,
            wall_seconds=spent.wall_seconds,
            probe_seconds=probe,
            saved_trials=None if whole is None else whole.trials - spent.trials,
            saved_seconds=saved,
        )
        scores = list(choice.cell.test_by_seed().values()) if choice.cell else []
        rows.append(
            BestRow(
                name=name,
                choice=choice,
                others=_others(stored, choice.cell),
                interval=mean_interval(scores) if scores else None,
                cost=cost,
                label="default ε" if name == DEFAULT else "your list" if is_list else name,
            )
        )
    return tuple(rows)


def _others(stored: StoredExperiment, cell: Cell | None) -> tuple[_OtherRow, ...]:
    """Return what else the trials of a cell were scored by, over its done seeds."""
    done = [stored.results[trial.id] for trial in cell.trials if trial.state == "done"] if cell else []
    names = dict.fromkeys(name for result in done for name in _other_scores(result.selecting))
    return tuple(
        _OtherRow(
            name,
            spread_of(_other_scores(result.selecting).get(name) for result in done),
            spread_of(_other_scores(result.test).get(name) for result in done),
        )
        for name in names
    )


def _other_scores(scores: Scores | None) -> dict[str, float]:
    return {name: value for name, value in scores.others.items() if math.isfinite(value)} if scores else {}


def tally_cells(cells: Iterable[Cell]) -> Tally:
    """Tally the trials of some cells."""
    return tally(trial for cell in cells for trial in cell.trials)
