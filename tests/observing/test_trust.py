"""Bounds of an observer leave out rounding noise and say how far to trust them, as those of a probe."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import epsgrid
from epsgrid.errors import ObservationError
from epsgrid.observing.observer import Observer, observe
from tests.numerics.reference import published_bounds
from tests.observing.samples import squares

STEPS = 30


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(12, 60), nn.BatchNorm1d(60), nn.ReLU(), nn.Linear(60, 40), nn.ReLU(), nn.Linear(40, 3)
    )


def batches(count: int = STEPS) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(count, 32, 12, generator=generator)
    return [(each, each[:, :3].argmax(1)) for each in inputs]


def loss(model: nn.Module, batch: Any) -> torch.Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def observed(model: nn.Module, **keywords: Any) -> Observer:
    optimizer = torch.optim.Adam(model.parameters())
    with observe(optimizer, model=model, **keywords) as observer:
        for batch in batches():
            optimizer.zero_grad()
            loss(model, batch).backward()
            optimizer.step()
    return observer


def without(observer: Observer, left_out: str = "") -> tuple[float, float]:
    """Return the published bounds over the other layers, by numpy."""
    kept = [layer for layer in observer.layers if layer.name != left_out]
    pairs = [squares(observer.optimizer, layer.parameter) for layer in kept]
    return published_bounds([v for v, _ in pairs], pairs[0][1])


@pytest.mark.parametrize("check", [False, True], ids=["by kind", "in float64"])
def test_a_bias_that_a_norm_cancels_sets_no_bound(check: bool) -> None:
    model = network()
    given = {"loss_fn": loss, "batch": batches(1)[0]} if check else {}
    observer = observed(model, **given)
    bounds = observer.bounds()
    assert (bounds.low.magnitude, bounds.high.magnitude) == pytest.approx(without(observer, "0.bias"), rel=1e-12)
    assert "0.bias" not in bounds.low.layers
    assert bounds.reliability is not None
    assert any("rounding noise, in 0.bias, is left out" in reason for reason in bounds.reliability.reasons)
    assert bounds.without_noise is None, "what is returned is without it already"
    assert [layer.name for layer in bounds.layers] == [name for name, _ in model.named_parameters()]


def test_the_confidence_is_that_of_a_probe() -> None:
    model = network()
    probed = epsgrid.probe(model, torch.optim.Adam(model.parameters()), batches(), loss, update_weights=True)
    trusted, bounds = probed.chosen("trusted"), observed(network()).bounds()
    assert bounds.decades == trusted.decades
    assert bounds.reliability is not None and trusted.reliability is not None
    assert bounds.reliability.verdict == trusted.reliability.verdict
    said = [reason.replace("the optimizer took", "the probe took") for reason in bounds.reliability.reasons]
    assert set(said) == set(trusted.reliability.reasons)


def test_a_bias_that_ought_to_be_cancelled_and_is_not_stays() -> None:
    """Where the norm is defined behind the layer, and used in front of it."""

    class Otherwise(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.linear, self.norm, self.head = nn.Linear(12, 12), nn.BatchNorm1d(12), nn.Linear(12, 3)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.head(self.linear(self.norm(inputs)).relu())

    observer = observed(Otherwise())
    assert observer.cancelled() == ("linear.bias",)
    bounds = observer.bounds()
    assert (bounds.low.magnitude, bounds.high.magnitude) == pytest.approx(without(observer), rel=1e-12)


def test_noise_is_no_part_of_a_diagnosis() -> None:
    observer = observed(network())
    diagnosis = observer.diagnosis()
    assert diagnosis.left_out == ("0.bias",)
    assert "0.bias" not in [layer.name for layer in diagnosis.layers]


def test_few_steps_make_the_confidence_low_and_loaded_states_count() -> None:
    model = network()
    optimizer = torch.optim.Adam(model.parameters())
    with observe(optimizer, model=model, every=None) as observer:
        for number, batch in enumerate(batches()):
            optimizer.zero_grad()
            loss(model, batch).backward()
            optimizer.step()
            if number == 3:
                early = observer.bounds().reliability
    assert early is not None and early.verdict == "low"
    assert any("the optimizer took 4 steps, fewer than 10" in reason for reason in early.reasons)
    resumed = torch.optim.Adam(model.parameters())
    resumed.load_state_dict(optimizer.state_dict())
    with observe(resumed, model=model) as late:
        found = late.bounds().reliability
    assert found is not None and any("the optimizer took 30 steps" in reason for reason in found.reasons)


def test_a_check_in_float64_leaves_everything_as_it_was_and_needs_all_it_asks_for() -> None:
    model = network()
    optimizer = torch.optim.Adam(model.parameters())
    before = [*(each.clone() for each in model.state_dict().values()), torch.get_rng_state()]
    observe(optimizer, model=model, loss_fn=loss, batch=batches(1)[0]).close()
    torch.testing.assert_close([*model.state_dict().values(), torch.get_rng_state()], before, rtol=0, atol=0)
    assert not optimizer.state and all(each.grad is None for each in model.parameters())
    for given in ({"loss_fn": loss}, {"batch": 1}):
        with pytest.raises(ObservationError, match="loss_fn, batch and model go together"):
            observe(optimizer, model=model, **given)
    with pytest.raises(ObservationError, match="loss_fn, batch and model go together"):
        observe(optimizer, model.named_parameters(), loss_fn=loss, batch=batches(1)[0])
