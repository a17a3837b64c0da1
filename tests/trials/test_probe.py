import math

import numpy as np
import pytest
import torch

from epsgrid import models
from epsgrid.errors import NoBoundsError
from epsgrid.numerics.magnitudes import LayerStatus
from epsgrid.trials.probe import left_as_found, run_probe
from epsgrid.trials.seeding import seed_epoch, seed_weights
from tests.trials.conftest import make_setting

CPU = torch.device("cpu")


def plain_probe(setting, weight_decay=1e-4, beta2=0.999):
    """Compute the published estimate the plain way: keep v by hand, sort, index."""
    seed_weights(0)
    model = models.load("mlp").build(setting.spec.model, setting.task.inputs, setting.task.outputs)
    moments = {name: torch.zeros_like(p, dtype=torch.float64) for name, p in model.named_parameters()}
    model.train()
    seed_epoch(0, 0)
    steps = 0
    for batch in setting.task.batches(0, 0, setting.spec.training.batch_size):
        model.zero_grad()
        setting.task.loss(model, batch).backward()
        for name, parameter in model.named_parameters():
            gradient = (parameter.grad + weight_decay * parameter.detach()).double()
            moments[name] = beta2 * moments[name] + (1 - beta2) * gradient**2
        steps += 1
    low, high = math.inf, 0.0
    for moment in moments.values():
        values = np.sqrt(np.sort(moment[moment > 0].numpy()) / (1 - beta2**steps))
        low, high = min(low, values[int(0.02 * len(values))]), max(high, values[int(0.98 * len(values))])
    return low, high, steps


def test_probe_equals_the_plain_computation(setting):
    low, high, steps = plain_probe(setting)
    outcome = run_probe(setting.spec, setting.task, CPU)
    assert outcome.steps == steps
    assert outcome.bounds.low.magnitude == pytest.approx(low, rel=1e-5)
    assert outcome.bounds.high.magnitude == pytest.approx(high, rel=1e-5)


def test_two_calls_give_the_same_answer(setting):
    first, second = (run_probe(setting.spec, setting.task, CPU).bounds for _ in range(2))
    assert first == second


def test_progress_is_told_every_step(setting):
    seen = []
    outcome = run_probe(setting.spec, setting.task, CPU, lambda done, of: seen.append((done, of)))
    assert seen == [(n + 1, outcome.steps) for n in range(outcome.steps)]


def test_batches_limit_and_several_epochs():
    per_epoch = make_setting().task.steps_per_epoch(64)
    for override, steps in [("batches=5", 5), ("epochs=2", 2 * per_epoch)]:
        setting = make_setting(f"probe.{override}")
        assert run_probe(setting.spec, setting.task, CPU).steps == steps


def test_moving_weights_give_other_bounds_than_frozen_ones(setting):
    moving = make_setting("probe.update_weights=true", "probe.learning_rate=1e-2")
    frozen_bounds = run_probe(setting.spec, setting.task, CPU).bounds
    moving_bounds = run_probe(moving.spec, moving.task, CPU).bounds
    assert frozen_bounds.high.magnitude != moving_bounds.high.magnitude


def test_rmsprop_compares_with_the_uncorrected_moment():
    adam = make_setting("optimizer.weight_decay=0")
    rmsprop = make_setting("optimizer=rmsprop")
    by_adam = run_probe(adam.spec, adam.task, CPU)
    by_rmsprop = run_probe(rmsprop.spec, rmsprop.task, CPU)
    ratio = by_rmsprop.bounds.high.magnitude / by_adam.bounds.high.magnitude
    assert ratio == pytest.approx(math.sqrt(1 - 0.999**by_adam.steps), rel=1e-4)


def test_sgdm_has_nothing_to_probe():
    setting = make_setting("optimizer=sgdm")
    with pytest.raises(NoBoundsError, match="'sgdm' has no adaptive denominator"):
        run_probe(setting.spec, setting.task, CPU)


class Unused(torch.nn.Module):
    """A linear model with a frozen, an unused and an always-zero-gradient parameter."""

    def __init__(self, inputs):
        super().__init__()
        self.linear = torch.nn.Linear(math.prod(inputs), 10)
        self.frozen = torch.nn.Parameter(torch.ones(3), requires_grad=False)
        self.unused = torch.nn.Parameter(torch.ones(4))
        self.dead = torch.nn.Parameter(torch.zeros(5))
        self.empty = torch.nn.Parameter(torch.zeros(0))

    def forward(self, x):
        return self.linear(x.flatten(1)) + 0 * self.dead.sum() + self.empty.sum()


def test_layers_without_moments_are_listed(setting, monkeypatch):
    monkeypatch.setattr("epsgrid.models.mlp.build", lambda options, inputs, outputs: Unused(inputs))
    spec = setting.spec.model_copy(
        update={"optimizer": setting.spec.optimizer.model_copy(update={"weight_decay": 0.0})}
    )
    bounds = run_probe(spec, setting.task, CPU).bounds
    assert {layer.name: layer.status for layer in bounds.skipped} == {
        "frozen": LayerStatus.FROZEN,
        "unused": LayerStatus.NO_GRADIENT,
        "dead": LayerStatus.ALL_ZERO,
        "empty": LayerStatus.EMPTY,
    }


def test_model_is_left_as_found():
    model = torch.nn.Sequential(
        torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4), torch.nn.Dropout(), torch.nn.Linear(4, 2)
    )
    model[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    with left_as_found(model, CPU):
        model.train()
        model(torch.randn(8, 4)).sum().backward()
        with torch.no_grad():
            model[0].weight += 1
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training
    assert not model[1].training
    assert torch.equal(random, torch.get_rng_state())


def test_weights_do_not_move_while_probing(setting, monkeypatch):
    built = []
    original = models.load("mlp").build
    monkeypatch.setattr("epsgrid.models.mlp.build", lambda *arguments: built.append(original(*arguments)) or built[-1])
    seen = []

    def look(done, of):
        seen.append([parameter.detach().clone() for parameter in built[0].parameters()])

    run_probe(setting.spec, setting.task, CPU, look)
    for weights in seen[1:]:
        assert all(torch.equal(a, b) for a, b in zip(weights, seen[0], strict=True))
