"""Build the model that a trial or a probe begins with, and set torch's generators, which draw weights and dropout."""

from __future__ import annotations

import torch

from epsgrid import models
from epsgrid.numerics.seeds import derive_seed
from epsgrid.spec.model import Spec
from epsgrid.tasks import Task
from epsgrid.trials.device import place


def build_model(spec: Spec, task: Task, seed: int, device: torch.device) -> torch.nn.Module:
    """Return a spec's model with the initial weights of a seed, on a device, ready for its first epoch.

    Raises SpecError where the model does not fit the task.
    """
    seed_weights(seed)
    model = place(models.load(spec.model.name).build(spec.model, task.inputs, task.outputs), device)
    task.begin_epoch(model, spec.training.batch_size)
    return model


def seed_weights(seed: int) -> None:
    """Seed torch for drawing initial weights: all trials of a seed start from the same ones."""
    torch.manual_seed(derive_seed("weights", seed))


def seed_epoch(seed: int, epoch: int) -> None:
    """Seed torch for the dropout of an epoch, counted from 0."""
    torch.manual_seed(derive_seed("epoch", seed, epoch))
