"""Save and restore the states of random number generators, so that looking at a training does not change it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
import torch

_DEPTH = 8
_MOST_ENTRIES = 100
"""Longer containers hold data rather than generators, and are not searched."""
_NOT_SEARCHED = (torch.Tensor, torch.nn.Module, np.ndarray, type, ModuleType, random.SystemRandom)

_Held = torch.Generator | np.random.Generator | np.random.RandomState | random.Random


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
def generators_restored(devices: Iterable[torch.device], holder: object = None) -> Iterator[None]:
    """Put the random number generators back when the block ends, also where it ends by an error or by Ctrl-C.

    These are torch's global generators of `devices`, those of Python and numpy, and those that `holder` holds, as a
    DataLoader with a generator of its own; they are searched for in attributes and short containers.
    """
    torch_states = [(device, generator_states(device)) for device in devices]
    python_state, numpy_state = random.getstate(), np.random.get_state()
    restore_held = [_restorer(generator) for generator in _held_generators(holder)]
    try:
        yield
    finally:
        for restore in restore_held:
            restore()
        np.random.set_state(numpy_state)
        random.setstate(python_state)
        for device, states in torch_states:
            restore_generators(states, device)


def _held_generators(holder: object) -> Iterator[_Held]:
    """Yield the generators that an object holds, itself or in what it holds."""
    seen: set[int] = set()
    level = [holder]
    for _ in range(_DEPTH):
        parts: list[object] = []
        for value in level:
            if id(value) in seen or isinstance(value, _NOT_SEARCHED):
                continue
            seen.add(id(value))
            if isinstance(value, _Held):
                yield value
            elif isinstance(value, dict | list | tuple):
                entries = list(value.values() if isinstance(value, dict) else value)
                parts += entries if len(entries) <= _MOST_ENTRIES else []
            elif hasattr(value, "__dict__"):
                parts += vars(value).values()
        level = parts


def _restorer(generator: _Held) -> Callable[[], Any]:
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
