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
        self._warn = warn
        settings = _settings(trial, identity)
        self._made: dict[str, Callable[[int], _Tracker]] = {}
        if log.tensorboard:
            folder = _place(log.tensorboard, experiment.root / "tensorboard") / _name(settings)
            self._made["tensorboard"] = lambda epochs: _Tensorboard(folder, settings, epochs)
        if log.mlflow:
            where = log.mlflow if isinstance(log.mlflow, str) else str(experiment.root / "mlflow")
            self._made["mlflow"] = lambda epochs: _Mlflow(where, experiment.root.name, settings)
        if log.wandb:
            mode = log.wandb
            self._made["wandb"] = lambda epochs: _Wandb(experiment, settings, mode)
        self._open: dict[str, _Tracker] = {}

    def start(self, records: Sequence[EpochRecord]) -> None:
        """Open the trackers of a trial that has trained some epochs already, or none."""
        for name, make in self._made.items():
            made = self._guarded(name, make, len(records))
            if made is not None:
                self._open[name] = made

    def epoch(self, record: EpochRecord) -> None:
        """Write an epoch."""
        row = _row(record)
        for name, tracker in list(self._open.items()):
            self._guarded(name, tracker.epoch, row, record.epoch)

    def end(self, state: str, result: TrialResult | None = None) -> None:
        """Write the trial's result, or that it was interrupted, and close the trackers."""
        row = _result_row(result) if result is not None else {}
        for name, tracker in list(self._open.items()):
            self._guarded(name, tracker.end, row, state)
        self._open.clear()

    def _guarded(self, name: str, call: Callable[..., _T], *arguments: Any) -> _T | None:
        try:
            return call(*arguments)
        except Exception as error:  # a tracker must never be what ends a trial
            self._open.pop(name, None)
            self._warn(f"{name}: {type(error).__name__}: {error}; this trial is not logged there any more")
            return None


class _Tensorboard:
    """A folder of event files for each trial."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], epochs: int) -> None:
        self._writer = trackers.open_tensorboard(folder, purge_step=epochs + 1 if epochs else None)
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

    def __init__(self, where: str, experiment: str, settings: Mapping[str, Any]) -> None:
        self._client = trackers.mlflow_client(where)
        place = trackers.mlflow_experiment(self._client, experiment)
        found = self._client.search_runs([place], f"tags.`{ID_TAG}` = '{settings['trial']}'")
        if found:
            self._run = found[0].info.run_id
            self._client.update_run(self._run, status="RUNNING")
        else:
            tags = {ID_TAG: settings["trial"]}
            self._run = self._client.create_run(place, run_name=_name(settings), tags=tags).info.run_id
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

    def __init__(self, experiment: ExperimentFolder, settings: Mapping[str, Any], mode: Any) -> None:
        root = experiment.root
        trial = settings["trial"]
        self._run = trackers.open_wandb(root / "wandb", root.name, trial, _name(settings), dict(settings), mode)

    def epoch(self, row: Mapping[str, float], epoch: int) -> None:
        self._run.log({**row, "epoch": epoch}, step=epoch)

    def end(self, row: Mapping[str, float], state: str) -> None:
        self._run.summary.update({**row, "state": state})
        self._run.finish()


def _place(asked: bool | str, default: Path) -> Path:
    return Path(asked) if isinstance(asked, str) else default


def _settings(trial: str, identity: Mapping[str, Any]) -> dict[str, Any]:
    chosen = {name: identity[name] for name in ("learning_rate", "epsilon", "seed")}
    return {
        "trial": trial,
        **chosen,
        "optimizer": identity["optimizer"]["name"],
        "epochs": identity["training"]["epochs"],
    }


def _name(settings: Mapping[str, Any]) -> str:
    """Return a trial's name in a tracker: its settings, and enough of its id to tell it from others."""
    epsilon = "" if settings["epsilon"] is None else f"-eps{settings['epsilon']:g}"
    return f"lr{settings['learning_rate']:g}{epsilon}-seed{settings['seed']}-{settings['trial'][:6]}"


def _row(record: EpochRecord) -> dict[str, float]:
    row = {"train/loss": record.train_loss, "learning_rate": record.learning_rate, "seconds": record.seconds}
    row |= _scores("validation", record.validation) | _scores("test", record.test)
    return {name: value for name, value in row.items() if math.isfinite(value)}


def _result_row(result: TrialResult) -> dict[str, float]:
    row = _scores("result/validation", result.validation) | _scores("result/test", result.test)
    return {name: value for name, value in row.items() if math.isfinite(value)}


def _scores(split: str, scores: Scores | None) -> dict[str, float]:
    return {} if scores is None else {f"{split}/loss": scores.loss, f"{split}/metric": scores.metric}
