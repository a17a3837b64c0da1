"""Read what the questions are answered from: the settings of the grids, and the contenders with their fresh seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from epsgrid.numerics.statistics import LEVEL
from epsgrid.selection.answers import Evidence
from epsgrid.selection.cells import Cell, read_cells, read_metric
from epsgrid.selection.load import StoredExperiment, of_trials
from epsgrid.spec.trial import Trial
from epsgrid.store.cells import code_of
from epsgrid.store.state import FINISHED, trial_state


def evidence(stored: StoredExperiment, estimates: Sequence[tuple[str, float]] = ()) -> Evidence:
    """Return what the questions of an experiment are answered from.

    `estimates` are names and decades of point estimates of ε, to compare with them.

    Raises:
        CorruptRecordError, StoreError: trials are judged by different metrics, or a record cannot be read.
    """
    fresh, record = counted(stored), stored.confirm
    contenders: tuple[Cell, ...] = ()
    if fresh and stored.grid is not None:
        settings = {(cell.grid_rate, cell.epsilon) for cell in fresh}
        own = (cell for cell in stored.grid.cells if (cell.grid_rate, cell.epsilon) in settings)
        both = replace(stored.grid, cells=(*own, *(replace(cell, grids=()) for cell in fresh)))
        contenders = read_cells(of_trials(stored, both), stored.bounds)
    return Evidence(
        cells=read_cells(stored, stored.bounds),
        metric=read_metric(stored),
        default_epsilon=stored.grid.default_epsilon if stored.grid else 1e-8,
        margin_asked=stored.experiment.spec.get("report", {}).get("margin"),
        contenders=contenders,
        level=LEVEL if record is None else record.level,
        is_exhausted=record is not None and len({cell.seed for cell in fresh}) == max(record.looks, default=-1),
        bounds=stored.bounds,
        placement=stored.probe.placement if stored.probe else None,
        estimates=estimates,
    )


def counted(stored: StoredExperiment) -> tuple[Trial, ...]:
    """Return the trials on fresh seeds that count: those up to the last look for which all of them have ended.

    Trials between two looks do not count yet, whoever looks. Trials of settings that no grid holds any more, and of
    seeds that a grid has used since, do not count at all, nor does one of other code of the user's than the grid's.
    """
    record, grid = stored.confirm, stored.grid
    if record is None or grid is None or not record.cells or not grid.cells:
        return ()
    if code_of(stored.folder.trial(record.cells[0].id)) != code_of(stored.folder.trial(grid.cells[0].id)):
        return ()
    settings = {(cell.grid_rate, cell.learning_rate, cell.epsilon) for cell in grid.cells}
    used = {cell.seed for cell in grid.cells}
    by_seed: dict[int, list[Trial]] = {}
    for cell in record.cells:
        if cell.seed not in used and (cell.grid_rate, cell.learning_rate, cell.epsilon) in settings:
            by_seed.setdefault(cell.seed, []).append(cell)
    ended = {
        seed
        for seed, cells in by_seed.items()
        if all(trial_state(stored.folder.trial(cell.id)) in FINISHED for cell in cells)
    }
    reached = [look for look in record.looks if ended.issuperset(record.seeds[:look])]
    seeds = record.seeds[: max(reached, default=0)] if record.looks else record.seeds
    return tuple(cell for seed in seeds if seed in ended for cell in by_seed[seed])
