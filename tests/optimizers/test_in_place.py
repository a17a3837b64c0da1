"""Our foreach optimizers against the references, which store ε in v as the published code does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from epsgrid import optimizers
from tests.optimizers.references import REFERENCES

SHAPES = [(3, 4), (5,), (), (2, 3, 2), (0,)]
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("adabelief", {}),
    ("adabelief", {"rectify": True}),
    ("adabelief", {"weight_decay": 0.3, "decoupled_weight_decay": True, "betas": (0.8, 0.95), "rectify": True}),
    ("adamomentum", {}),
    ("adamomentum", {"weight_decay": 0.3, "betas": (0.0, 0.9)}),
    ("eadam", {"weight_decay": 0.3}),
]


@pytest.mark.parametrize(("name", "settings"), VARIANTS)
@pytest.mark.parametrize("epsilon", [1e-16, 1e-8, 1e-3, 10.0])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 1e-5)])
def test_sixty_steps_go_the_published_way(
    name: str, settings: dict[str, Any], epsilon: float, dtype: torch.dtype, tolerance: float
) -> None:
    """The reference stores ε in v, as the published code does; one parameter has no gradient every third time."""
    plugin, random = optimizers.load(name), np.random.default_rng(0)
    options = plugin.Options(name=name, **settings)
    starts = [random.standard_normal(shape) for shape in SHAPES]
    parameters = [torch.nn.Parameter(torch.tensor(start, dtype=dtype)) for start in starts]
    optimizer = plugin.build(parameters, options, 0.01, epsilon)
    given: list[list[np.ndarray]] = [[] for _ in SHAPES]
    for step in range(60):
        for place, parameter in enumerate(parameters):
            gradient = None if step % 3 == place == 1 else random.standard_normal(SHAPES[place])
            parameter.grad = None if gradient is None else torch.tensor(gradient, dtype=dtype)
            if gradient is not None:
                given[place].append(gradient)
        optimizer.step()
    for start, gradients, parameter in zip(starts, given, parameters, strict=True):
        expected, _ = REFERENCES[name](options, epsilon, 0.01, start, gradients)
        torch.testing.assert_close(parameter.double(), torch.as_tensor(expected), rtol=tolerance, atol=tolerance)


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
