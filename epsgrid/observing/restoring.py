"""Look at a model without leaving a trace: everything that a gradient changes is put back afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.parameter import is_lazy

from epsgrid.errors import ObservationError


@contextmanager
def left_as_found(model: torch.nn.Module, parameters: Iterable[torch.Tensor] = ()) -> Iterator[None]:
    """Put everything about a model back when the block ends, also where it ends by an error or by Ctrl-C.

    That is: the bits of weights and buffers, in the same tensors, those outside the state_dict included; the gradients,
    as the same objects; which parameters require gradients; every module's training mode and other attributes, such as
    a counter or a kept hidden state; and torch's global generators. Inside the block the model has no gradients, so
    those found are not added to. It takes the memory of one more copy of the model.

    Args:
        model: of any kind.
        parameters: further ones, such as those of a loss; the model's own may be among them.

    Raises:
        ObservationError: the model has parameters without a shape yet (lazy ones).
    """
    found = _Found(model, parameters)
    try:
        yield
    finally:
        found.restore()


class _Found:
    """A model's state, held by value where it may be written in place and by reference where it may be replaced."""

    def __init__(self, model: torch.nn.Module, more: Iterable[torch.Tensor]) -> None:
        parameters = list(dict.fromkeys([*model.parameters(), *more]))
        tensors = [*parameters, *model.buffers()]
        if any(is_lazy(tensor) for tensor in tensors):
            raise ObservationError(
                f"{type(model).__name__} has lazy parameters, which get their shape from the first batch; run one batch"
                " through the model first"
            )
        self._contents = [(tensor, tensor.detach().clone()) for tensor in tensors]
        self._gradients = [(parameter, parameter.grad, parameter.requires_grad) for parameter in parameters]
        self._modules = [(module, _attributes(module)) for module in model.modules()]
        self._generators = [(device, generator_states(device)) for device in devices_of(model)]
        for parameter in parameters:
            parameter.grad = None

    def restore(self) -> None:
        """Put everything back."""
        for module, attributes in self._modules:
            _restore_attributes(module, attributes)
        with torch.no_grad():
            for tensor, content in self._contents:
                tensor.copy_(content)
        for parameter, gradient, requires_grad in self._gradients:
            parameter.requires_grad_(requires_grad)
            parameter.grad = gradient
        for device, states in self._generators:
            restore_generators(states, device)


_HELD = ("_parameters", "_buffers", "_modules")


def _attributes(module: torch.nn.Module) -> dict[str, Any]:
    """Return a module's attributes, and copies of the dictionaries that say what it consists of."""
    attributes = dict(vars(module))
    return {**attributes, **{name: dict(attributes[name]) for name in _HELD}}


def _restore_attributes(module: torch.nn.Module, attributes: dict[str, Any]) -> None:
    now = vars(module)
    for name in _HELD:
        now[name].clear()
        now[name].update(attributes[name])
    for name in [name for name in now if name not in attributes]:
        del now[name]
    now.update({name: value for name, value in attributes.items() if name not in _HELD})


def devices_of(model: torch.nn.Module) -> tuple[torch.device, ...]:
    """Return where a model's tensors lie, each device once; the CPU if it has none."""
    tensors = [*model.parameters(), *model.buffers()]
    return tuple(dict.fromkeys(tensor.device for tensor in tensors)) or (torch.device("cpu"),)


def generator_states(device: torch.device) -> dict[str, torch.Tensor]:
    """Return the states of torch's global generators that work on `device` draws from."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore_generators(states: dict[str, torch.Tensor], device: torch.device) -> None:
    """Put back what `generator_states` returned."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
