"""Read what an optimizer's ε is compared with, for every parameter, as it stands now.

This is the gradient-magnitude histogram of Silva & Rodriguez (arXiv 2311.11532): the distribution of √v̂ over the
entries of each parameter tensor, taken from the optimizer's own state, not recomputed beside it.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from epsgrid.numerics.counting import measure
from epsgrid.numerics.magnitudes import LayerStatistics, LayerStatus
from epsgrid.optimizers import OptimizerPlugin


def measure_layers(
    optimizer: torch.optim.Optimizer,
    named_parameters: Iterable[tuple[str, torch.nn.Parameter]],
    plugin: OptimizerPlugin,
    tail_fraction: float,
) -> tuple[LayerStatistics, ...]:
    """Measure √v̂ of every parameter, in the order of `named_parameters`.

    Args:
        optimizer: an optimizer that has stepped at least once.
        named_parameters: what `model.named_parameters()` gives; a shared (tied) tensor appears once, under its first
            name.
        plugin: knows where this optimizer keeps v.
        tail_fraction: the published 0.02: order statistics are taken at this fraction and at one minus it.

    Returns:
        One entry per parameter. A parameter that is frozen, has no gradient, has no entries or only zeros is listed
        with that status and sets no bound.
    """
    groups = {id(parameter): group for group in optimizer.param_groups for parameter in group["params"]}
    return tuple(
        _measure_parameter(name, parameter, optimizer, groups.get(id(parameter)), plugin, tail_fraction)
        for name, parameter in named_parameters
    )


def _measure_parameter(
    name: str,
    parameter: torch.nn.Parameter,
    optimizer: torch.optim.Optimizer,
    group: dict[str, object] | None,
    plugin: OptimizerPlugin,
    tail_fraction: float,
) -> LayerStatistics:
    shape = tuple(parameter.shape)
    if group is None or not parameter.requires_grad:
        return LayerStatistics.unmeasured(name, shape, LayerStatus.FROZEN)
    moment = plugin.second_moment(optimizer.state.get(parameter, {}), group)
    if moment is None:
        return LayerStatistics.unmeasured(name, shape, LayerStatus.NO_GRADIENT)
    return measure(name, moment.values, moment.scale, tail_fraction)
