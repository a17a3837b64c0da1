"""Build the model that a trial or a probe begins with, and set torch's generators, which draw weights and dropout."""

from __future__ import annotations

import hashlib
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch.nn.parameter import is_lazy

from epsgrid import models, optimizers, plugins
from epsgrid.errors import SpecError
from epsgrid.numerics.seeds import derive_seed
from epsgrid.spec.model import Spec
from epsgrid.spec.trial import plugin_names
from epsgrid.tasks import Task
from epsgrid.trials.device import place

_FACTOR = "learning_rate_factor"
"""Of a group of parameters."""


def build_model(spec: Spec, task: Task, seed: int, device: torch.device) -> torch.nn.Module:
    """Return a spec's model with the initial weights of a seed, on a device, ready for its first epoch.

    Raises SpecError where the model does not fit the task, or has nothing to train.
    """
    assert spec.model is not None
    seed_weights(seed)
    model = models.build(spec.model, task.inputs, task.outputs)
    if not isinstance(model, torch.nn.Module):
        raise SpecError(f"model {spec.model_name}: it gave {type(model).__name__}; expected a torch.nn.Module")
    parameters = [*model.parameters()]
    if any(map(is_lazy, parameters)):
        raise SpecError(f"model {spec.model_name} has lazy parameters; give its layers their sizes, so that they exist")
    if not any(parameter.requires_grad for parameter in parameters):
        held = "all its parameters are frozen" if parameters else "it has no parameters"
        raise SpecError(f"model {spec.model_name}: there is nothing to train, for {held}")
    model = place(model, device)
    task.begin_epoch(model, spec.training.batch_size)
    return model


def build_optimizer(
    spec: Spec, model: torch.nn.Module, learning_rate: float, epsilon: float | None
) -> torch.optim.Optimizer:
    """Return a spec's optimizer for a model, with a group of parameters for each of the `learning_rate_factors`.

    Raises SpecError where one of these names no parameter.
    """
    factors = getattr(model, "learning_rate_factors", {})
    parameters = dict(model.named_parameters())
    if unknown := [*(factors.keys() - parameters.keys())]:
        raise SpecError(f"model {spec.model_name}: learning_rate_factors name {unknown[0]!r}, which is no parameter")
    groups: dict[float, list[torch.nn.Parameter]] = {}
    for name, parameter in parameters.items():
        groups.setdefault(factors.get(name, 1.0), []).append(parameter)
    grouped: list[Any] = [{"params": group, _FACTOR: factor} for factor, group in groups.items()]
    build = optimizers.load(spec.optimizer.name).build
    return build(grouped if factors else model.parameters(), spec.optimizer, learning_rate, epsilon)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of the next step, each group's times its factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get(_FACTOR, 1.0)


def seed_weights(seed: int) -> None:
    """Seed torch for drawing initial weights: all trials of a seed start from the same ones."""
    torch.manual_seed(derive_seed("weights", seed))


def seed_epoch(seed: int, epoch: int) -> None:
    """Seed torch for the dropout of an epoch, counted from 0."""
    torch.manual_seed(derive_seed("epoch", seed, epoch))


def parameters_of(model: torch.nn.Module) -> str:
    """Return the names and shapes of a model's parameters as text: how many there are, and the hash of all.

    >>> parameters_of(torch.nn.Linear(3, 2))
    '8 numbers in 2 tensors, aa902f8e6f66'
    """
    shapes = [(name, tuple(each.shape)) for name, each in model.named_parameters()]
    count = sum(each.numel() for each in model.parameters())
    digest = hashlib.sha256(repr(shapes).encode()).hexdigest()
    return f"{count:,} numbers in {len(shapes)} tensors, {digest[:12]}"


def user_errors(spec: Spec, task: Task) -> AbstractContextManager[None]:
    """Turn what the user's plug-ins raise inside into a SpecError; see `epsgrid.plugins.user_errors`."""
    note = f"task {spec.task.name} gives examples of shape {task.inputs}, and asks for {task.outputs} outputs"
    return plugins.user_errors(*plugin_names(spec), note=note)
