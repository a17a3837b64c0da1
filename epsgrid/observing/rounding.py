"""Find entries whose gradient is nothing but rounding noise.

Some gradients are zero by the structure of a model: a bias of a convolution before batch norm, or of an attention's
keys. What is computed for them is the rounding error of sums that cancel, some 1e-9 in float32, and one such tensor
alone moves the lower bound down by decades.

The test: compute √v after one step on one batch at the same weights twice, in the model's own precision and in float64.
A true gradient changes in the seventh digit; an entry that falls by a factor of 100 or more was noise. The test finds
entries and not only tensors: a third of the bias of `nn.MultiheadAttention` is that of the keys.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import re
import sys
import warnings
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from epsgrid.errors import ObservationError, in_a_line
from epsgrid.numerics.histogram import LogHistogram
from epsgrid.observing.adapters import Adapter
from epsgrid.observing.copying import copy_model, copy_optimizer, take_step
from epsgrid.observing.reading import Reading, limit_of_noise, local
from epsgrid.observing.restoring import devices_of, generator_states, generators_restored, restore_generators

Loss = Callable[[nn.Module, Any], torch.Tensor]

_FALL = 100.0
"""An entry that is smaller by this factor in float64 was noise."""

_LEAST_SHARE = 0.01
"""Layers with a smaller share of noise are left as they are: more than what is marked by chance, too few to matter."""

_DRAWS = 3
_DROPS = re.compile(r"drop|^StochasticDepth$", re.IGNORECASE)


@dataclass(frozen=True)
class RoundingNoise:
    """Which entries are only rounding noise.

    `masks` is True at noise, by parameter, for layers that have noise. `reason` says why the check gave no answer.
    """

    masks: Mapping[torch.Tensor, torch.Tensor] = field(default_factory=dict)
    checked: bool = True
    reason: str = ""


def noise_by_kind(
    cancelled: Mapping[torch.Tensor, torch.Tensor], counted: Sequence[tuple[Reading, LogHistogram]]
) -> RoundingNoise:
    """Return as noise those entries that ought to be cancelled and are far below the other layers, without a check.

    `cancelled` are masks by parameter; see `kinds.cancelled_biases`.
    """
    limit = limit_of_noise(histogram for reading, histogram in counted if reading.layer.parameter not in cancelled)
    masks = {}
    for reading, _ in counted:
        mask, values = cancelled.get(reading.layer.parameter), reading.values
        if mask is None or values is None or mask.shape != values.shape:
            continue
        if float((values[mask.to(values.device)].max() * reading.scale).sqrt()) < limit:
            masks[reading.layer.parameter] = mask
    return RoundingNoise(masks, checked=False)


def rounding_noise(
    model: nn.Module,
    loss: Loss,
    batch: Any,
    optimizer: torch.optim.Optimizer,
    adapter: Adapter,
) -> RoundingNoise:
    """Find the entries of a model's parameters whose gradient is only rounding noise.

    All work is done on copies, of which it needs memory for three, and torch's generators are put back.

    Dropout is switched off where a module does it. Where random numbers are drawn all the same, float64 starts from the
    same generator states, which mostly gives the same masks on a CPU. Where they differ, 0.6 % of the entries fall by
    100 by chance. So float64 gets two more draws, and only an entry that is small in all three, and not exactly zero in
    all, is marked; up to 0.4 % of a layer is then marked falsely.

    Args:
        model: in the mode in which it trains.
        loss: computes the scalar loss of a batch with the model that it is given; autocast does not affect float64.
        batch: tensors in tuples, lists, mappings or dataclasses, nested as you like.
        optimizer: the one that will be used; steps on a copy.
        adapter: knows where the optimizer keeps v.

    Returns:
        The masks; `checked` is False, with the reason, where there is no answer.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of copies and of float64; the model's own run shows its warnings
            return RoundingNoise(_masks(model, functools.partial(_magnitudes, model, loss, batch, optimizer, adapter)))
    except ObservationError as reason:
        return RoundingNoise(checked=False, reason=str(reason))
    except Exception as error:  # the model's code may raise anything, and a probe goes on without this check
        return RoundingNoise(checked=False, reason=in_a_line(error))


def _masks(
    model: nn.Module, look: Callable[[torch.dtype | None], list[torch.Tensor | None]]
) -> dict[torch.Tensor, torch.Tensor]:
    """Compare what `look` returns, the magnitudes of each parameter in a precision."""
    if all(parameter.dtype == torch.float64 for parameter in model.parameters()):
        raise ObservationError(
            "the model computes in float64 already, and there is nothing more precise to compare with"
        )
    devices = devices_of(model)
    with generators_restored(devices), torch.enable_grad(), contextlib.ExitStack() as stack:
        if "torch._dynamo" in sys.modules:  # compile nothing for a single batch; importing the compiler takes seconds
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        before = [generator_states(device) for device in devices]
        own = look(None)
        pairs = zip(before, [generator_states(device) for device in devices], strict=True)
        random = not all(torch.equal(states[name], after[name]) for states, after in pairs for name in states)
        for device, states in zip(devices, before, strict=True):
            restore_generators(states, device)
        peaks = look(torch.float64)
        for _ in range(_DRAWS - 1 if random else 0):
            again = look(torch.float64)
            peaks = [None if a is None or b is None else torch.maximum(a, b) for a, b in zip(peaks, again, strict=True)]
    masks = (
        None if low is None or high is None else _mask(low, high, random=random)
        for low, high in zip(own, peaks, strict=True)
    )
    return {each: mask for each, mask in zip(model.parameters(), masks, strict=True) if mask is not None}


def _mask(own: torch.Tensor, peak: torch.Tensor, *, random: bool) -> torch.Tensor | None:
    """Return where a layer's entries are noise; None where too few are.

    `own` are magnitudes in the model's precision, `peak` the largest in float64 over all draws. An entry that is zero
    in the former is noise where it is no larger in float64 than known noise, or where all others of its layer are. If
    draws are `random`, a peak of exactly zero shows nothing: something was dropped.
    """
    own = own.to(peak.dtype)
    clear = (own > 0) & (peak > 0) if random else own > 0
    noise = clear & (peak * _FALL < own)
    marked, in_all = int(noise.sum()), int(clear.sum())
    if not marked or marked < _LEAST_SHARE * in_all:
        return None
    if marked == in_all:
        return torch.ones_like(noise)
    return noise if random else noise | ((own == 0) & (peak > 0) & (peak <= peak[noise].max()))


def _magnitudes(
    model: nn.Module,
    loss: Loss,
    batch: Any,
    optimizer: torch.optim.Optimizer,
    adapter: Adapter,
    dtype: torch.dtype | None,
) -> list[torch.Tensor | None]:
    """Return √v of each parameter after one step on copies, in a precision; None is the model's own."""
    copied, memo = copy_model(model)
    for module in copied.modules():  # a module's own children keep their mode
        if _DROPS.search(type(module).__name__):
            module.training = False
        if isinstance(module, nn.MultiheadAttention | nn.RNNBase):
            module.dropout = 0.0
    with contextlib.ExitStack() as stack:
        if dtype is not None:
            copied.to(dtype)
            # Tensors that the model's code makes, such as a first hidden state, are of this type too.
            stack.callback(torch.set_default_dtype, torch.get_default_dtype())
            torch.set_default_dtype(dtype)
            for kind in {device.type for device in devices_of(model)}:
                stack.enter_context(torch.autocast(kind, enabled=False))

        def closure() -> torch.Tensor:
            copied.zero_grad()
            with torch.enable_grad():
                value = loss(copied, _copied(batch, dtype))
            if not isinstance(value, torch.Tensor) or value.numel() != 1 or not value.requires_grad:
                raise ObservationError("the loss is no scalar with a gradient")
            if not bool(torch.isfinite(value)):
                where = "" if dtype is None else " in float64"
                raise ObservationError(f"the loss is not finite{where}: {value.item()}")
            value.backward()  # type: ignore[no-untyped-call]
            return value

        closure()
        parameters = list(copied.parameters())
        if all(parameter.grad is None for parameter in parameters):
            raise ObservationError(
                "the loss does not depend on the model that it is given; compute it with loss(model, batch)'s own"
                " `model`"
            )
        stepped = copy_optimizer(optimizer, memo, adapter)
        take_step(stepped, closure)
    groups = {parameter: group for group in stepped.param_groups for parameter in group["params"]}
    moments = (
        adapter.second_moment(stepped.state.get(parameter, {}), groups[parameter]) if parameter in groups else None
        for parameter in parameters
    )
    return [None if moment is None else local(moment.values).sqrt() for moment in moments]


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
