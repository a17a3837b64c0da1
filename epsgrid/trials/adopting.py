"""Begin a longer trial where a shorter one, otherwise the same, was left or ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from epsgrid.errors import CorruptRecordError
from epsgrid.spec import trial_id
from epsgrid.spec.model import Training
from epsgrid.store.atomic import write_bytes
from epsgrid.store.paths import ExperimentFolder, TrialFolder
from epsgrid.trials.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from epsgrid.trials.extending import goes_on, longest_first


def adopt(
    experiment: ExperimentFolder,
    folder: TrialFolder,
    identity: Mapping[str, Any],
    earlier: Sequence[Mapping[str, Any]],
    note: Callable[[str], None],
) -> None:
    """Give a trial that has not begun the checkpoint of a shorter one, if there is any that it would pass through.

    The trial then ends bit for bit as if it had been trained from the first epoch on.

    Args:
        experiment: where both lie.
        folder: of the longer trial, whose lease is held.
        identity: of the longer trial.
        earlier: the trainings that trials of this experiment had before.
        note: told, in a line, from where the trial goes on, and of a checkpoint that could not be used.

    Raises:
        StoreError: the folder cannot be written.
    """
    if folder.checkpoint.exists():
        return
    training = Training.model_validate(identity["training"])
    for settings, shorter in longest_first(earlier, training):
        source = experiment.trial(trial_id({**identity, "training": settings}))
        try:
            found = load_checkpoint(source.checkpoint, source.id)
        except CorruptRecordError as error:
            note(f"{error}; it is not used")
            continue
        if found is not None and found.epoch and goes_on(shorter, training, found.epoch, found.step):
            _take_over(source, folder, found, averages=training.average_last > 0)
            note(f"goes on after epoch {found.epoch} of trial {source.id}, which is of {shorter.epochs} epochs")
            return


def _take_over(source: TrialFolder, folder: TrialFolder, found: Checkpoint, *, averages: bool) -> None:
    """Copy what was observed, then the checkpoint: with that the trial has begun."""
    if source.observations_jsonl.exists():
        write_bytes(folder.observations_jsonl, source.observations_jsonl.read_bytes())
    kept: dict[str, Any] = {"kept": {}, "kept_epochs": 0} if averages else {}
    save_checkpoint(folder.checkpoint, replace(found, trial=folder.id, **kept))
