"""SVAG: train along the stochastic differential equation that an adaptive optimizer approximates.

Malladi et al. (2022, arXiv 2205.10287) for RMSprop and Adam, by the rule of their code. Each step draws two independent
minibatches of the spec's size and descends the combined loss

    w₊·L₁ + w₋·L₂        w± = (1 ± √(2l² − 1)) / 2        w₊ + w₋ = 1, w₊² + w₋² = l²

in one backward pass: the gradient has the same mean and l times the noise, that of a batch l² times smaller. Everything
else is that of the square-root rule with κ = 1/l² (see `epsgrid.numerics.scaling`). As l grows the training converges
to the equation's, where a plain step is worth the time η²; if l makes no difference, it describes the plain training.

An epoch of the spec therefore takes l² times its steps: l² passes over the data for the first minibatches and l² for
the second ones, each in an order of its own. (The published code takes both from one pass, half the steps.) With l = 1
the second minibatch has no weight and is left out: it is the plain training, bit for bit, with the same id.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import torch

from epsgrid.numerics import scaling
from epsgrid.numerics.seeds import derive_seed
from epsgrid.optimizers import _scaling as optimizer_scaling
from epsgrid.spec.model import Spec, Training
from epsgrid.tasks import Task


class _Pair(NamedTuple):
    """Two independent minibatches and their weights in the loss."""

    first: Any
    second: Any
    weights: tuple[float, float]


def settings(spec: Spec, learning_rate: float, epsilon: float | None) -> tuple[Spec, float, float | None]:
    """Return spec, learning rate and ε of a trial's steps: as asked, or with SVAG those worth 1/l² of the time.

    With SVAG the optimizer's options, schedule, clipping and observed steps change. Raises ScalingError where the
    optimizer has no square-root rule.
    """
    l = factor(spec.training)  # noqa: E741
    if l == 1:
        return spec, learning_rate, epsilon
    kappa = Fraction(1, l**2)
    options = optimizer_scaling.scaled_options(spec.optimizer, kappa)
    if epsilon is not None:
        epsilon = optimizer_scaling.scaled_epsilon(spec.optimizer, epsilon, kappa)
    schedule, clip_norm, every = spec.training.schedule, spec.training.clip_norm, spec.observe.every
    if schedule.warmup_steps is not None:
        steps = scaling.scaled_steps(schedule.warmup_steps, kappa)
        schedule = schedule.model_copy(update={"warmup_steps": steps})
    if clip_norm is not None:
        clip_norm = scaling.scaled_magnitude(clip_norm, kappa)
    if isinstance(every, int):
        every = scaling.scaled_steps(every, kappa)
    training = spec.training.model_copy(update={"schedule": schedule, "clip_norm": clip_norm})
    observe = spec.observe.model_copy(update={"every": every})
    finer = spec.model_copy(update={"optimizer": options, "training": training, "observe": observe})
    return finer, optimizer_scaling.scaled_learning_rate(spec.optimizer, learning_rate, kappa), epsilon


def factor(training: Training) -> int:
    """Return l; 1 for plain training."""
    return 1 if training.svag is None else training.svag.l


def steps_in_epoch(task: Task, training: Training, seed: int, epoch: int) -> int:
    """Return the number of steps in an epoch of the spec, counted from 0: l² times those of plain training."""
    return sum(task.steps_per_epoch(training.batch_size, seed, each) for each in _passes(training, epoch))


def batches(task: Task, training: Training, seed: int, epoch: int, first_step: int = 0) -> Iterator[Any]:
    """Yield the batches of an epoch, or pairs of them, from `first_step` on.

    The second ones are those of another seed, derived from the trial's.
    """
    l, size = factor(training), training.batch_size  # noqa: E741
    both, other = scaling.svag_weights(l), derive_seed("svag", seed)
    for each in _passes(training, epoch):
        steps = task.steps_per_epoch(size, seed, each)
        skipped = min(first_step, steps)
        first_step -= skipped
        first = task.batches(seed, each, size, skipped)
        if l == 1:
            yield from first
        else:
            second = task.batches(other, each, size, skipped)
            yield from (_Pair(*pair, both) for pair in zip(first, second, strict=True))


def _passes(training: Training, epoch: int) -> range:
    """Return the passes over the data that an epoch consists of, counted over the whole training."""
    passes = factor(training) ** 2
    return range(epoch * passes, (epoch + 1) * passes)


def losses(task: Task, model: torch.nn.Module, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss to descend, with gradient, and the one to report.

    They differ for a pair, whose combined loss is l times noisier: reported is the mean of both.
    """
    if not isinstance(batch, _Pair):
        loss = task.loss(model, batch)
        return loss, loss.detach()
    first, second = task.loss(model, batch.first), task.loss(model, batch.second)
    plus, minus = batch.weights
    return plus * first + minus * second, (first.detach() + second.detach()) / 2


def learning_rate_scale(task: Task, batch: Any) -> float:
    """Return the task's factor on the learning rate; both batches of a pair have the same."""
    return task.learning_rate_scale(batch.first if isinstance(batch, _Pair) else batch)


def caveats(model: torch.nn.Module, training: Training) -> tuple[str, ...]:
    """Return a sentence for each part of a model that SVAG cannot treat as gradient noise; none for plain training."""
    if factor(training) == 1:
        return ()
    found = []
    if any(isinstance(module, torch.nn.modules.batchnorm._BatchNorm) for module in model.modules()):
        found.append(
            "SVAG and batch norm: each of the two minibatches is normalised by itself, so noise in the normalisation"
            f" is not made {factor(training)} times larger, and the running averages take two updates a step"
        )
    if any(isinstance(module, torch.nn.modules.dropout._DropoutNd) and module.p > 0 for module in model.modules()):
        found.append(
            "SVAG and dropout: the two minibatches get masks of their own, so the noise of dropout is made"
            f" {factor(training)} times larger with that of the data"
        )
    return tuple(found)
