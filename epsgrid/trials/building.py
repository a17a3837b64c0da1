"""Build the model that a trial or a probe begins with."""

from __future__ import annotations

import torch

from epsgrid import models
from epsgrid.spec.model import Spec
from epsgrid.tasks import Task
from epsgrid.trials.device import place
from epsgrid.trials.seeding import seed_weights


def build_model(spec: Spec, task: Task, seed: int, device: torch.device) -> torch.nn.Module:
    """Return a spec's model with the initial weights of a seed, laid out on a device, ready for its first epoch.

    Raises:
        SpecError: the model does not fit the task.
    """
    seed_weights(seed)
    model = place(models.load(spec.model.name).build(spec.model, task.inputs, task.outputs), device)
    task.begin_epoch(model, spec.training.batch_size)
    return model
