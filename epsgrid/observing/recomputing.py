"""Compute a model's gradient again on a copy of it, in another precision, leaving everything as it is."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import re
import sys
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

import torch
from torch import nn

from epsgrid.observing.adapters import adapter_for, unwrap
from epsgrid.observing.restoring import devices_of
from epsgrid.observing.understudy import Understudy

Loss = Callable[[nn.Module, Any], torch.Tensor]

_DROPS = re.compile(r"drop|^StochasticDepth$", re.IGNORECASE)


class CannotTell(Exception):  # noqa: N818 - a result, not an error
    """Why the gradients say nothing."""


def magnitudes(
    model: nn.Module, loss: Loss, batch: Any, optimizer: torch.optim.Optimizer | None, dtype: torch.dtype | None
) -> list[torch.Tensor | None]:
    """Return the size of every parameter's gradient on a copy of the model, or of its √v; None where there is none."""
    copied = copy.deepcopy(model)
    _switch_off_dropout(copied)
    with contextlib.ExitStack() as stack:
        if dtype is not None:
            copied.to(dtype)
            stack.enter_context(_default_dtype(dtype))
            for kind in {device.type for device in devices_of(model)}:
                stack.enter_context(torch.autocast(kind, enabled=False))
        value = loss(copied, _copied(batch, dtype))
        _check_loss(value, dtype)
        value.backward()  # type: ignore[no-untyped-call]
    parameters = list(copied.parameters())
    if all(parameter.grad is None for parameter in parameters):
        raise CannotTell(
            "the loss does not depend on the model that it is given; compute it with loss(model, batch)'s own `model`"
        )
    if optimizer is None:
        return [None if parameter.grad is None else parameter.grad.abs() for parameter in parameters]
    return _after_a_step(optimizer, list(model.parameters()), parameters)


def _check_loss(value: Any, dtype: torch.dtype | None) -> None:
    if not isinstance(value, torch.Tensor) or value.numel() != 1 or not value.requires_grad:
        raise CannotTell("the loss is no scalar with a gradient")
    if not bool(torch.isfinite(value)):
        precision = "" if dtype is None else " in float64"
        raise CannotTell(f"the loss is not finite{precision}: {value.item()}")


def _after_a_step(
    optimizer: torch.optim.Optimizer, originals: list[nn.Parameter], parameters: list[nn.Parameter]
) -> list[torch.Tensor | None]:
    """Return √v of every parameter after one step of the optimizer from fresh state, with the copies' gradients."""
    real = unwrap(optimizer)
    adapter = adapter_for(real)
    copies: dict[torch.Tensor, torch.Tensor] = dict(zip(originals, parameters, strict=True))
    missing = [p for group in real.param_groups for p in group["params"] if p not in copies]
    copies |= {parameter: torch.nn.Parameter(parameter.detach().clone()) for parameter in missing}
    understudy = Understudy(real, copies)
    understudy.step()
    groups = {p: group for group in understudy.optimizer.param_groups for p in group["params"]}
    found: list[torch.Tensor | None] = []
    for parameter in parameters:
        group = groups.get(parameter)
        state = understudy.optimizer.state.get(parameter, {})
        moment = None if group is None else adapter.second_moment(state, group)
        found.append(None if moment is None else moment.values.sqrt())
    return found


def bare_model(model: nn.Module) -> nn.Module:
    """Return the model inside wrappers for compiling and data parallel."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def _switch_off_dropout(model: nn.Module) -> None:
    """Switch off what draws masks as a module; a module's own children keep their mode."""
    for module in model.modules():
        if _DROPS.search(type(module).__name__):
            module.training = False
        if isinstance(module, nn.MultiheadAttention | nn.RNNBase):
            module.dropout = 0.0


@contextlib.contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Let tensors that the model's code makes, such as a first hidden state, be of this type too."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def eager() -> contextlib.AbstractContextManager[Any]:
    """Compile nothing anew for a single batch; only where something may be compiled, for it takes seconds to import."""
    if "torch._dynamo" not in sys.modules:
        return contextlib.nullcontext()
    stance: contextlib.AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return stance


def _copied(batch: Any, dtype: torch.dtype | None) -> Any:
    """Return a batch with copies of its tensors, those of floating point in another type if one is given."""
    if isinstance(batch, torch.Tensor):
        to = dtype if dtype is not None and batch.is_floating_point() else batch.dtype
        return batch.detach().to(to, copy=True).requires_grad_(batch.requires_grad)
    if isinstance(batch, MutableMapping):
        copied = copy.copy(batch)
        for key, value in batch.items():
            copied[key] = _copied(value, dtype)
        return copied
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(_copied(value, dtype) for value in batch))
    if isinstance(batch, list | tuple):
        return type(batch)(_copied(value, dtype) for value in batch)
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        instance = copy.copy(batch)
        for each in dataclasses.fields(batch):
            object.__setattr__(instance, each.name, _copied(getattr(batch, each.name), dtype))
        return instance
    return batch
