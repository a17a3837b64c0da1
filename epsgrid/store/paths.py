"""The paths of an experiment on disk, and the one that was used last; every path of the store is made here.

Layout::

    runs/latest                   the path of the experiment that commands without an argument mean
    runs/NAME/                    ExperimentFolder
      experiment.json             what was asked
      bounds.json                 what the probe measured
      observations.jsonl          what was observed over the probe's steps: a header, then one line per snapshot
      grid.json                   which trials belong to which grid
      batch_bounds.json           at which batch sizes bounds were measured as well
      predicted.json              the last prediction from bounds at several values of keys of the spec, as bounds.json
      probes/                     what was measured at other values: KEY-VALUE-seed-SEED.json, each as bounds.json (a
                                  batch size is batch-VALUE), and KEY.json: at which
      batches.json                which trials carry a setting to which batch size by which rule
      confirm.json                which trials train contenders on fresh seeds, and when to look
      report/                     pages and figures, made from the rest at any time
      slurm/N/                    a job array: its script, which trial each task trains, what the tasks printed
      trials/ID/                  TrialFolder
        spec.json                   all that can change the trial's numbers, and its id
        metrics.jsonl               one line per finished epoch, appended
        observations.jsonl          what was observed over training, where the spec asks for it; appended
        checkpoint.pt               the state from which training goes on after an interruption
        result.json                 present when the trial has finished, done or diverged
        failure.json                present when the last attempt failed
        prune.json                  present when the trial was asked to end early, see `epsgrid.store.pruning`
        log.txt                     what the trial printed
        lease/                      who trains it, see `epsgrid.store.lease`
        work/                       files of a training of the user's own, as checkpoints
      trials/trained              present when a trial of a cluster has a result
      archive/ID-N/               trials that were trained again: what they were before
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from epsgrid.errors import StoreError
from epsgrid.spec import BATCH_SIZE
from epsgrid.store.atomic import store_errors, write_bytes


class _Inside:
    """The path of a file or folder inside a folder; nothing is created by looking at it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, folder: TrialFolder | ExperimentFolder, owner: object) -> Path:
        return (folder.path if isinstance(folder, TrialFolder) else folder.root) / self._name


@dataclass(frozen=True)
class TrialFolder:
    """The folder of one trial; the files are described above."""

    path: Path

    spec_json = _Inside("spec.json")
    metrics_jsonl = _Inside("metrics.jsonl")
    observations_jsonl = _Inside("observations.jsonl")
    checkpoint = _Inside("checkpoint.pt")
    result_json = _Inside("result.json")
    failure_json = _Inside("failure.json")
    prune_json = _Inside("prune.json")
    log = _Inside("log.txt")
    lease = _Inside("lease")
    work = _Inside("work")

    @property
    def id(self) -> str:
        """The trial's id: the folder's name."""
        return self.path.name

    @property
    def has_work(self) -> bool:
        """Whether a training of the user's own has left files here."""
        return self.work.is_dir() and any(self.work.iterdir())

    @property
    def experiment(self) -> ExperimentFolder:
        """The folder of the experiment that the trial is part of."""
        return ExperimentFolder(self.path.parent.parent)


@dataclass(frozen=True)
class ExperimentFolder:
    """The folder of one experiment; the files are described above."""

    root: Path

    experiment_json = _Inside("experiment.json")
    bounds_json = _Inside("bounds.json")
    observations_jsonl = _Inside("observations.jsonl")
    grid_json = _Inside("grid.json")
    batch_bounds_json = _Inside("batch_bounds.json")
    predicted_json = _Inside("predicted.json")
    batches_json = _Inside("batches.json")
    confirm_json = _Inside("confirm.json")
    probes_dir = _Inside("probes")
    report_dir = _Inside("report")
    slurm_dir = _Inside("slurm")
    archive_dir = _Inside("archive")
    trained = _Inside("trials/trained")

    @cached_property
    def trials_dir(self) -> Path:
        """The folder of the trials' folders; cached, for it is needed for thousands of trials."""
        return self.root / "trials"

    def varied(self, keys: Collection[str]) -> Path:
        """Return the path of the `VariedRecord` of some keys."""
        return self.batch_bounds_json if [*keys] == [BATCH_SIZE] else self.probes_dir / f"{'+'.join(keys)}.json"

    def varied_probe(self, values: Mapping[str, str], seed: int) -> Path:
        """Return the path of the `ProbeRecord` at some values of keys, as they are written, and a seed.

        Batch sizes are written as in earlier versions.
        """
        parts = [f"{'batch' if key == BATCH_SIZE else key}-{value}" for key, value in values.items()]
        return self.probes_dir / f"{'-'.join(parts)}-seed-{seed}.json"

    def trial(self, trial_id: str) -> TrialFolder:
        """Return the folder of a trial, whether or not it exists yet."""
        return TrialFolder(self.trials_dir / trial_id)

    def trials(self) -> tuple[TrialFolder, ...]:
        """Return the folders of all trials that have one, by id; empty when there is none."""
        if not self.trials_dir.is_dir():
            return ()
        return tuple(TrialFolder(path) for path in sorted(self.trials_dir.iterdir()) if path.is_dir())


def remember(folder: Path, runs_root: Path) -> None:
    """Make `folder` the latest experiment of `runs_root`; StoreError where that cannot be written.

    The file `latest` holds its path: relative when it lies inside `runs_root`, so that the whole can be moved.
    """
    pointer, folder, root = runs_root / "latest", folder.absolute(), runs_root.absolute()
    inside = folder.relative_to(root) if folder.is_relative_to(root) else folder
    write_bytes(pointer, os.fsencode(f"{inside}\n"))


def latest(runs_root: Path) -> Path:
    """Return the folder of the latest experiment of `runs_root`, absolute; StoreError where there is none."""
    pointer = runs_root / "latest"
    if not pointer.is_file():
        raise StoreError(f"no experiment in {runs_root} yet: run `epsgrid probe SPEC` or `epsgrid sweep SPEC` first")
    with store_errors("read", pointer):
        folder = runs_root.absolute() / os.fsdecode(pointer.read_bytes()).removesuffix("\n")
    if not folder.is_dir():
        raise StoreError(
            f"the latest experiment, {folder}, is gone; name a folder, or start one with `epsgrid probe SPEC`"
        )
    return folder
