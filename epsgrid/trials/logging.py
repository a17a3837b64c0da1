"""Write a trial's curve to TensorBoard, MLflow or Weights & Biases as well, where the spec asks for it.

Only the store counts: an error of a tracker is noted in the trial's log, and the tracker is not used any more. A trial
that goes on after an interruption goes on in the same TensorBoard folder or run.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from epsgrid.observing import trackers
from epsgrid.spec.model import Log
from epsgrid.store.paths import ExperimentFolder
from epsgrid.store.records import EpochRecord, Scores, TrialResult

ID_TAG = "epsgrid.trial"

_T = TypeVar("_T")


class _Tracker(Protocol):
    """A tracker of one trial; any method may raise."""

    def epoch(self, row: Mapping[str, float], epoch: int) -> None: ...

    def end(self, row: Mapping[str, float], state: str) -> None: ...


class Trackers:
    """The trackers of one trial; none of their errors reaches it."""

    def __init__(
        self,
        log: Log,
        experiment: ExperimentFolder,
        trial: str,
        identity: Mapping[str, Any],
        warn: Callable[[str], None],
    ) -> None:
        self._log, self._experiment, self._warn = log, experiment, warn
        self._settings = {
            "trial": trial,
            **{name: identity[name] for name in ("learning_rate", "epsilon", "seed")},
            "optimizer": identity["optimizer"]["name"],
            "epochs": identity["training"]["epochs"],
        }
        self._open: dict[str, _Tracker] = {}

    def start(self, records: Sequence[EpochRecord]) -> None:
        """Open the trackers of a trial that has trained some epochs already, or none."""
        kinds: dict[str, Callable[..., _Tracker]] = {"tensorboard": _Tensorboard, "mlflow": _Mlflow, "wandb": _Wandb}
        for kind, make in kinds.items():
            if place := getattr(self._log, kind):
                made = self._guarded(kind, make, place, self._experiment, self._settings, len(records))
                if made is not None:
                    self._open[kind] = made

    def epoch(self, record: EpochRecord) -> None:
        """Write an epoch."""
        row = {"train/loss": record.train_loss, "learning_rate": record.learning_rate, "seconds": record.seconds}
        row = {name: value for name, value in row.items() if math.isfinite(value)} | _scores("", record)
        for kind, tracker in list(self._open.items()):
            self._guarded(kind, tracker.epoch, row, record.epoch)

    def end(self, state: str, result: TrialResult | None = None) -> None:
        """Write the trial's result, or that it was interrupted, and close the trackers."""
        row = {} if result is None else _scores("result/", result)
        for kind, tracker in list(self._open.items()):
            self._guarded(kind, tracker.end, row, state)
        self._open.clear()

    def _guarded(self, kind: str, call: Callable[..., _T], *arguments: Any) -> _T | None:
        try:
            return call(*arguments)
        except Exception as error:  # a tracker must never be what ends a trial
            self._open.pop(kind, None)
            self._warn(f"{kind}: {type(error).__name__}: {error}; this trial is not logged there any more")
            return None


class _Tensorboard:
    """A folder of event files for each trial."""

    def __init__(
        self, place: bool | str, experiment: ExperimentFolder, settings: Mapping[str, Any], epochs: int
    ) -> None:
        folder = Path(place) if isinstance(place, str) else experiment.root / "tensorboard"
        self._writer = trackers.open_tensorboard(folder / _name(settings), purge_step=epochs + 1 if epochs else None)
        if not epochs:
            self._writer.add_text("settings", "  \n".join(f"{name}: {value}" for name, value in settings.items()))

    def epoch(self, row: Mapping[str, float], epoch: int) -> None:
        for name, value in row.items():
            self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def end(self, row: Mapping[str, float], state: str) -> None:
        for name, value in row.items():
            self._writer.add_scalar(name, value)
        self._writer.close()


class _Mlflow:
    """A run for each trial, found again by its tag."""

    def __init__(
        self, place: bool | str, experiment: ExperimentFolder, settings: Mapping[str, Any], epochs: int
    ) -> None:
        self._client = trackers.mlflow_client(place if isinstance(place, str) else str(experiment.root / "mlflow"))
        group = trackers.mlflow_experiment(self._client, experiment.root.name)
        found = self._client.search_runs([group], f"tags.`{ID_TAG}` = '{settings['trial']}'")
        if found:
            self._run = found[0].info.run_id
            self._client.update_run(self._run, status="RUNNING")
        else:
            tags = {ID_TAG: settings["trial"]}
            self._run = self._client.create_run(group, run_name=_name(settings), tags=tags).info.run_id
            for name, value in settings.items():
                self._client.log_param(self._run, name, value)

    def epoch(self, row: Mapping[str, float], epoch: int) -> None:
        now = int(time.time() * 1000)
        for name, value in row.items():
            self._client.log_metric(self._run, trackers.metric_name(name), value, timestamp=now, step=epoch)

    def end(self, row: Mapping[str, float], state: str) -> None:
        for name, value in row.items():
            self._client.log_metric(self._run, trackers.metric_name(name), value)
        statuses = {"done": "FINISHED", "diverged": "FINISHED", "failed": "FAILED"}
        self._client.set_tag(self._run, "epsgrid.state", state)
        self._client.set_terminated(self._run, statuses.get(state, "KILLED"))


class _Wandb:
    """A run for each trial, of its id."""

    def __init__(self, mode: Any, experiment: ExperimentFolder, settings: Mapping[str, Any], epochs: int) -> None:
        root, trial = experiment.root, settings["trial"]
        self._run = trackers.open_wandb(root / "wandb", root.name, trial, _name(settings), dict(settings), mode)

    def epoch(self, row: Mapping[str, float], epoch: int) -> None:
        self._run.log({**row, "epoch": epoch}, step=epoch)

    def end(self, row: Mapping[str, float], state: str) -> None:
        self._run.summary.update({**row, "state": state})
        self._run.finish()


def _name(settings: Mapping[str, Any]) -> str:
    """Return a trial's name in a tracker: its settings, and enough of its id to tell it from others."""
    epsilon = "" if settings["epsilon"] is None else f"-eps{settings['epsilon']:g}"
    return f"lr{settings['learning_rate']:g}{epsilon}-seed{settings['seed']}-{settings['trial'][:6]}"


def _scores(prefix: str, record: EpochRecord | TrialResult) -> dict[str, float]:
    """Return the finite scores on each split by name."""
    splits: dict[str, Scores | None] = {"validation": record.validation, "test": record.test}
    found = {f"{prefix}{split}/loss": scores.loss for split, scores in splits.items() if scores is not None}
    found |= {f"{prefix}{split}/metric": scores.metric for split, scores in splits.items() if scores is not None}
    return {name: value for name, value in found.items() if math.isfinite(value)}
