"""Build the model that a trial or a probe begins with, and set torch's generators, which draw weights and dropout."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.parameter import is_lazy

from epsgrid import models, plugins
from epsgrid.errors import EpsgridError, SpecError
from epsgrid.numerics.seeds import derive_seed
from epsgrid.spec.model import Spec
from epsgrid.spec.trial import plugin_names
from epsgrid.tasks import Task
from epsgrid.trials.device import place

_NO_MEMORY = ("CUDA error: out of memory", "can't allocate memory")  # texts of RuntimeErrors of torch


def build_model(spec: Spec, task: Task, seed: int, device: torch.device) -> torch.nn.Module:
    """Return a spec's model with the initial weights of a seed, on a device, ready for its first epoch.

    Raises SpecError where the model does not fit the task, or has nothing to train.
    """
    seed_weights(seed)
    model = models.load(spec.model.name).build(spec.model, task.inputs, task.outputs)
    if not isinstance(model, torch.nn.Module):
        raise SpecError(f"model {spec.model.name}: build gave {type(model).__name__}; expected a torch.nn.Module")
    parameters = [*model.parameters()]
    if any(map(is_lazy, parameters)):
        raise SpecError(f"model {spec.model.name} has lazy parameters; give its layers their sizes, so that they exist")
    if not any(parameter.requires_grad for parameter in parameters):
        held = "all its parameters are frozen" if parameters else "it has no parameters"
        raise SpecError(f"model {spec.model.name}: there is nothing to train, for {held}")
    model = place(model, device)
    task.begin_epoch(model, spec.training.batch_size)
    return model


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


def is_for_memory(error: BaseException) -> bool:
    """Return whether an error says that there was no memory for a tensor."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(words in str(error) for words in _NO_MEMORY)


@contextmanager
def user_errors(spec: Spec, task: Task) -> Iterator[None]:
    """Turn whatever the user's plug-ins raise inside into a SpecError with file and line; leave other errors alone."""
    names = plugin_names(spec)
    try:
        yield
    except Exception as error:
        if isinstance(error, EpsgridError) or is_for_memory(error) or not plugins.files(*names):
            raise
        own = " or ".join(name for name in names if ":" in name)
        place = plugins.place_of(error, *names)
        raise SpecError(
            f"{own} fails{f' in {place}' if place else ''}: {type(error).__name__}: {error}\n"
            f"Task {spec.task.name} gives examples of shape {task.inputs}, and asks for {task.outputs} outputs"
        ) from error
