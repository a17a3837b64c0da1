"""Set a trial aside, so that it is trained anew: what was stored is moved, never deleted."""

from __future__ import annotations

import itertools
from pathlib import Path

from epsgrid.errors import StoreError
from epsgrid.store.atomic import make_folder, store_errors
from epsgrid.store.lease import Lease
from epsgrid.store.paths import ExperimentFolder


def set_aside(experiment: ExperimentFolder, trial_id: str) -> Path:
    """Move a trial's folder out of the way, whole.

    Args:
        experiment: the experiment's folder.
        trial_id: of a trial that has a folder.

    Returns:
        Where everything that was stored of it lies now: `aside/ID-1`, or the next number that is free.

    Raises:
        StoreError: there is no such trial, somebody is at work on it, or the folder cannot be written.
    """
    folder = experiment.trial(trial_id)
    if not folder.path.is_dir():
        raise StoreError(f"{folder.path}: no such trial")
    lease = Lease.take(folder.lease)
    if lease is None:
        raise StoreError(f"trial {trial_id} is being trained; stop its sweep first, or wait until it has ended")
    try:
        make_folder(experiment.aside_dir)
        places = (experiment.aside_dir / f"{trial_id}-{number}" for number in itertools.count(1))
        target = next(place for place in places if not place.exists())
        with store_errors("set a trial aside", folder.path):
            folder.path.rename(target)
    finally:
        lease.release()
    return target
