"""Train one grid point from its initial weights, or from where it was left, to its result."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from epsgrid import optimizers
from epsgrid.errors import CorruptRecordError
from epsgrid.observing.restoring import generator_states, restore_generators
from epsgrid.observing.trackers import Trackers
from epsgrid.spec.model import Spec
from epsgrid.spec.trial import Trial
from epsgrid.store.atomic import compact_json, write_text
from epsgrid.store.paths import TrialFolder
from epsgrid.store.records import EpochRecord, Scores, TrialResult, append_epoch
from epsgrid.tasks import Metric, Split, Task
from epsgrid.trials import svag
from epsgrid.trials.building import build_model
from epsgrid.trials.checkpoint import Checkpoint, is_kept, load_checkpoint, save_checkpoint, tensor_bytes
from epsgrid.trials.device import lay_out_state
from epsgrid.trials.keeping import KeptWeights
from epsgrid.trials.observations import Observations
from epsgrid.trials.schedule import learning_rate_at
from epsgrid.trials.seeding import seed_epoch
from epsgrid.trials.step import take_step

STEPS_BETWEEN_CHECKS = 25
"""A loss that is no longer finite is noticed within this many steps; asking every step would stall a GPU."""


class Interrupted(Exception):  # noqa: N818 - not an error: the trial was asked to stop and has saved itself
    """The trial was asked to stop, has saved a checkpoint, and will go on from there."""


class Pruned(Exception):  # noqa: N818 - not an error: the trial fell behind and was asked to end
    """The trial was asked to end early; its checkpoint is of `epochs` whole epochs."""

    def __init__(self, epochs: int) -> None:
        super().__init__(f"pruned after epoch {epochs}")
        self.epochs = epochs


_LEFT: dict[type[BaseException], str] = {Interrupted: "interrupted", Pruned: "pruned"}


class _Diverged(Exception):  # noqa: N818 - a result, not an error
    """A loss is no longer finite; the message says which and when."""


def run_trial(
    spec: Spec,
    trial: Trial,
    task: Task,
    folder: TrialFolder,
    device: torch.device,
    *,
    should_stop: Callable[[], bool],
    provenance: Mapping[str, Any],
    warn: Callable[[str], None],
    should_prune: Callable[[], bool] = lambda: False,
) -> TrialResult:
    """Train to the end and return the result; everything else is in the trial's folder.

    Args:
        spec: the experiment's spec.
        trial: which grid point.
        task: the spec's task, bound to its data on `device`.
        folder: where metrics and checkpoints go.
        device: where to train.
        should_stop: asked before every step; True saves a checkpoint and raises `Interrupted`.
        provenance: what to store about where the trial ran.
        warn: told, in a line, of a checkpoint that could not be used.
        should_prune: asked after every epoch but the last; True raises `Pruned`, the checkpoint being saved.

    Returns:
        The result: `done`, or `diverged` where a loss stopped being finite.

    Raises:
        Interrupted: `should_stop` said so; the checkpoint is saved.
        Pruned: `should_prune` said so.
        StoreError: the folder cannot be written.
    """
    run = _Run(spec, trial, task, folder, device)
    run.resume(warn)
    for caveat in run.caveats:
        warn(f"note: {caveat}")
    run.trackers = Trackers(spec.execution.log, folder.experiment, trial.id, trial.identity, warn)
    run.trackers.start(run.records)
    try:
        result = _result(trial, run, _reason(run, should_stop, should_prune), provenance)
    except BaseException as left:
        run.trackers.end(_LEFT.get(type(left), "failed"))
        raise
    run.trackers.end(result.state, result)
    return result


def _reason(run: _Run, should_stop: Callable[[], bool], should_prune: Callable[[], bool]) -> str | None:
    """Train to the end; return why it diverged, None where it did not."""
    try:
        run.train(should_stop, should_prune)
    except _Diverged as diverged:
        return str(diverged)
    return None


class _Run:
    """The moving parts of a trial: model, optimizer, the place in the run, and the epochs done."""

    def __init__(self, spec: Spec, trial: Trial, task: Task, folder: TrialFolder, device: torch.device) -> None:
        steps = svag.settings(spec, trial.learning_rate, trial.epsilon)
        self.spec, self.trial, self.task, self.folder, self.device = steps.spec, trial, task, folder, device
        self.model = build_model(spec, task, trial.seed, device)
        plugin = optimizers.load(spec.optimizer.name)
        parameters, options = self.model.parameters(), self.spec.optimizer
        self.optimizer = plugin.build(parameters, options, steps.learning_rate, steps.epsilon)
        self.observations = Observations(self.spec, folder, self.model, self.optimizer)
        self.epoch = self.step = self.steps = 0
        self.epoch_steps = 1
        self.rate = self.highest_rate = steps.learning_rate
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        self.records: list[EpochRecord] = []
        self.kept = KeptWeights()
        self.trackers: Trackers | None = None
        self.caveats = list(svag.caveats(self.model, spec.training))
        self._seconds_before = 0.0
        self._clock = time.perf_counter()
        self._epoch_clock = self._clock

    @property
    def seconds(self) -> float:
        return self._seconds_before + time.perf_counter() - self._clock

    def resume(self, warn: Callable[[str], None]) -> None:
        """Go to where the checkpoint stands; a damaged one is told and the trial starts over."""
        try:
            checkpoint = load_checkpoint(self.folder.checkpoint, self.trial.id)
        except CorruptRecordError as error:
            warn(f"{error}; starting this trial over")
            checkpoint = None
        if checkpoint is not None:
            self._load(checkpoint)
        _rewrite_metrics(self.folder, self.records)
        self.observations.start(self.steps, warn)

    def _load(self, checkpoint: Checkpoint) -> None:
        self.model.load_state_dict(checkpoint.model)
        self.optimizer.load_state_dict(checkpoint.optimizer)
        lay_out_state(self.optimizer)
        self.epoch, self.step, self.steps = checkpoint.epoch, checkpoint.step, checkpoint.steps
        self.loss_sum = checkpoint.loss_sum.to(self.device)
        self.records = [EpochRecord.from_json(record, self.folder.checkpoint) for record in checkpoint.records]
        kept = {name: value.to(self.device) for name, value in checkpoint.kept.items()}
        self.kept = KeptWeights(kept, checkpoint.kept_epochs)
        self._seconds_before = checkpoint.seconds
        restore_generators(checkpoint.generators, self.device)

    def save(self) -> None:
        """Save a checkpoint of this very moment."""
        checkpoint = Checkpoint(
            trial=self.trial.id,
            epoch=self.epoch,
            step=self.step,
            steps=self.steps,
            loss_sum=self.loss_sum,
            model=self.model.state_dict(),
            optimizer=self.optimizer.state_dict(),
            kept=self.kept.total,
            kept_epochs=self.kept.epochs,
            generators=generator_states(self.device),
            records=[record.to_json() for record in self.records],
            seconds=self.seconds,
        )
        save_checkpoint(self.folder.checkpoint, checkpoint)

    def train(self, should_stop: Callable[[], bool], should_prune: Callable[[], bool]) -> None:
        """Train the epochs that are left."""
        training = self.spec.training
        while self.epoch < training.epochs:
            if self.epoch and not self.step and should_prune():
                raise Pruned(self.epoch)
            self._epoch_clock = time.perf_counter()
            self._start_epoch()
            self.epoch_steps = svag.steps_in_epoch(self.task, training, self.trial.seed, self.epoch)
            for batch in self._batches(should_stop):
                self._step(batch)
            self._end_epoch()

    def _start_epoch(self) -> None:
        if self.step == 0:
            seed_epoch(self.trial.seed, self.epoch)
            self.task.begin_epoch(self.model, self.spec.training.batch_size)
        self.model.train()

    def _learning_rate(self) -> float:
        training = self.spec.training
        return learning_rate_at(self.highest_rate, training.schedule, self.epoch, training.epochs, self.steps)

    def _batches(self, should_stop: Callable[[], bool]) -> Iterator[Any]:
        for batch in svag.batches(self.task, self.spec.training, self.trial.seed, self.epoch, self.step):
            if should_stop():
                self.save()
                raise Interrupted(f"stopped in epoch {self.epoch + 1} after {self.step} steps")
            yield batch

    def _step(self, batch: Any) -> None:
        self.rate = self._learning_rate()
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * svag.learning_rate_scale(self.task, batch)
        self.loss_sum += take_step(self.task, self.model, self.optimizer, batch, self.spec.training)
        self.step += 1
        self.steps += 1
        self.observations.after_step(self.steps, self.epoch + self.step / self.epoch_steps)
        if self.step % STEPS_BETWEEN_CHECKS == 0:
            self._check(float(self.loss_sum))

    def _check(self, loss_sum: float) -> None:
        if not math.isfinite(loss_sum):
            raise _Diverged(f"training loss no longer finite in epoch {self.epoch + 1} by step {self.step}")

    def _end_epoch(self) -> None:
        loss_sum = float(self.loss_sum)
        self._check(loss_sum)
        record = self._evaluate(loss_sum / self.step)
        self._keep(record)
        self.records.append(record)
        append_epoch(self.folder.metrics_jsonl, record)
        if self.trackers is not None:
            self.trackers.epoch(record)
        self.epoch, self.step = self.epoch + 1, 0
        self.observations.after_epoch(self.epoch)
        self.loss_sum = torch.zeros_like(self.loss_sum)
        if record.selecting is None or not math.isfinite(record.selecting.loss):
            raise _Diverged(f"{self.spec.training.selection} loss no longer finite after epoch {self.epoch}")
        if self.epoch < self.spec.training.epochs or self._keeps_last():
            self.save()

    def _keeps_last(self) -> bool:
        """Say whether the state after the last epoch is kept, from which a longer trial can go on."""
        size = tensor_bytes([self.model.state_dict(), self.optimizer.state_dict(), self.kept.total])
        return is_kept(self.spec.execution.keep_checkpoints, size)

    def _evaluate(self, train_loss: float) -> EpochRecord:
        """Score the epoch on the split that selects; the test split is left alone unless it is that one."""
        selection = self.spec.training.selection
        scores = self.scores(selection)
        validation, test = (scores, None) if selection == "validation" else (None, scores)
        seconds = time.perf_counter() - self._epoch_clock
        direction = self.task.metric.direction
        return EpochRecord(self.epoch + 1, train_loss, validation, test, self.rate, seconds, direction)

    def _keep(self, record: EpochRecord) -> None:
        """Set the epoch's weights aside if they may be the ones that are scored in the end."""
        training = self.spec.training
        if training.average_last:
            if self.epoch >= training.epochs - training.average_last:
                self.kept.add(self.model)
        elif training.selection == "validation":
            best = best_epoch(self.records, self.task.metric)
            if best is None or _key(record.selecting, self.task.metric) > _key(best.selecting, self.task.metric):
                self.kept.replace(self.model)

    def scores(self, split: Split) -> Scores:
        """Score the model as it is on a whole split."""
        self.model.eval()
        with torch.inference_mode():
            scores = dict(self.task.evaluate(self.model, split))
        return Scores(scores.pop("loss"), scores.pop(self.task.metric.name), scores)


def best_epoch(records: Sequence[EpochRecord], metric: Metric) -> EpochRecord | None:
    """Return the epoch with the best score on the split that selects, the earliest of equals; None without epochs."""
    return max(records, key=lambda record: _key(record.selecting, metric), default=None)


def _key(scores: Scores | None, metric: Metric) -> float:
    """Return a number that is larger for better scores; those of a diverged model are worst."""
    if scores is None or not (math.isfinite(scores.loss) and math.isfinite(scores.metric)):
        return -math.inf
    return scores.metric if metric.direction == "max" else -scores.metric


@dataclass(frozen=True)
class _Selected:
    """What a trial is judged by in the end."""

    epoch: int | None = None
    validation: Scores | None = None
    test: Scores | None = None


def _select(run: _Run, *, diverged: bool) -> _Selected:
    """Score the test split, once, with the weights of the best epoch or the mean of the last ones."""
    best = best_epoch(run.records, run.task.metric)
    if best is None:
        return _Selected()
    on_validation = run.spec.training.selection == "validation"
    if diverged or not run.kept.epochs:
        return _Selected(best.epoch, best.validation, best.test)
    run.kept.load_into(run.model)
    if not run.spec.training.average_last:
        return _Selected(best.epoch, best.validation, run.scores("test"))
    return _Selected(None, run.scores("validation") if on_validation else None, run.scores("test"))


def _result(trial: Trial, run: _Run, reason: str | None, provenance: Mapping[str, Any]) -> TrialResult:
    metric = run.task.metric
    selected = _select(run, diverged=reason is not None)
    return TrialResult(
        id=trial.id,
        state="done" if reason is None else "diverged",
        identity=dict(trial.identity),
        metric_name=metric.name,
        metric_direction=metric.direction,
        metric_unit=metric.unit,
        epochs_trained=run.epoch,
        selected_epoch=selected.epoch,
        validation=selected.validation,
        test=selected.test,
        steps=run.steps,
        seconds=run.seconds,
        device=str(run.device),
        reason=reason,
        provenance={**provenance, "scoring": dict(run.task.notes), **({"svag": run.caveats} if run.caveats else {})},
    )


def _rewrite_metrics(folder: TrialFolder, records: Sequence[EpochRecord]) -> None:
    """Make metrics.jsonl say what the checkpoint says: a kill may have come between the two."""
    write_text(folder.metrics_jsonl, "".join(f"{compact_json(record.to_json())}\n" for record in records))
