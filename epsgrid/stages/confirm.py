"""Train the winners of a sweep on fresh seeds, so that none is crowned for the luck of the seeds that chose it.

The winners are the best cells of the grids and of the default ε as the stored results have them. Fresh seeds are
counted from 10,000 on, and none is taken that a grid has used or the spec asks for. Asked again for more seeds, only
the new ones are trained.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from epsgrid.errors import StoreError
from epsgrid.executors import StopRequest
from epsgrid.grids._plan import Plan
from epsgrid.selection.best import BestRow, best_rows
from epsgrid.selection.cells import DEFAULT, Cell, read_cells, read_metric
from epsgrid.selection.formatting import count
from epsgrid.selection.load import StoredExperiment, load_experiment
from epsgrid.spec.trial import Trial, trial_identity
from epsgrid.stages.experiment import Asked, enter, prepare_data
from epsgrid.stages.running import SweepEvent, SweepPlan, SweepSummary, train_planned, with_states
from epsgrid.store.records import ConfirmRecord

FIRST_FRESH_SEED = 10_000


@dataclass(frozen=True)
class ConfirmPlan:
    """What a confirmation trains.

    Attributes:
        plan: its trials; those of each winner as if they were a grid.
        record: the same as it is stored.
        notes: what to tell, a sentence each.
    """

    plan: Plan
    record: ConfirmRecord
    notes: tuple[str, ...]


def plan_confirm(asked: Asked, seeds: int) -> ConfirmPlan:
    """Return what `confirm` trains, without writing anything or importing torch.

    Args:
        asked: the spec and its folder.
        seeds: how many fresh seeds, ≥ 1.

    Raises:
        StoreError: nothing was swept, or no cell can be chosen yet.
        DataError: the data are missing or damaged.
    """
    stored = load_experiment(asked.folder)
    cells = read_cells(stored)
    rows = [row for row in best_rows(stored, cells, read_metric(stored)) if row.is_grid or row.name == DEFAULT]
    winners = _winners(rows)
    used = sorted({trial.seed for cell in cells for trial in cell.trials})
    fresh = _fresh(seeds, {*used, *asked.spec.sweep.seeds})
    planned = _plan(asked, winners, fresh)
    chosen = {row.name: row.choice for row in rows if row.name in _names(winners)}
    record = ConfirmRecord(
        optimizer=asked.spec.optimizer.name,
        seeds=fresh,
        cells=planned.trials,
        selection=stored.experiment.spec["training"]["selection"],
        selection_seeds=tuple(used),
        chosen_from={name: choice.candidates for name, choice in chosen.items()},
        grid_checksum=_checksum(stored),
    )
    notes = [f"{', '.join(names)}: {cell.words}" for cell, names in winners.values()]
    notes += [
        f"{choice.incomplete} of {count(choice.candidates, 'cell')} of {name} lack trials, so that another may win yet"
        for name, choice in chosen.items()
        if choice.incomplete
    ]
    return ConfirmPlan(planned, record, tuple(notes))


def with_trial_states(asked: Asked, planned: ConfirmPlan, workers: int | None) -> SweepPlan:
    """Return a plan with the states of its trials, for a dry run."""
    return replace(with_states(planned.plan, asked, workers), unknown=planned.notes)


def confirm(
    asked: Asked,
    planned: ConfirmPlan,
    *,
    workers: int | None,
    fail_fast: bool,
    notify: Callable[[SweepEvent], None],
    stop: StopRequest,
) -> SweepSummary:
    """Train the trials of a plan that have no result yet; arguments, result and errors as of `sweep`.

    None of them is pruned: they are too few to fall behind.
    """
    enter(asked, prepare_data(asked.spec))
    planned.record.write(asked.folder.confirm_json)
    return train_planned(
        asked.with_sweep(prune=None), planned.plan, workers=workers, fail_fast=fail_fast, notify=notify, stop=stop
    )


def planned_again(asked: Asked) -> tuple[Trial, ...]:
    """Return the trials that were planned here for winners on fresh seeds; none where there are none."""
    if not asked.folder.confirm_json.exists():
        return ()
    cells = ConfirmRecord.read(asked.folder.confirm_json).cells
    checksum = prepare_data(asked.spec).checksum
    return tuple(
        Trial.of(
            trial_identity(asked.spec, checksum, cell.learning_rate, cell.epsilon, cell.seed),
            cell.grids,
            cell.grid_rate,
        )
        for cell in cells
    )


_Winners = Mapping[tuple[float, float | None], tuple[Cell, tuple[str, ...]]]


def _winners(rows: Sequence[BestRow]) -> _Winners:
    """Return the chosen cells by their place, each with the names of what chose it."""
    found: dict[tuple[float, float | None], tuple[Cell, tuple[str, ...]]] = {}
    for row in rows:
        if (cell := row.choice.cell) is not None:
            place = (cell.learning_rate, cell.epsilon)
            found[place] = (cell, (*found.get(place, (cell, ()))[1], row.name))
    if not found:
        raise StoreError(f"--confirm: there is no winner to train on fresh seeds: {_why_none(rows)}")
    return found


def _why_none(rows: Sequence[BestRow]) -> str:
    reasons = dict.fromkeys(f"{row.words}: {row.choice.unknown}" for row in rows)
    return "; ".join(reasons) or "nothing was swept here yet; `epsgrid sweep` does it"


def _names(winners: _Winners) -> list[str]:
    return [name for _, names in winners.values() for name in names]


def _fresh(seeds: int, taken: set[int]) -> tuple[int, ...]:
    free = (seed for seed in itertools.count(FIRST_FRESH_SEED) if seed not in taken)
    return tuple(itertools.islice(free, seeds))


def _plan(asked: Asked, winners: _Winners, seeds: tuple[int, ...]) -> Plan:
    checksum = prepare_data(asked.spec).checksum
    trials = [_trial(asked, checksum, cell, names, seed) for seed in seeds for cell, names in winners.values()]
    epsilons = {
        name: () if cell.epsilon is None else (cell.epsilon,) for cell, names in winners.values() for name in names
    }
    return Plan(epsilons, tuple(trials))


def _trial(asked: Asked, checksum: str, cell: Cell, names: tuple[str, ...], seed: int) -> Trial:
    settings = trial_identity(asked.spec, checksum, cell.trained_rate, cell.epsilon, seed)
    return Trial.of(settings, names, cell.learning_rate)


def _checksum(stored: StoredExperiment) -> str:
    assert stored.grid is not None, "a cell was chosen from it"
    return stored.grid.checksum
