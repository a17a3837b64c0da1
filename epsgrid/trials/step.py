"""One optimizer step: the same for training and for the probe, so that a probe sees what training would."""

from __future__ import annotations

from typing import Any

import torch

from epsgrid.spec.model import Training
from epsgrid.tasks import Task
from epsgrid.trials.svag import losses


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
        loss, told = losses(task, model, batch)
    loss.backward()  # type: ignore[no-untyped-call]
    if training.clip_norm is not None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), training.clip_norm)
    optimizer.step()
    return told
