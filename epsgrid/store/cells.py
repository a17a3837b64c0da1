"""The trials of an experiment: those of its grids, fresh seeds and batch sizes, and those of earlier grids."""

from __future__ import annotations

import itertools
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from epsgrid.errors import StoreError
from epsgrid.spec.trial import Trial
from epsgrid.store.atomic import make_folder, read_json, store_errors, unseal
from epsgrid.store.lease import Lease, is_held
from epsgrid.store.paths import ExperimentFolder, TrialFolder
from epsgrid.store.records import BatchesRecord, ConfirmRecord, GridRecord


def asked_cells(folder: ExperimentFolder) -> tuple[Trial, ...]:
    """Return all trials, each once, those of the grids first; none where nothing was swept.

    A batch size with its rule counts as a grid, named as in "batch 256, sqrt"; so does a contender on fresh seeds, as
    in "narrowed, fresh seeds". A trial that is several has all names. Raises CorruptRecordError where a record is
    damaged, StoreError where a newer epsgrid wrote one.
    """

    def cells(record: GridRecord | ConfirmRecord | BatchesRecord | None) -> tuple[Trial, ...]:
        return record.cells if record else ()

    contenders, scaled = cells(ConfirmRecord.find(folder.confirm_json)), cells(BatchesRecord.find(folder.batches_json))
    fresh = (replace(cell, grids=tuple(f"{name}, fresh seeds" for name in cell.grids)) for cell in contenders)
    batches = (replace(cell, grids=(f"batch {cell.batch_size}, {cell.rule}",)) for cell in scaled)
    found: dict[str, Trial] = {}
    for cell in (*cells(GridRecord.find(folder.grid_json)), *fresh, *batches):
        known = found.setdefault(cell.id, cell)
        if known is not cell:
            found[cell.id] = replace(known, grids=tuple(dict.fromkeys((*known.grids, *cell.grids))))
    return tuple(found.values())


def stored_cells(folder: ExperimentFolder) -> tuple[Trial, ...]:
    """Return the trials that are asked for, then by id those that have a folder and are not asked for any more.

    A sweep of another grid, such as one with another `sweep.default_epsilon`, leaves the trials of the old grid. Raises
    as `asked_cells`.
    """
    asked = asked_cells(folder)
    known = {cell.id for cell in asked}

    def read(trial: TrialFolder) -> Trial:
        identity = stored_identity(trial)
        return Trial(trial.id, identity["learning_rate"], identity["epsilon"], identity["seed"])

    return (*asked, *(read(trial) for trial in folder.trials() if trial.id not in known and trial.spec_json.exists()))


def stored_identity(trial: TrialFolder) -> dict[str, Any]:
    """Return all that can change a trial's numbers, as it was planned; empty where nothing is stored of it."""
    return unseal(read_json(trial.spec_json), trial.spec_json) if trial.spec_json.exists() else {}


def code_of(trial: TrialFolder) -> tuple[Any, ...]:
    """Return the code of the user's that a trial was planned with, and the parameters of its model, to compare them."""
    identity = stored_identity(trial)
    return identity.get("code"), identity.get("parameters")


def archive(experiment: ExperimentFolder, trial_id: str) -> Path:
    """Move a trial's folder out of the way, whole, so that it is trained again; nothing is deleted.

    Returns its new place: `archive/ID-1`, or the next number that is free. Raises StoreError where there is no such
    trial, a process trains it, or the folder cannot be written.
    """
    folder = experiment.trial(trial_id)
    if not folder.path.is_dir():
        raise StoreError(f"{folder.path}: no such trial")
    lease = Lease.take(folder.lease)
    if lease is None:
        raise _being_trained(trial_id)
    try:
        make_folder(experiment.archive_dir)
        places = (experiment.archive_dir / f"{trial_id}-{number}" for number in itertools.count(1))
        target = next(place for place in places if not place.exists())
        with store_errors("archive a trial", folder.path):
            folder.path.rename(target)
    finally:
        lease.release()
    return target


def contents(experiment: ExperimentFolder) -> tuple[Path, ...]:
    """Return what an experiment has stored in its folder but its archive, and nothing that others may keep there."""
    records = (experiment.experiment_json, experiment.bounds_json, experiment.grid_json, experiment.batch_bounds_json)
    more = (experiment.predicted_json, experiment.batches_json, experiment.confirm_json, experiment.observations_jsonl)
    folders = (experiment.probes_dir, experiment.trials_dir, experiment.report_dir, experiment.slurm_dir)
    return tuple(path for path in (*records, *more, *folders) if path.exists())


def remove_contents(experiment: ExperimentFolder) -> None:
    """Remove the `contents` of a folder; a StoreError, and nothing is removed, where a process trains a trial there."""
    if running := [trial.id for trial in experiment.trials() if is_held(trial.lease)]:
        raise _being_trained(running[0])
    for trial in experiment.trials():
        lease = Lease.take(trial.lease)
        if lease is None:
            raise _being_trained(trial.id)
        with store_errors("remove", trial.path):
            shutil.rmtree(trial.path)
        lease.release()
    for path in contents(experiment):
        with store_errors("remove", path):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _being_trained(trial: str) -> StoreError:
    return StoreError(f"trial {trial} is being trained; stop its sweep first, or wait until it has ended")
