"""Take the first step of a training and store nothing, so that a mistake is told once, before trials fail for it."""

from __future__ import annotations

import math
from typing import Any

import torch

from epsgrid.errors import SpecError
from epsgrid.selection import formatting
from epsgrid.selection.trained import margin_of
from epsgrid.spec.model import Spec
from epsgrid.tasks import Metric, Task
from epsgrid.trials import svag
from epsgrid.trials.building import build_model, build_optimizer, seed_epoch, user_errors
from epsgrid.trials.train import take_step


def check_margin(spec: Spec, metric: Metric) -> None:
    """Raise SpecError where the report's margin does not suit the metric."""
    margin_of(spec.report.margin, formatting.Metric(metric.name, metric.direction, metric.unit), 1.0)


def rehearse(spec: Spec, task: Task, device: torch.device, rate: float, epsilon: float | None, seed: int) -> None:
    """Take the first step of a training with a seed at a learning rate and an ε, None for an optimizer without.

    Raises:
        SpecError: the model does not fit the task, a plug-in of the user's raises, an epoch has no step, the first loss
            is not finite, or the report's margin does not suit the task's metric.
    """
    training = spec.training
    check_margin(spec, task.metric)

    def check_outputs(model: torch.nn.Module, given: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor) and ":" not in spec.task.name and output.shape[-1:] != (task.outputs,):
            raise SpecError(
                f"model {spec.model_name} gives outputs of shape {tuple(output.shape)}; the last number must be"
                f" {task.outputs} for task {spec.task.name}: `outputs`, as `build` is told"
            )

    spec, rate, epsilon = svag.settings(spec, rate, epsilon)
    with user_errors(spec, task):
        model = build_model(spec, task, seed, device)
        optimizer = build_optimizer(spec, model, rate, epsilon)
        model.register_forward_hook(check_outputs)
        seed_epoch(seed, 0)
        task.begin_epoch(model, training.batch_size)
        model.train()
        batch = next(iter(svag.batches(task, training, seed, 0, 0)), None)
        if batch is None:
            raise SpecError(f"training.batch_size: {training.batch_size:,} leaves no batch in an epoch; take fewer")
        loss = float(take_step(task, model, optimizer, batch, training))
    if not math.isfinite(loss):
        raise SpecError(
            f"the loss of the first batch is {loss} before any step, so no learning rate can train this: look for NaN"
            " in the data, or in what the model computes from its initial weights"
        )
