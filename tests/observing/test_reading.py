"""What is read from an optimizer's state now: exact order statistics, statuses, bounds over groups that differ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from epsgrid.errors import ObservationError
from epsgrid.numerics.bounds import EpsilonBounds
from epsgrid.numerics.magnitudes import LayerStatistics, LayerStatus
from epsgrid.numerics.placement import Placement
from epsgrid.observing.adapters import adapter_for
from epsgrid.observing.layers import Layer, named_layers
from epsgrid.observing.observer import AdaptableFraction, Observer
from epsgrid.observing.reading import (
    Reading,
    bounds_by_placement,
    local,
    measure_reading,
    read,
    threshold_of,
)
from tests.observing.samples import OPTIMIZERS


def readings_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[Reading, ...]:
    return read(optimizer, named_layers(optimizer, model=model), adapter_for(optimizer))


def test_a_state_of_another_model_is_told_by_name() -> None:
    model, other = nn.Linear(3, 2), nn.Linear(4, 2)
    optimizer, theirs = (torch.optim.Adam(each.parameters()) for each in (model, other))
    other(torch.ones(1, 4)).sum().backward()
    theirs.step()
    optimizer.load_state_dict(theirs.state_dict())
    words = r"layer 'weight': its second moment has the shape 2×4, and the parameter 2×3: was the .* of another model\?"
    with pytest.raises(ObservationError, match=words):
        readings_of(model, optimizer)


def bounds_of(optimizer: torch.optim.Optimizer, names: Any) -> tuple[list[LayerStatistics], EpsilonBounds]:
    readings = read(optimizer, named_layers(optimizer, names), adapter_for(optimizer))
    statistics = [measure_reading(reading, 0.02) for reading in readings]
    return statistics, bounds_by_placement(statistics, [reading.placement for reading in readings], 0.02)


def test_each_group_converts_with_its_own_placement() -> None:
    """Two in-place groups with their own β₂: an ε of one is a hundred times as heavy as of the other."""
    first, second = nn.Parameter(torch.ones(60)), nn.Parameter(torch.ones(60))
    build = OPTIMIZERS["eadam"]
    optimizer = build([{"params": [first], "betas": (0.9, 0.9)}, {"params": [second], "betas": (0.9, 0.999)}])
    first.grad, second.grad = torch.linspace(1, 2, 60), torch.linspace(3, 4, 60)
    optimizer.step()
    statistics, bounds = bounds_of(optimizer, [("a", first), ("b", second)])
    epsilons = {}
    for layer, beta2 in zip(statistics, (0.9, 0.999), strict=True):
        assert layer.low is not None and layer.high is not None
        epsilons[layer.name] = (layer.low**2 * (1 - beta2), layer.high**2 * (1 - beta2))
    assert bounds.low.layers == ("b",) and bounds.high.layers == ("a",)  # by magnitude it is the other way round
    assert bounds.low.epsilon == pytest.approx(epsilons["b"][0])
    assert bounds.high.epsilon == pytest.approx(epsilons["a"][1])
    assert bounds.low.magnitude == statistics[1].low
    assert bounds.layers == tuple(statistics)


def threshold(*groups: dict[str, Any], steps: int = 4) -> float | None:
    """Train by RAdam, whose threshold changes with the steps; each parameter begins a step later than the one before.

    A group may hold several parameters, as "parameters" says.
    """
    made = [
        {"eps": group["eps"], "params": [nn.Parameter(torch.ones(3)) for _ in range(group.get("parameters", 1))]}
        for group in groups
    ]
    optimizer = torch.optim.RAdam(made, betas=(0.9, 0.99))
    parameters = [parameter for group in made for parameter in group["params"]]
    for step in range(steps):
        for place, parameter in enumerate(parameters):
            parameter.grad = torch.ones(3) if place <= step else None
        optimizer.step()
    names = [(str(place), parameter) for place, parameter in enumerate(parameters)]
    readings = read(optimizer, named_layers(optimizer, names), adapter_for(optimizer))
    return threshold_of(adapter_for(optimizer), ((each.layer.group, each.step, each.epsilon) for each in readings))


def test_the_threshold_is_the_magnitude_of_the_optimizers_own_epsilon() -> None:
    expected = pytest.approx(1e-6 / math.sqrt(1 - 0.99**4))
    assert threshold({"eps": 1e-6}) == expected
    assert threshold({"eps": 1e-6, "parameters": 3}) == expected  # of a group the layer with most steps counts
    assert threshold({"eps": torch.tensor(1e-6)}) == expected
    assert threshold({"eps": 1e-6}, {"eps": 1e-7}) is None
    assert threshold({"eps": 1e-6}, {"eps": 1e-6}) is None  # the second one has taken a step less
    assert threshold_of(adapter_for(torch.optim.RAdam([nn.Parameter(torch.ones(1))])), ()) is None


def test_what_is_read_of_a_tensor_is_its_part_in_this_process_without_gradient() -> None:
    class Sharded(torch.Tensor):
        def to_local(self) -> torch.Tensor:
            return torch.full((2,), 7.0)

    plain = torch.ones(3)
    assert local(plain) is plain
    assert not local(nn.Parameter(torch.ones(3)) * 2).requires_grad
    assert type(local(nn.Parameter(plain))) is torch.Tensor
    assert torch.equal(local(torch.ones(8).as_subclass(Sharded)), torch.full((2,), 7.0))


# The share of the weights that adapt


def adaptable_fraction(readings: Sequence[Reading], epsilon: float | None = None) -> AdaptableFraction:
    return Observer.adaptable_fraction(SimpleNamespace(_readings=lambda: readings), epsilon)  # type: ignore[arg-type]


def layer_of(v: torch.Tensor, name: str = "w", scale: float = 1.0, eps: float | None = 1e-3) -> Reading:
    layer = Layer(name, torch.nn.Parameter(torch.zeros(v.shape)), {} if eps is None else {"eps": eps})
    return Reading(layer, LayerStatus.MEASURED, v, scale, 1.0, Placement.outside())


def test_each_layer_is_compared_with_its_own_epsilon_unless_one_is_given() -> None:
    readings = [
        layer_of(torch.tensor([1.0, 4.0]), "a", eps=1.5),
        layer_of(torch.tensor([1.0, 4.0, 9.0, 16.0]), "b", eps=3.5),
    ]
    found = adaptable_fraction(readings)
    assert found.layers == {"a": 0.5, "b": 0.25}
    assert found.total == 2 / 6
    assert adaptable_fraction(readings, 0.5).layers == {"a": 1.0, "b": 1.0}


def test_layers_without_a_finite_entry_are_left_out() -> None:
    readings = [
        layer_of(torch.tensor([torch.nan]), "nan"),
        layer_of(torch.zeros(0), "empty"),
        Reading(Layer("idle", torch.nn.Parameter(torch.ones(3)), {}), LayerStatus.NO_GRADIENT),
    ]
    assert adaptable_fraction(readings).layers == {}
    assert adaptable_fraction(readings).total == 0
    assert adaptable_fraction([*readings, layer_of(torch.zeros(2), "zero")]).layers == {"zero": 0.0}


def test_an_epsilon_is_needed_and_at_least_zero() -> None:
    reading = layer_of(torch.ones(2), eps=None)
    with pytest.raises(ObservationError, match="the parameter group of layer 'w' has no single \"eps\"; give epsilon="):
        adaptable_fraction([reading])
    assert adaptable_fraction([reading], 0.5).total == 1
    for epsilon in (-1e-9, math.nan):
        with pytest.raises(ObservationError, match="epsilon must be at least 0, got "):
            adaptable_fraction([reading], epsilon)
