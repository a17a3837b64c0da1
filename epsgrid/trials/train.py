"""Train one grid point from its initial weights, or from where it was left, to its result."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from epsgrid.errors import CorruptRecordError, SpecError, StoreError
from epsgrid.observing.restoring import generator_states, restore_generators
from epsgrid.observing.trackers import Trackers
from epsgrid.spec.model import Spec, Training
from epsgrid.spec.trial import Trial
from epsgrid.store.atomic import write_text
from epsgrid.store.paths import TrialFolder
from epsgrid.store.records import EpochRecord, Scores, TrialResult, append_epoch
from epsgrid.tasks import Metric, Split, Task
from epsgrid.trials import svag
from epsgrid.trials.building import build_model, build_optimizer, parameters_of, seed_epoch, set_learning_rate
from epsgrid.trials.checkpoint import Checkpoint, KeptWeights, load_checkpoint, save_checkpoint
from epsgrid.trials.device import lay_out_state
from epsgrid.trials.observations import Observations
from epsgrid.trials.schedule import learning_rates

_STEPS_BETWEEN_CHECKS = 25
"""A loss that is no longer finite is noticed within this many steps; asking every step would stall a GPU."""


class Interrupted(Exception):  # noqa: N818 - not an error: the trial was asked to stop and has saved itself
    """The trial was asked to stop, has saved a checkpoint, and will go on from there."""


class Pruned(Exception):  # noqa: N818 - not an error: the trial fell behind and was asked to end
    """The trial was asked to end early; its checkpoint is of `epochs` whole epochs."""

    def __init__(self, epochs: int) -> None:
        super().__init__(f"pruned after epoch {epochs}")
        self.epochs = epochs


def state_left(left: BaseException) -> str:
    """Return the state, for trackers, of a trial that an exception has ended."""
    states: dict[type[BaseException], str] = {Interrupted: "interrupted", Pruned: "pruned"}
    return states.get(type(left), "failed")


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
    """Train to the end and return the result, `done` or `diverged`; everything else is in the trial's folder.

    Args:
        spec: the experiment's spec.
        trial: which grid point.
        task: the spec's task, bound to its data on `device`.
        folder: where metrics and checkpoints go.
        device: where to train.
        should_stop: asked before every step; True saves a checkpoint and raises `Interrupted`.
        provenance: what to store about where the trial ran.
        warn: called with a line about a checkpoint that cannot be used or written, or what SVAG cannot treat.
        should_prune: asked after every epoch but the last; True raises `Pruned`, the checkpoint being saved.

    Raises:
        Interrupted, Pruned: it was asked to stop.
        StoreError: the folder cannot be written.
    """
    run = _Run(spec, trial, task, folder, device)
    run.resume(warn)
    for caveat in run.caveats:
        warn(f"note: {caveat}")
    run.trackers = Trackers(spec.execution.log, folder.experiment, trial.id, trial.identity, warn)
    run.trackers.start(run.records)
    try:
        try:
            while run.epoch < run.spec.training.epochs:
                if run.epoch and not run.step and should_prune():
                    raise Pruned(run.epoch)
                run.train_epoch(should_stop)
                if run.epoch < run.spec.training.epochs:
                    try:
                        run.save()
                    except StoreError as error:  # the one before is intact
                        warn(f"{error}; training goes on without this checkpoint")
            reason = None
        except _Diverged as diverged:
            reason = str(diverged)
        result = _result(trial, run, reason, provenance)
    except BaseException as left:
        run.trackers.end(state_left(left))
        raise
    run.trackers.end(result.state, result)
    return result


class _Run:
    """The moving parts of a trial: model, optimizer, the place in the run, and the epochs done."""

    def __init__(self, spec: Spec, trial: Trial, task: Task, folder: TrialFolder, device: torch.device) -> None:
        self.spec, rate, epsilon = svag.settings(spec, trial.learning_rate, trial.epsilon)
        self.trial, self.task, self.folder, self.device = trial, task, folder, device
        self.model = build_model(spec, task, trial.seed, device)
        planned = trial.identity.get("parameters", "")
        if planned and planned != (found := parameters_of(self.model)):
            raise SpecError(f"model {spec.model_name} has {found} here, and this trial was planned with {planned}")
        self.optimizer = build_optimizer(self.spec, self.model, rate, epsilon)
        self.observations = Observations(self.spec, folder, self.model, self.optimizer)
        self.epoch = self.step = self.steps = 0
        self.highest_rate = rate
        self.steps_in = partial(svag.steps_in_epoch, task, spec.training, trial.seed)
        self.rates: Iterator[float] = iter(())
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        self.records: list[EpochRecord] = []
        self.kept = KeptWeights()
        self.trackers: Trackers | None = None
        self.caveats = list(svag.caveats(self.model, spec.training))
        self._seconds_before = 0.0
        self._clock = time.perf_counter()

    @property
    def seconds(self) -> float:
        return self._seconds_before + time.perf_counter() - self._clock

    def resume(self, warn: Callable[[str], None]) -> None:
        """Go to where the checkpoint stands; where it is damaged, warn and start the trial over."""
        try:
            checkpoint = load_checkpoint(self.folder.checkpoint, self.trial.id)
        except CorruptRecordError as error:
            warn(f"{error}; starting this trial over")
            checkpoint = None
        if checkpoint is not None:
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
        training = self.spec.training
        rates = learning_rates(training.schedule, self.highest_rate, training.epochs, self.steps_in)
        self.rates = itertools.islice(rates, self.steps, None)
        # A kill may have come between the writing of metrics and checkpoint: the checkpoint counts.
        write_text(self.folder.metrics_jsonl, "".join(f"{record.to_line()}\n" for record in self.records))
        self.observations.start(self.steps, warn)

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

    def train_epoch(self, should_stop: Callable[[], bool]) -> None:
        """Train the rest of the epoch under way, and score it."""
        start = time.perf_counter()
        task, training, seed = self.task, self.spec.training, self.trial.seed
        if self.step == 0:
            seed_epoch(seed, self.epoch)
            task.begin_epoch(self.model, training.batch_size)
        self.model.train()
        rate, epoch_steps = self.highest_rate, self.steps_in(self.epoch)
        for batch in svag.batches(task, training, seed, self.epoch, self.step):
            if should_stop():
                self.save()
                raise Interrupted(f"stopped in epoch {self.epoch + 1} after {self.step} steps")
            rate = next(self.rates)
            set_learning_rate(self.optimizer, rate * svag.learning_rate_scale(task, batch))
            self.loss_sum += take_step(task, self.model, self.optimizer, batch, training)
            self.step += 1
            self.steps += 1
            self.observations.after_step(self.steps, self.epoch + self.step / epoch_steps)
            if self.step % _STEPS_BETWEEN_CHECKS == 0:
                self._checked_loss_sum()
        train_loss = self._checked_loss_sum() / self.step
        # The test split is left alone unless it is the one that selects.
        scores, metric = score(task, self.model, training.selection), task.metric
        validation, test = (scores, None) if training.selection == "validation" else (None, scores)
        seconds = time.perf_counter() - start
        record = EpochRecord(self.epoch + 1, train_loss, validation, test, rate, seconds, metric.direction)
        if training.average_last:
            if self.epoch >= training.epochs - training.average_last:
                self.kept.add(self.model)
        elif training.selection == "validation":
            best = _best_epoch(self.records, metric)
            if best is None or _key(record.selecting, metric) > _key(best.selecting, metric):
                self.kept.replace(self.model)
        self.records.append(record)
        append_epoch(self.folder.metrics_jsonl, record)
        if self.trackers is not None:
            self.trackers.epoch(record)
        self.epoch, self.step = self.epoch + 1, 0
        self.observations.after_epoch(self.epoch)
        self.loss_sum = torch.zeros_like(self.loss_sum)
        if not math.isfinite(scores.loss):
            raise _Diverged(f"{training.selection} loss no longer finite after epoch {self.epoch}")

    def _checked_loss_sum(self) -> float:
        loss_sum = float(self.loss_sum)
        if not math.isfinite(loss_sum):
            raise _Diverged(f"training loss no longer finite in epoch {self.epoch + 1} by step {self.step}")
        return loss_sum


def score(task: Task, model: torch.nn.Module, split: Split) -> Scores:
    """Score a model as it is on a whole split; a SpecError where the task gives no numbers for loss and metric."""
    model.eval()
    with torch.inference_mode():
        given = task.evaluate(model, split)
    try:
        scores = {name: float(value) for name, value in given.items()}
        return Scores(scores.pop("loss"), scores.pop(task.metric.name), scores)
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise SpecError(
            f"task.evaluate gives {str(given)[:200]} for the {split} split; expected a mapping from names to numbers,"
            f" with 'loss' and {task.metric.name!r} among them"
        ) from error


def take_step(
    task: Task, model: torch.nn.Module, optimizer: torch.optim.Optimizer, batch: Any, training: Training
) -> torch.Tensor:
    """Take an optimizer step on a batch, or a pair; return the loss, still on the device: nothing waits for it.

    On a CPU that can, numbers below the smallest normal one, 1.2e-38, count as zero in the pass: they make a diverging
    LSTM ten times slower, and the square of a gradient so small is zero anyway. The optimizer's step does not flush
    them: that of a gradient of 1e-20 is one.
    """
    optimizer.zero_grad(set_to_none=True)
    device = next(model.parameters()).device
    torch.set_flush_denormal(True)
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=training.precision == "bfloat16"):
            loss, reported = svag.losses(task, model, batch)
        loss.backward()  # type: ignore[no-untyped-call]
    finally:
        torch.set_flush_denormal(False)
    if training.clip_norm is not None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), training.clip_norm)
    optimizer.step()
    return reported


def _best_epoch(records: Sequence[EpochRecord], metric: Metric) -> EpochRecord | None:
    """Return the epoch with the best score on the split that selects, the earliest of equals; None without epochs."""
    return max(records, key=lambda record: _key(record.selecting, metric), default=None)


def _key(scores: Scores | None, metric: Metric) -> float:
    """Return a number that is larger for better scores; those of a diverged model are worst."""
    if scores is None or not (math.isfinite(scores.loss) and math.isfinite(scores.metric)):
        return -math.inf
    return scores.metric if metric.direction == "max" else -scores.metric


def _result(trial: Trial, run: _Run, reason: str | None, provenance: Mapping[str, Any]) -> TrialResult:
    """Score the test split, once, with the weights of the best epoch or the mean of the last ones."""
    training, metric = run.spec.training, run.task.metric
    best = _best_epoch(run.records, metric)
    epoch, validation, test = (None, None, None) if best is None else (best.epoch, best.validation, best.test)
    if best is not None and reason is None and run.kept.epochs:
        run.kept.load_into(run.model)
        if training.average_last:
            epoch = None
            validation = score(run.task, run.model, "validation") if training.selection == "validation" else None
        test = score(run.task, run.model, "test")
    return TrialResult(
        id=trial.id,
        state="done" if reason is None else "diverged",
        identity=dict(trial.identity),
        metric_name=metric.name,
        metric_direction=metric.direction,
        metric_unit=metric.unit,
        epochs_trained=run.epoch,
        selected_epoch=epoch,
        validation=validation,
        test=test,
        steps=run.steps,
        seconds=run.seconds,
        device=str(run.device),
        reason=reason,
        provenance={**provenance, "scoring": dict(run.task.notes), **({"svag": run.caveats} if run.caveats else {})},
    )
