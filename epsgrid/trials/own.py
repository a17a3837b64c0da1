"""Run a training of the user's own, a function or a command, as a trial: see `epsgrid.tasks._own`.

What it reports of its epochs is stored as that of any trial. Its own files lie in `work`, a folder of the trial, where
a trial that was interrupted finds them again; what it makes of them is its own affair.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from epsgrid import tasks
from epsgrid.errors import CorruptRecordError
from epsgrid.observing.trackers import Trackers
from epsgrid.spec.model import Spec
from epsgrid.spec.trial import Trial, model_label
from epsgrid.store.atomic import make_folder, write_text
from epsgrid.store.paths import TrialFolder
from epsgrid.store.records import EpochRecord, Scores, TrialResult, append_epoch, read_epochs
from epsgrid.streams import open_log
from epsgrid.tasks import Metric
from epsgrid.tasks._own import FunctionTrial, is_diverged, scores_of
from epsgrid.trials.train import Interrupted, Pruned, state_left


def run_own(
    spec: Spec,
    trial: Trial,
    folder: TrialFolder,
    device: str,
    *,
    should_stop: Callable[[], bool],
    provenance: Mapping[str, Any],
    warn: Callable[[str], None],
    should_prune: Callable[[], bool],
) -> TrialResult:
    """Train to the end and return the result, `done` or `diverged`; arguments and errors as of `run_trial`.

    Raises SpecError where what the training returned is no score.
    """
    plugin: Any = tasks.load(spec.task.name)
    metric, epochs = plugin.metric(spec.task), spec.training.epochs
    if folder.has_work:
        warn(f"begun before: the training finds in {folder.work} what it left there")
    make_folder(folder.work)
    trackers = Trackers(spec.execution.log, folder.experiment, trial.id, trial.identity, warn)
    curve = _Curve(trial, folder, metric, trackers, warn)

    def check() -> None:
        if should_stop():
            raise Interrupted(f"stopped{f' after epoch {reported}' if (reported := len(curve.records)) else ''}")

    def report(score: float, epoch: int | None) -> None:
        curve.add(score, epoch)
        check()
        if len(curve.records) < epochs and should_prune():
            raise Pruned(len(curve.records))

    trackers.start(curve.records)
    try:
        with open_log(folder.log) as log:
            setting = trial.learning_rate, trial.epsilon, trial.seed
            told = FunctionTrial(*setting, epochs, len(curve.records), folder.work, log, check, report)
            if should_prune() and len(curve.records) < epochs:
                raise Pruned(len(curve.records))
            check()
            returned = plugin.train(spec.task, told)
        validation, test = scores = scores_of(returned, model_label(spec.model_dump()))
        diverged = is_diverged(scores)
        result = TrialResult(
            id=trial.id,
            state="diverged" if diverged else "done",
            identity=dict(trial.identity),
            metric_name=metric.name,
            metric_direction=metric.direction,
            metric_unit=metric.unit,
            epochs_trained=len(curve.records),
            selected_epoch=None,
            validation=_scores(validation),
            test=None if test is None else _scores(test),
            steps=0,
            seconds=curve.seconds,
            device=device,
            reason=f"{metric.name} is {validation if not math.isfinite(validation) else test}" if diverged else None,
            provenance=dict(provenance),
        )
    except BaseException as left:
        trackers.end(state_left(left))
        raise
    trackers.end(result.state, result)
    return result


def _scores(score: float) -> Scores:
    """Return a score as one that no loss is known beside."""
    return Scores(math.nan, score)


class _Curve:
    """The epochs that a training has reported, with those before an interruption."""

    def __init__(
        self, trial: Trial, folder: TrialFolder, metric: Metric, trackers: Trackers, warn: Callable[[str], None]
    ) -> None:
        self._trial, self._path, self._metric = trial, folder.metrics_jsonl, metric
        self._trackers, self._warn = trackers, warn
        self._next, self._clock = 0, time.perf_counter()
        self._start = self._clock
        try:
            self.records = list(read_epochs(self._path))
        except CorruptRecordError as error:
            warn(f"{error}; starting these epochs over")
            self.records = []
            write_text(self._path, "")
        self._seconds_before = math.fsum(record.seconds for record in self.records)

    @property
    def seconds(self) -> float:
        """Wall seconds of training, with those of the epochs that were reported before an interruption."""
        return self._seconds_before + time.perf_counter() - self._start

    def add(self, score: float, epoch: int | None) -> None:
        """Store the score of an epoch, counted from 0; see `FunctionTrial.report`."""
        place = self._next if epoch is None else int(epoch)
        if place < len(self.records):
            self.records = self.records[: max(place, 0)]
            write_text(self._path, "".join(f"{record.to_line()}\n" for record in self.records))
        if place > len(self.records):
            self._warn(f"epochs {len(self.records) + 1} to {place} were not reported; their scores are not known")
        while len(self.records) < place:
            self._append(math.nan, 0.0)
        now = time.perf_counter()
        self._append(score, now - self._clock)
        self._next, self._clock = place + 1, now

    def _append(self, score: float, seconds: float) -> None:
        rate, direction = self._trial.learning_rate, self._metric.direction
        record = EpochRecord(len(self.records) + 1, math.nan, _scores(score), None, rate, seconds, direction)
        self.records.append(record)
        append_epoch(self._path, record)
        self._trackers.epoch(record)
