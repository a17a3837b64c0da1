"""Find entries whose gradient is nothing but rounding noise, and measure layers without them.

Some gradients are zero by the structure of a model: a bias of a convolution before batch norm, which takes it out
again; the bias of an attention's keys, which shifts all scores of a query alike. What is computed for them is the
rounding error of sums that cancel, some 1e-9 in float32, and since a published bound is the least of all layers' low
ends, one such tensor alone moves it down by decades.

The test: compute the gradient of one batch twice at the same weights, in the model's own precision and in float64. A
true gradient changes in the seventh digit; noise falls along with the unit of rounding, by a factor of about 1e8. An
entry that falls by a factor of 100 or more was noise. That tells entries apart and not only tensors: a third of the
bias of `nn.MultiheadAttention` is that of the keys.

With an optimizer what is compared is √v after one step of it: coupled weight decay adds λ·θ to the gradient, and where
that is not zero an entry of v is more than noise.
"""

from __future__ import annotations

import dataclasses
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from epsgrid.numerics.counting import measure
from epsgrid.numerics.magnitudes import LayerStatistics
from epsgrid.observing.recomputing import CannotTell, Loss, bare_model, eager, magnitudes
from epsgrid.observing.restoring import devices_of, generator_states, left_as_found, restore_generators

FALL = 100.0
"""An entry that is smaller by this factor in float64 was noise."""

LEAST_SHARE = 0.01
"""Layers with a smaller share of noise are passed over.

It is too small to reach an order statistic at 2 %, or at 1 %, and larger than what chance marks; see `rounding_noise`.
"""

_DRAWS = 3
_WRAPPERS = re.compile(r"\b(_orig_mod|_checkpoint_wrapped_module)\.")


@dataclass(frozen=True)
class RoundingNoise:
    """Which entries are only rounding noise.

    Attributes:
        masks: True at noise; by name of parameter, without the prefixes of wrappers, for layers that have noise. On the
            parameter's device, of its shape.
        parameters: the model's parameters that these belong to, under the same names.
        checked: whether it could be told.
        reason: why not; empty where it could.
    """

    masks: Mapping[str, torch.Tensor] = field(default_factory=dict)
    parameters: Mapping[str, torch.Tensor] = field(default_factory=dict)
    checked: bool = True
    reason: str = ""


def rounding_noise(
    model: nn.Module, loss: Loss, batch: Any, optimizer: torch.optim.Optimizer | None = None
) -> RoundingNoise:
    """Find the entries of a model's parameters whose gradient is only rounding noise.

    The model, its gradients, buffers and training mode and torch's generators stay as they are, and so does the batch:
    all work is done on copies. It takes two gradients, of which the one in float64 costs a CPU two to five of the usual
    ones, and the memory of three copies of the model.

    Dropout is switched off where a module does it; batch norm stays in training mode. Where random numbers are drawn
    all the same, float64 starts from the same generator states, which on a CPU mostly gives the same masks. They may
    yet differ, and then gradients do, by more than their rounding: 0.6 % of the entries of two normal ones fall by 100
    by chance alone. So float64 gets two more draws, and only an entry that is small in all three, and not exactly zero
    in all, is marked. Measured on small networks with masks that never agree: up to 0.15 % of the entries, and 0.4 % of
    those of a layer, are marked falsely (with a single draw 1.2 % and 1.6 %); such layers are passed over.

    Args:
        model: in the mode in which it trains; wrappers for compiling and data parallel are looked through.
        loss: computes the scalar loss of a batch with the model that it is given; may use autocast, which leaves
            float64 alone.
        batch: tensors in tuples, lists, mappings or dataclasses, nested as you like; those of floating point are made
            float64 for the second pass.
        optimizer: the one that will be used, for the weight decay in it; None looks at gradients alone.

    Returns:
        The masks; `checked` is False, with the reason, where it could not be told: the model cannot be copied, refuses
        float64 or computes in it already, the loss is not finite or does not depend on the model given to it, memory
        ran out, or whatever else went wrong.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of copies and of float64; the model's own run is heard elsewhere
            bare = bare_model(model)
            masks = _masks(bare, loss, batch, optimizer)
            named = [(_WRAPPERS.sub("", name), parameter) for name, parameter in bare.named_parameters()]
            found = [(name, parameter, masks[parameter]) for name, parameter in named if parameter in masks]
        return RoundingNoise({name: mask for name, _, mask in found}, {name: parameter for name, parameter, _ in found})
    except CannotTell as reason:
        return RoundingNoise(checked=False, reason=str(reason))
    except Exception as error:  # the model's code may raise anything, and a probe goes on without this check
        lines = str(error).strip().splitlines() or [""]
        return RoundingNoise(checked=False, reason=f"{type(error).__name__}: {lines[0]}")


def without_noise(
    layer: LayerStatistics, v: torch.Tensor, scale: float, mask: torch.Tensor, tail_fraction: float
) -> LayerStatistics:
    """Measure a layer over the entries that are not noise; its order statistics are exact.

    Args:
        layer: the layer as measured with all entries; gives name, kind and shape.
        v: its second moment.
        scale: v̂ = v · scale.
        mask: True at noise, of v's shape.
        tail_fraction: as in `measure`.

    Returns:
        The statistics, whose `entries` are those left. A layer of noise alone has none left, or only zeros, is then not
        measured and sets no bound.
    """
    rest = measure(layer.name, v[~mask.to(v.device)], scale, tail_fraction)
    return dataclasses.replace(rest, shape=layer.shape, kind=layer.kind)


def noise_share(layer: LayerStatistics, rest: LayerStatistics) -> float:
    """Return the share of a layer's non-zero entries that were left out as noise, in [0, 1]; 0 of a layer of zeros."""
    return 1 - rest.nonzero / layer.nonzero if layer.nonzero else 0.0


def _masks(
    bare: nn.Module, loss: Loss, batch: Any, optimizer: torch.optim.Optimizer | None
) -> dict[torch.Tensor, torch.Tensor]:
    """Return the masks by parameter; see `rounding_noise`."""
    if all(parameter.dtype == torch.float64 for parameter in bare.parameters()):
        raise CannotTell("the model computes in float64 already, and nothing more precise is there to compare with")
    devices = devices_of(bare)
    with left_as_found(bare), eager(), torch.enable_grad():
        before = [generator_states(device) for device in devices]
        own = magnitudes(bare, loss, batch, optimizer, None)
        random = not _equal(before, [generator_states(device) for device in devices])
        for device, states in zip(devices, before, strict=True):
            restore_generators(states, device)
        peaks = magnitudes(bare, loss, batch, optimizer, torch.float64)
        for _ in range(_DRAWS - 1 if random else 0):
            again = magnitudes(bare, loss, batch, optimizer, torch.float64)
            peaks = [None if a is None or b is None else torch.maximum(a, b) for a, b in zip(peaks, again, strict=True)]
    found: dict[torch.Tensor, torch.Tensor] = {}
    for parameter, low, high in zip(bare.parameters(), own, peaks, strict=True):
        mask = None if low is None or high is None else _mask(low, high, random=random)
        if mask is not None:
            found[parameter] = mask
    return found


def _mask(own: torch.Tensor, peak: torch.Tensor, *, random: bool) -> torch.Tensor | None:
    """Return where a layer's entries are noise; None where too few are.

    An entry that is zero in the model's precision says nothing by itself. It is noise where it does no better in
    float64 than those that are known to be, or where all others of its layer are.

    Args:
        own: magnitudes in the model's precision.
        peak: the largest in float64 over all draws.
        random: whether draws differ; then a peak of exactly zero says nothing: something was dropped.
    """
    own = own.to(peak.dtype)
    told = (own > 0) & (peak > 0) if random else own > 0
    noise = told & (peak * FALL < own)
    marked, in_all = int(noise.sum()), int(told.sum())
    if not marked or marked < LEAST_SHARE * in_all:
        return None
    if marked == in_all:
        return torch.ones_like(noise)
    return noise if random else noise | ((own == 0) & (peak > 0) & (peak <= peak[noise].max()))


def _equal(some: list[dict[str, torch.Tensor]], others: list[dict[str, torch.Tensor]]) -> bool:
    pairs = zip(some, others, strict=True)
    return all(torch.equal(states[name], other[name]) for states, other in pairs for name in states)
