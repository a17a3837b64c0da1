"""One optimizer step: its learning rate, its loss and gradient, and the update."""

from __future__ import annotations

from typing import Any

import torch

from epsgrid.spec.model import Schedule, Training
from epsgrid.tasks import Task
from epsgrid.trials.svag import losses


def learning_rate_at(base: float, schedule: Schedule, epoch: int, epochs: int, step: int = 0) -> float:
    """Return the learning rate of a step.

    Args:
        base: the rate of the first epoch of a step schedule; the highest rate, after the warm-up, of an inverse root.
        schedule: which rule, with its settings.
        epoch: counted from 0.
        epochs: length of the whole run.
        step: number of optimizer steps taken before, over all epochs.

    Returns:
        Step schedule: `base` times the factor once for every milestone reached; with the published ×0.1 at 150 of 200,
        epoch 149 still has the base rate and epoch 150 a tenth of it. Inverse root (fairseq's recipe, warm-up from 0):
        `base` · min(t / w, √(w / t)) at step t = 1, 2, … with a warm-up of w steps.

    >>> learning_rate_at(1.0, Schedule(), 149, 200), learning_rate_at(1.0, Schedule(), 150, 200)
    (1.0, 0.1)
    """
    if schedule.kind == "inverse_sqrt":
        now, warmup = step + 1, schedule.warmup_steps
        assert warmup is not None
        return float(base * min(now / warmup, (warmup / now) ** 0.5))
    reached = sum(epoch >= milestone * epochs - 1e-9 for milestone in schedule.milestones)
    return float(base * schedule.factor**reached)


def take_step(
    task: Task, model: torch.nn.Module, optimizer: torch.optim.Optimizer, batch: Any, training: Training
) -> torch.Tensor:
    """Compute the loss of a batch, or of a pair, and its gradient, clip it if the spec says so, and step the optimizer.

    Returns:
        The loss, a scalar without gradient, still on the device: nothing waits for it.
    """
    optimizer.zero_grad(set_to_none=True)
    device = next(model.parameters()).device
    with torch.autocast(device.type, torch.bfloat16, enabled=training.precision == "bfloat16"):
        loss, reported = losses(task, model, batch)
    loss.backward()  # type: ignore[no-untyped-call]
    if training.clip_norm is not None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), training.clip_norm)
    optimizer.step()
    return reported
