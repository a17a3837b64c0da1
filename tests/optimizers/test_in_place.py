"""Our foreach optimizers against a loop that stores ε in v, as the published code does."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import Any

import pytest
import torch

from epsgrid import optimizers
from epsgrid.optimizers._in_place import rectification

SHAPES = [(3, 4), (5,), (), (2, 3, 2), (0,)]
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("adabelief", {}),
    ("adabelief", {"rectify": True}),
    ("adabelief", {"weight_decay": 0.3, "decoupled_weight_decay": True, "betas": (0.8, 0.95), "rectify": True}),
    ("adamomentum", {}),
    ("adamomentum", {"weight_decay": 0.3, "betas": (0.0, 0.9)}),
    ("eadam", {"weight_decay": 0.3}),
]


class Loop:
    """One tensor after the other, ε added to the stored v; each number where the published code has it."""

    def __init__(self, name: str, parameters: Iterable[torch.Tensor], options: Any, rate: float, epsilon: float):
        self.name, self.parameters, self.options = name, list(parameters), options
        self.rate, self.epsilon = rate, epsilon
        self.state = [
            {"t": 0, "m": torch.zeros_like(parameter), "v": torch.zeros_like(parameter)}
            for parameter in self.parameters
        ]

    def step(self) -> None:
        for parameter, state in zip(self.parameters, self.state, strict=True):
            if parameter.grad is not None:
                self._step(parameter, parameter.grad, state)

    @torch.no_grad()
    def _step(self, parameter: torch.Tensor, gradient: torch.Tensor, state: dict[str, Any]) -> None:
        beta1, beta2 = self.options.betas
        if getattr(self.options, "decoupled_weight_decay", False):
            parameter.mul_(1 - self.rate * self.options.weight_decay)
        else:
            gradient = gradient + self.options.weight_decay * parameter
        state["t"] += 1
        t, m, v = state["t"], state["m"], state["v"]
        m.mul_(beta1).add_(gradient, alpha=1 - beta1)
        x = {"adabelief": gradient - m, "adamomentum": m, "eadam": gradient}[self.name]
        v.mul_(beta2).addcmul_(x, x, value=1 - beta2)
        v.add_(self.epsilon)
        outer = self.epsilon if self.name == "adabelief" else 0.0
        step = self.rate / (1 - beta1**t)
        if not getattr(self.options, "rectify", False):
            parameter.addcdiv_(m, v.sqrt() / math.sqrt(1 - beta2**t) + outer, value=-step)
            return
        factor = rectification(beta2, t)
        if factor is None:
            parameter.add_(m, alpha=-step)
        else:
            parameter.addcdiv_(m, v.sqrt() + outer, value=-step * factor * math.sqrt(1 - beta2**t))


def train(name: str, settings: dict[str, Any], epsilon: float, dtype: torch.dtype, looped: bool) -> list[torch.Tensor]:
    """Take 60 steps on a bowl with noise, with a parameter that has no gradient every third time."""
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in SHAPES]
    parameters = [torch.nn.Parameter(each.to(dtype)) for each in start]
    plugin = optimizers.load(name)
    options = plugin.Options(name=name, **settings)
    optimizer: Any
    if looped:
        optimizer = Loop(name, parameters, options, 0.01, epsilon)
    else:
        optimizer = plugin.build(parameters, options, 0.01, epsilon)
    for step in range(60):
        for parameter in parameters:
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(dtype)
            parameter.grad = parameter.detach() + noise
        if step % 3 == 1:
            parameters[1].grad = None
        optimizer.step()
    return [parameter.detach() for parameter in parameters]


@pytest.mark.parametrize(("name", "settings"), VARIANTS)
@pytest.mark.parametrize("epsilon", [1e-16, 1e-8, 1e-3, 10.0])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 1e-5)])
def test_the_published_loop_goes_the_same_way(
    name: str, settings: dict[str, Any], epsilon: float, dtype: torch.dtype, tolerance: float
) -> None:
    ours = train(name, settings, epsilon, dtype, looped=False)
    published = train(name, settings, epsilon, dtype, looped=True)
    for mine, theirs in zip(ours, published, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("beta2", [0.9, 0.98, 0.999])
def test_rectification_begins_when_the_average_is_long_enough_and_tends_to_one(beta2: float) -> None:
    factors = [rectification(beta2, t) for t in range(1, 20_000)]
    begins = next(index for index, factor in enumerate(factors) if factor is not None)
    assert 4 <= begins <= 6
    numbers = [factor for factor in factors if factor is not None]
    assert len(numbers) == len(factors) - begins
    assert all(before <= after + 1e-12 for before, after in itertools.pairwise(numbers))
    assert numbers[-1] == pytest.approx(1.0, abs=1e-6)


def test_a_closure_is_called_with_gradients_on() -> None:
    plugin = optimizers.load("eadam")
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = plugin.build([parameter], plugin.Options(name="eadam"), 0.1, 1e-8)

    def closure() -> float:
        loss = (parameter**2).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.item()

    assert optimizer.step(closure) == 2.0
    assert (parameter.detach() < 1).all()


def test_shape_and_layout_of_a_parameter_are_kept() -> None:
    plugin = optimizers.load("adabelief")
    parameter = torch.nn.Parameter(torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last))
    optimizer = plugin.build([parameter], plugin.Options(name="adabelief"), 0.1, 1e-8)
    parameter.grad = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    optimizer.step()
    assert optimizer.state[parameter]["exp_avg_sq"].is_contiguous(memory_format=torch.channels_last)
