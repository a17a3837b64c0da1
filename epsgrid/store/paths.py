"""Where everything of an experiment lies on disk; every path of the store is made here and nowhere else.

Layout::

    runs/NAME/                    ExperimentFolder
      experiment.json             what was asked
      bounds.json                 what the probe measured
      observations.jsonl          what was observed over the probe's steps: a header, then one line per snapshot
      grid.json                   which trials belong to which grid
      batch_bounds.json           at which batch sizes bounds were measured as well
      probes/                     what was measured there: batch-SIZE-seed-SEED.json, each as bounds.json
      batches.json                which trials carry a setting to which batch size by which rule
      confirm.json                which trials train the winners on fresh seeds
      report/                     pages and figures, made from the rest at any time
      slurm/N/                    a job array: its script, which trial each task trains, what the tasks printed
      trials/ID/                  TrialFolder
        spec.json                   all that can change the trial's numbers, and its id
        metrics.jsonl               one line per finished epoch, appended
        observations.jsonl          what was observed over training, where the spec asks for it; appended
        checkpoint.pt               where training goes on after an interruption
        result.json                 present when the trial has finished, done or diverged
        failure.json                present when the last attempt failed
        prune.json                  that it is to end early, has, or is not to be asked to, see `epsgrid.store.pruning`
        log.txt                     what the trial printed
        lease/                      who is at work on it, see `epsgrid.store.lease`
      aside/ID-N/                 trials that were asked for anew: what they were before
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path


@dataclass(frozen=True)
class TrialFolder:
    """The folder of one trial; nothing is created by looking at its paths."""

    path: Path

    @property
    def id(self) -> str:
        """The trial's id: the folder's name."""
        return self.path.name

    @property
    def experiment(self) -> ExperimentFolder:
        """The folder of the experiment that the trial is part of."""
        return ExperimentFolder(self.path.parent.parent)

    @property
    def spec_json(self) -> Path:
        """All that can change the trial's numbers."""
        return self.path / "spec.json"

    @property
    def metrics_jsonl(self) -> Path:
        """One `EpochRecord` per line."""
        return self.path / "metrics.jsonl"

    @property
    def observations_jsonl(self) -> Path:
        """The gradient magnitudes over training, see `epsgrid.store.observations`."""
        return self.path / "observations.jsonl"

    @property
    def checkpoint(self) -> Path:
        """Where training goes on after an interruption."""
        return self.path / "checkpoint.pt"

    @property
    def result_json(self) -> Path:
        """The `TrialResult`; present means finished."""
        return self.path / "result.json"

    @property
    def failure_json(self) -> Path:
        """The `TrialFailure` of the last attempt."""
        return self.path / "failure.json"

    @property
    def prune_json(self) -> Path:
        """The `Pruning`; present where the trial was asked to end early."""
        return self.path / "prune.json"

    @property
    def log(self) -> Path:
        """What the trial printed."""
        return self.path / "log.txt"

    @property
    def lease(self) -> Path:
        """The folder that says who is at work on this trial."""
        return self.path / "lease"


@dataclass(frozen=True)
class ExperimentFolder:
    """The folder of one experiment; nothing is created by looking at its paths."""

    root: Path

    @property
    def experiment_json(self) -> Path:
        """The `ExperimentRecord`."""
        return self.root / "experiment.json"

    @property
    def bounds_json(self) -> Path:
        """The `ProbeRecord`."""
        return self.root / "bounds.json"

    @property
    def observations_jsonl(self) -> Path:
        """The gradient magnitudes over the probe's steps, see `epsgrid.store.observations`."""
        return self.root / "observations.jsonl"

    @property
    def grid_json(self) -> Path:
        """The `GridRecord`."""
        return self.root / "grid.json"

    @property
    def batch_bounds_json(self) -> Path:
        """The `BatchBoundsRecord`."""
        return self.root / "batch_bounds.json"

    def batch_probe(self, batch_size: int, seed: int) -> Path:
        """Return where the `ProbeRecord` of a batch size and a seed lies."""
        return self.root / "probes" / f"batch-{batch_size}-seed-{seed}.json"

    @property
    def batches_json(self) -> Path:
        """The `BatchesRecord`."""
        return self.root / "batches.json"

    @property
    def confirm_json(self) -> Path:
        """The `ConfirmRecord`."""
        return self.root / "confirm.json"

    @property
    def report_dir(self) -> Path:
        """The report's pages and figures."""
        return self.root / "report"

    @property
    def slurm_dir(self) -> Path:
        """The folder of the job arrays' folders, see `epsgrid.executors.slurm`."""
        return self.root / "slurm"

    @cached_property
    def trials_dir(self) -> Path:
        """The folder of the trials' folders; kept, for it is asked for thousands of trials."""
        return self.root / "trials"

    @property
    def aside_dir(self) -> Path:
        """The folder of trials that were set aside to be trained anew."""
        return self.root / "aside"

    def trial(self, trial_id: str) -> TrialFolder:
        """Return the folder of a trial, whether or not it exists yet."""
        return TrialFolder(self.trials_dir / trial_id)

    def trials(self) -> tuple[TrialFolder, ...]:
        """Return the folders of all trials that have one, by id; empty when there is none."""
        if not self.trials_dir.is_dir():
            return ()
        return tuple(TrialFolder(path) for path in sorted(self.trials_dir.iterdir()) if path.is_dir())
