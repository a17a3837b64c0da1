"""Train chosen trials again: those that failed go on where they were, others are set aside and start over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from epsgrid.errors import StoreError
from epsgrid.executors import StopRequest
from epsgrid.grids._plan import Plan
from epsgrid.plugins import nearest
from epsgrid.stages import batch_sweep, confirm
from epsgrid.stages.experiment import Asked, enter, prepare_data
from epsgrid.stages.running import SweepEvent, SweepSummary, train_planned
from epsgrid.stages.sweep import plan_sweep, swept
from epsgrid.store.cells import archive, asked_cells, meant
from epsgrid.store.paths import ExperimentFolder
from epsgrid.store.pruning import unprune
from epsgrid.store.state import trial_state

BY_STATE = ("failed", "diverged", "pruned", "interrupted")
"""The states by which trials can be named together."""

_LEAST_PREFIX = 4


def chosen(folder: ExperimentFolder, names: Sequence[str]) -> tuple[str, ...]:
    """Return the ids of the trials that are meant.

    Args:
        folder: the experiment's folder.
        names: each a state of `BY_STATE`, which means all trials in it, or a trial's id, or at least four digits with
            which only one id begins.

    Raises:
        StoreError: nothing was swept here, or a name means no trial or several.
    """
    ids = [cell.id for cell in asked_cells(folder)]
    if not ids:
        raise StoreError(f"{folder.root}: nothing was swept here yet; `epsgrid sweep` does it")
    states = {trial: trial_state(folder.trial(trial)) for trial in ids} if set(names) & set(BY_STATE) else {}
    found = []
    for name in names:
        found += [trial for trial, state in states.items() if state == name] if name in BY_STATE else [_one(ids, name)]
    return tuple(dict.fromkeys(found))


def _one(ids: Sequence[str], name: str) -> str:
    fitting = meant(ids, name, least=_LEAST_PREFIX)
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise StoreError(f"{name!r} is the beginning of several trials: {', '.join(fitting)}; give more digits")
    close = nearest(name, (*BY_STATE, *ids))
    hint = f"; did you mean {close!r}?" if close else f"; expected {', '.join(BY_STATE)} or a trial's id"
    raise StoreError(f"no trial {name!r} here{hint} `epsgrid status --trials` lists all ids")


def set_all_aside(folder: ExperimentFolder, ids: Sequence[str]) -> tuple[Path, ...]:
    """Move the trials' folders to `archive/`, those that have one; return where they lie now.

    Raises:
        StoreError: somebody is at work on one of them; those before it have been moved.
    """
    return tuple(archive(folder, trial) for trial in ids if folder.trial(trial).path.is_dir())


def start_over(folder: ExperimentFolder, ids: Sequence[str]) -> tuple[Path, ...]:
    """Set aside those of some trials that have a result; the others go on from where they were, to their end."""
    for trial in ids:
        unprune(folder.trial(trial))
    finished = [trial for trial in ids if folder.trial(trial).result_json.exists()]
    return set_all_aside(folder, finished)


def train_again(
    asked: Asked,
    ids: Sequence[str],
    *,
    workers: int | None,
    notify: Callable[[SweepEvent], None],
    stop: StopRequest,
) -> SweepSummary:
    """Train chosen trials and no others; arguments and result as of `sweep`.

    They may be of the grids, of winners on fresh seeds, and of other batch sizes.

    Raises:
        StoreError, DataError: as `sweep`.
    """
    enter(asked, prepare_data(asked.spec))
    of_grids = plan_sweep(asked, swept(asked.folder), workers).plan.trials if asked.folder.grid_json.exists() else ()
    elsewhere = (*batch_sweep.planned_again(asked), *confirm.planned_again(asked))
    trials = {trial.id: trial for trial in (*elsewhere, *of_grids) if trial.id in ids}
    chosen = Plan({}, tuple(trials[trial] for trial in ids if trial in trials))
    return train_planned(asked, chosen, workers=workers, fail_fast=False, notify=notify, stop=stop)
