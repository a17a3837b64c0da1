"""Put back what a look at a training would change: random number generators, and modules beside the model."""

from __future__ import annotations

import copy
import functools
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

_DEPTH = 16
_MOST_ENTRIES = 100
"""Longer containers hold data rather than generators, and are not searched."""
_EMPTY = CellType()
_NOT_SEARCHED = (torch.Tensor, np.ndarray, type, ModuleType, random.SystemRandom)

_Generator = torch.Generator | np.random.Generator | np.random.RandomState | random.Random


def devices_of(model: torch.nn.Module) -> tuple[torch.device, ...]:
    """Return the devices of a model's tensors, each once; the CPU if it has none."""
    tensors = [*model.parameters(), *model.buffers()]
    return tuple(dict.fromkeys(tensor.device for tensor in tensors)) or (torch.device("cpu"),)


def generator_states(device: torch.device) -> dict[str, torch.Tensor]:
    """Return the states of torch's global generators that work on `device` draws from."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore_generators(states: dict[str, torch.Tensor], device: torch.device) -> None:
    """Put back states that `generator_states` returned."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


@contextmanager
def generators_restored(devices: Iterable[torch.device], *holders: object) -> Iterator[None]:
    """Put the random number generators back when the block ends, also where it ends by an error or by Ctrl-C.

    These are torch's global generators of `devices`, those of Python and numpy, and those that `holders` hold, as a
    DataLoader with a generator of its own; they are searched for in attributes, in short containers, and in what a
    function refers to. A DataLoader gets new workers inside, and keeps those that it has.
    """
    torch_states = [(device, generator_states(device)) for device in devices]
    python_state, numpy_state = random.getstate(), np.random.get_state()
    with ExitStack() as stack:
        for part in _held(holders, {}):
            if isinstance(part, DataLoader):
                stack.callback(vars(part).__setitem__, "_iterator", vars(part).get("_iterator"))
                vars(part)["_iterator"] = None
            elif isinstance(part, _Generator):
                stack.callback(_restorer(part))
        try:
            yield
        finally:
            np.random.set_state(numpy_state)
            random.setstate(python_state)
            for device, states in torch_states:
                restore_generators(states, device)


@contextmanager
def surroundings_restored(model: nn.Module, loss: object) -> Iterator[None]:
    """Put back, when the block ends, what the code of a model and of a loss changes, and no copy of the model has.

    These are the attributes of the model's classes and of the loss, or of the object whose method it is, and the
    modules that the loss holds or that either refers to: their gradients, buffers, modes and other attributes.
    """
    own = {id(module): module for module in model.modules()}
    classes = {base for module in own.values() for base in type(module).__mro__ if issubclass(base, nn.Module)}
    classes = {base for base in classes if base.__module__.partition(".")[0] != "torch"}
    code = [base.__dict__.get("forward") for base in classes]
    with ExitStack() as stack, torch.no_grad():
        for part in _held((loss, *code), dict(own)):
            if isinstance(part, nn.Module):
                for module in part.modules():
                    stack.callback(_attributes_restorer(module))
        while isinstance(loss, functools.partial | MethodType):
            loss = loss.func if isinstance(loss, functools.partial) else loss.__self__
        for each in (loss, *classes):
            if hasattr(each, "__dict__") and id(each) not in own:
                stack.callback(_attributes_restorer(each))
        with torch.set_grad_enabled(True):
            yield


def _held(holder: object, seen: dict[int, Any]) -> Iterator[object]:
    """Yield what an object is and holds, but not what was `seen`, which is only kept alive there."""
    level = [holder]
    for _ in range(_DEPTH):
        parts: list[object] = []
        for value in level:
            if id(value) in seen or isinstance(value, _NOT_SEARCHED):
                continue
            seen[id(value)] = value
            yield value
            if isinstance(value, dict | list | tuple):
                entries = list(value.values() if isinstance(value, dict) else value)
                parts += entries if len(entries) <= _MOST_ENTRIES else []
            elif isinstance(value, FunctionType):
                parts += _referred_to(value)
            elif isinstance(value, MethodType):
                parts += [value.__self__, value.__func__]
            elif isinstance(value, functools.partial):
                parts += [value.func, value.args, value.keywords]
            else:
                parts += vars(value).values() if hasattr(value, "__dict__") else []
                slots = (name for base in type(value).__mro__ for name in base.__dict__.get("__slots__", ()))
                parts += [getattr(value, name, None) for name in slots if isinstance(name, str)]
        level = parts


def _referred_to(function: FunctionType) -> list[object]:
    """Return what a function refers to by its closure, its defaults, and the global names in its code."""
    parts = [cell.cell_contents for cell in function.__closure__ or () if cell != _EMPTY]
    parts += [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    codes, scope = [function.__code__], function.__globals__
    for code in codes:
        codes += [part for part in code.co_consts if isinstance(part, CodeType)]
        named = (scope[name] for name in code.co_names if name in scope)
        parts += [each for each in named if getattr(each, "__globals__", scope) is scope]
    return parts


def _attributes_restorer(holder: Any) -> Callable[[], None]:
    """Return a function that puts back the attributes of a module or class, also those that are changed in place."""
    before = {name: value for name, value in vars(holder).items() if not name.startswith("__")}
    if isinstance(holder, type):
        before = {
            name: value for name, value in before.items() if not callable(value) and not hasattr(value, "__get__")
        }
    containers = [(each, copy.copy(each)) for each in before.values() if isinstance(each, dict | list | set | deque)]
    module = isinstance(holder, nn.Module)
    values = [*before.values(), *(holder._buffers.values() if module else ())]
    arrays = [(each, copy.deepcopy(each)) for each in values if isinstance(each, np.ndarray)]
    tensors = [(each, each.detach().clone()) for each in values if isinstance(each, torch.Tensor)]
    gradients = [(each, each.grad) for each in holder.parameters(recurse=False)] if module else []
    for parameter, _ in gradients:
        parameter.grad = None

    def restore() -> None:
        for name, value in before.items():
            if vars(holder).get(name) is not value:
                setattr(holder, name, value)
        for container, content in containers:
            container.clear()
            (container.extend if isinstance(container, list | deque) else container.update)(content)
        for array, values_before in arrays:
            array[...] = values_before
        for tensor, entries in tensors:
            tensor.copy_(entries)
        for parameter, gradient in gradients:
            parameter.grad = gradient

    return restore


def _restorer(generator: _Generator) -> Callable[[], Any]:
    """Return a function that puts the present state of a generator back."""
    if isinstance(generator, random.Random):
        python_state = generator.getstate()
        return lambda: generator.setstate(python_state)
    if isinstance(generator, np.random.Generator):
        bits = generator.bit_generator
        bits_state = bits.state
        return lambda: setattr(bits, "state", bits_state)
    state: Any = generator.get_state()
    return lambda: generator.set_state(state)
