"""The alarm in a training: it goes where gradients are far below ε, and following it repairs the training."""

from __future__ import annotations

import re
import warnings
from typing import Any

import pytest
import torch
from torch import nn

import epsgrid
from epsgrid.observing.diagnosis import EpsilonWarning
from epsgrid.observing.observer import observe
from tests.observing.samples import OPTIMIZERS, mlp, train

TINY = 1e-9
"""Gradients are multiplied by it."""


def fit(epsilon: float, steps: int, **keywords: Any) -> tuple[float, list[str], epsgrid.observing.observer.Observer]:
    """Train a classifier on a loss in tiny units; return the last loss, the warnings and the observer."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(64 * steps, 20, generator=generator)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 3))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, eps=epsilon)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        observer = observe(optimizer, model=model, **keywords)
        for batch in inputs.split(64):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(batch), batch[:, :3].argmax(1))
            (TINY * loss).backward()
            optimizer.step()
    assert all(each.category is EpsilonWarning for each in caught)
    assert all(each.filename == __file__ for each in caught), "it points at the line that calls step"
    return loss.item(), [str(each.message) for each in caught], observer


def test_it_goes_within_fifty_steps_and_its_advice_repairs_the_training() -> None:
    loss, said, observer = fit(1e-8, 60, alarm=True)
    (warning,) = said
    assert warning.startswith("Adam, step 40: ε shortens the steps of 4 of 4 layers")
    advice = min(float(each) for each in re.findall(r"from (\S+) on they are not shortened", warning))
    repaired, said_then, _ = fit(advice, 60, alarm=True)
    assert (repaired < 0.2 < 1 < loss, said_then) == (True, [])
    assert {layer.finding for layer in observer.diagnosis().layers} == {"momentum SGD"}
    observer.close()
    assert "Shortened in 4 of 4 layers:" in str(observer.diagnosis()), "it answers when closed"


def test_it_is_silent_unless_asked_and_where_every_layer_adapts() -> None:
    assert fit(1e-8, 60)[1] == []
    assert fit(1e-13, 60, alarm=True)[1] == []


def test_it_ends_no_training_where_warnings_are_errors(capsys: pytest.CaptureFixture[str]) -> None:
    model = nn.Linear(6, 2)
    optimizer = torch.optim.Adam(model.parameters(), eps=1e3)
    with observe(optimizer, model=model, alarm=True) as observer:
        train(model, optimizer, 45)
    assert "EpsilonWarning: Adam, step 40: ε shortens the steps of 2 of 2 layers" in capsys.readouterr().err
    assert observer.series().steps[-1] == 45, "and it goes on counting"


def test_a_resumed_training_is_looked_at_from_where_it_goes_on() -> None:
    model = nn.Linear(6, 2)
    optimizer = torch.optim.Adam(model.parameters(), eps=1e3)
    observer = observe(optimizer, model=model, alarm=True)
    observer.step = 1000
    with pytest.warns(EpsilonWarning, match="Adam, step 1,040: ε shortens"):
        train(model, optimizer, 45)
    observer.close()


def test_it_looks_whatever_the_steps_between_counts() -> None:
    for every in (7, None):
        assert fit(1e-8, 60, alarm=True, every=every)[1][0].startswith("Adam, step 40:")


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_is_bit_identical_with_the_alarm(name: str) -> None:
    weights = []
    for watched in (False, True):
        model = mlp()
        optimizer = OPTIMIZERS[name](model.parameters())
        observer = observe(optimizer, model=model, alarm=watched)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EpsilonWarning)
            train(model, optimizer, 45)
        observer.close()
        weights.append([*model.parameters(), torch.get_rng_state()])
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=0)


def test_groups_have_their_own_epsilon() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    groups = [{"params": model[0].parameters(), "eps": 1e3}, {"params": model[1].parameters(), "eps": 1e-12}]
    optimizer = torch.optim.Adam(groups, lr=1e-3)
    with observe(optimizer, model=model) as observer:
        model(torch.ones(3, 4)).square().sum().backward()
        optimizer.step()
    found = {layer.name: layer.finding for layer in observer.diagnosis().layers}
    assert found == {"0.weight": "momentum SGD", "0.bias": "momentum SGD", "1.weight": "", "1.bias": ""}
