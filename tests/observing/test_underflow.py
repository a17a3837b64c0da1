"""An ε that half precision cannot hold is warned of before it does harm."""

from __future__ import annotations

import warnings

import pytest
import torch

import epsgrid
from epsgrid.observing.underflow import warn_of_underflow

Batch = tuple[torch.Tensor, torch.Tensor]


def small(dtype: torch.dtype) -> tuple[torch.nn.Module, list[Batch]]:
    torch.manual_seed(0)
    model = torch.nn.Linear(8, 3).to(dtype)
    return model, [(torch.randn(16, 8).to(dtype), torch.randint(3, (16,))) for _ in range(3)]


def loss(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(model(batch[0]).float(), batch[1])


def test_observe_warns_of_an_epsilon_that_is_zero_in_float16() -> None:
    """torch's default of 1e-8 makes weights NaN there; afterwards all that was heard of was a loss not finite."""
    model, batches = small(torch.float16)
    optimizer = torch.optim.Adam(model.parameters())
    with (
        pytest.warns(RuntimeWarning, match=r"Adam: epsilon 1e-08 is 0 in float16.*0/0; keep the optimizer in float32"),
        epsgrid.observe(optimizer, model=model),
    ):
        pass
    model.weight.data[0] = 0  # a weight whose gradient is zero from the first step on
    batches[0][0].zero_()
    loss(model, batches[0]).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    assert model.weight.isnan().any()


def test_the_probe_warns_likewise() -> None:
    model, batches = small(torch.float16)
    with pytest.warns(RuntimeWarning, match="AdamW: epsilon 1e-08 is 0 in float16"):
        epsgrid.probe(model, torch.optim.AdamW(model.parameters()), batches, loss)


@pytest.mark.parametrize(
    ("dtype", "epsilon", "words"),
    [
        (torch.float16, 1e-6, "below 6e-05, the smallest normal number of float16"),
        (torch.bfloat16, 1e-42, "is 0 in bfloat16"),
        (torch.float32, 1e-40, "below 1e-38"),
    ],
)
def test_every_group_is_looked_at_and_one_reason_told_once(dtype: torch.dtype, epsilon: float, words: str) -> None:
    groups = [
        {"params": [torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))], "eps": epsilon},
        *({"params": [torch.nn.Parameter(torch.zeros(2, dtype=dtype))], "eps": epsilon} for _ in range(2)),
    ]
    with pytest.warns(RuntimeWarning, match=words) as told:
        warn_of_underflow(torch.optim.Adam(groups))
    assert len(told) == 1


@pytest.mark.parametrize(
    ("dtype", "settings"),
    [
        (torch.bfloat16, {}),
        (torch.float32, {"eps": 1e-16}),
        (torch.float32, {"eps": torch.tensor(1e-8)}),
        (torch.float16, {"eps": 1e-3}),
        (torch.float16, {"eps": 0.0}),
        (torch.float16, {"fused": True}),  # computes in float32
    ],
)
def test_an_epsilon_that_fits_is_not_warned_of(dtype: torch.dtype, settings: dict[str, object]) -> None:
    parameter = torch.nn.Parameter(torch.zeros(2, dtype=dtype))
    optimizer = torch.optim.Adam([parameter])
    optimizer.param_groups[0].update(settings)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_underflow(optimizer)
        warn_of_underflow(torch.optim.SGD([parameter]))


def test_a_fused_step_in_float16_keeps_what_an_unfused_one_loses() -> None:
    """Why nothing is said of it: zero gradients leave the weights where they are."""
    parameter = torch.nn.Parameter(torch.ones(4, dtype=torch.float16))
    optimizer = torch.optim.Adam([parameter], fused=True)
    parameter.grad = torch.zeros(4, dtype=torch.float16)
    optimizer.step()
    assert parameter.tolist() == [1.0] * 4
