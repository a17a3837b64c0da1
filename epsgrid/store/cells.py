"""All trials of an experiment: of its grids, of winners on fresh seeds, of other batch sizes, and of grids it had."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from epsgrid.spec.trial import Trial
from epsgrid.store.atomic import read_json, unseal
from epsgrid.store.paths import ExperimentFolder, TrialFolder
from epsgrid.store.records import BatchesRecord, ConfirmRecord, GridRecord


def asked_cells(folder: ExperimentFolder) -> tuple[Trial, ...]:
    """Return all trials, each once, those of the grids first; none where nothing was swept.

    A batch size with its rule counts as a grid, named as in "batch 256, sqrt"; so does a winner on fresh seeds, as in
    "narrowed, confirmed". A trial that is several has all names.

    Raises:
        CorruptRecordError: a record is damaged.
        StoreError: a newer epsgrid wrote one.
    """
    grids = GridRecord.read(folder.grid_json).cells if folder.grid_json.exists() else ()
    batches = batch_cells(BatchesRecord.read(folder.batches_json)) if folder.batches_json.exists() else ()
    fresh = confirm_cells(ConfirmRecord.read(folder.confirm_json)) if folder.confirm_json.exists() else ()
    return _merged((*grids, *fresh, *batches))


def stored_cells(folder: ExperimentFolder) -> tuple[Trial, ...]:
    """Return all trials that there are: those that are asked for, then those that no grid asks for any more, by id.

    A grid that was swept again, with another `sweep.default_epsilon` for one, leaves what was trained for the old one.

    Raises:
        CorruptRecordError: a record is damaged.
        StoreError: a newer epsgrid wrote one.
    """
    asked = asked_cells(folder)
    known = {cell.id for cell in asked}
    others = [trial for trial in folder.trials() if trial.id not in known and trial.spec_json.exists()]
    return (*asked, *map(_left_behind, others))


def _left_behind(trial: TrialFolder) -> Trial:
    identity = unseal(read_json(trial.spec_json), trial.spec_json)
    return Trial(trial.id, identity["learning_rate"], identity["epsilon"], identity["seed"])


def meant(ids: Sequence[str], name: str, *, least: int = 0) -> tuple[str, ...]:
    """Return the trials that a name means: the one that has it as its id, or all whose ids begin with it.

    >>> meant(["0a1f", "0a2e", "0a"], "0a"), meant(["0a1f", "0a2e"], "0a"), meant(["0a1f"], "0a", least=4)
    (('0a',), ('0a1f', '0a2e'), ())

    Args:
        ids: of all trials.
        name: what a user wrote.
        least: digits that a beginning must have, to be taken for one.
    """
    if name in ids:
        return (name,)
    return tuple(trial for trial in ids if len(name) >= least and trial.startswith(name))


def batch_cells(record: BatchesRecord) -> tuple[Trial, ...]:
    """Return the trials of a record of batch sizes, each once, as those of a grid."""
    return _merged(replace(cell, grids=(f"batch {cell.batch_size}, {cell.rule}",)) for cell in record.cells)


def confirm_cells(record: ConfirmRecord) -> tuple[Trial, ...]:
    """Return the trials of a record of winners on fresh seeds, as those of a grid."""
    return tuple(replace(cell, grids=tuple(f"{name}, confirmed" for name in cell.grids)) for cell in record.cells)


def _merged(cells: Iterable[Trial]) -> tuple[Trial, ...]:
    found: dict[str, Trial] = {}
    for cell in cells:
        known = found.setdefault(cell.id, cell)
        if known is not cell:
            found[cell.id] = replace(known, grids=tuple(dict.fromkeys((*known.grids, *cell.grids))))
    return tuple(found.values())
