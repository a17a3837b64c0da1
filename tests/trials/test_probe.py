import math

import numpy as np
import pytest
import torch

from epsgrid.errors import NoBoundsError
from epsgrid.numerics.magnitudes import LayerStatus
from epsgrid.trials.building import seed_epoch
from epsgrid.trials.probe import run_probe
from tests.trials.conftest import make_setting

CPU = torch.device("cpu")


def plain_probe(setting, weight_decay=1e-4, beta2=0.999):
    """Compute the published estimate the plain way: keep v by hand, sort, index."""
    model = setting.model()
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


def test_batches_limit_and_several_epochs():
    per_epoch = make_setting().task.steps_per_epoch(64)
    for override, steps in [("batches=5", 5), ("epochs=2", 2 * per_epoch)]:
        setting = make_setting(f"probe.{override}")
        assert run_probe(setting.spec, setting.task, CPU).steps == steps


def test_rmsprop_compares_with_the_uncorrected_moment():
    adam = make_setting("optimizer.weight_decay=0")
    rmsprop = make_setting("optimizer=rmsprop")
    by_adam = run_probe(adam.spec, adam.task, CPU)
    by_rmsprop = run_probe(rmsprop.spec, rmsprop.task, CPU)
    ratio = by_rmsprop.bounds.high.magnitude / by_adam.bounds.high.magnitude
    assert ratio == pytest.approx(math.sqrt(1 - 0.999**by_adam.steps), rel=1e-4)


def test_sgdm_has_nothing_to_probe():
    setting = make_setting("optimizer=sgdm")
    with pytest.raises(NoBoundsError, match="'sgdm' has no epsilon"):
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


def variants(outcome, kind):
    return {variant.label: variant for variant in outcome.bounds.reliability.of_kind(kind)}


def test_further_seeds_are_whole_probes_of_their_own_and_set_nothing():
    alone = run_probe(make_setting().spec, make_setting().task, CPU)
    several = make_setting("probe.seeds=3")
    outcome = run_probe(several.spec, several.task, CPU)
    assert (outcome.bounds.low, outcome.bounds.high) == (alone.bounds.low, alone.bounds.high)
    seeds = variants(outcome, "seed")
    assert list(seeds) == ["seed 1", "seed 2"]
    for seed, label in ((1, "seed 1"), (2, "seed 2")):
        other = make_setting(f"probe.seed={seed}")
        own = run_probe(other.spec, other.task, CPU).bounds
        assert (seeds[label].low, seeds[label].high) == (own.low, own.high)


def test_frozen_weights_are_compared_with_moving_ones():
    compared = make_setting("probe.compare_weights=1e-2")
    moving = make_setting("probe.update_weights=true", "probe.learning_rate=1e-2")
    (variant,) = run_probe(compared.spec, compared.task, CPU).bounds.reliability.of_kind("weights")
    own = run_probe(moving.spec, moving.task, CPU).bounds
    assert variant.label == "moving at lr 0.01"
    assert (variant.low, variant.high) == (own.low, own.high)


def test_a_probe_that_may_settle_stops_early_at_the_same_decades():
    wide = ("model.hidden=[64]", "probe.epochs=8")
    setting, early = make_setting(*wide), make_setting(*wide, "probe.batches=settled")
    whole = run_probe(setting.spec, setting.task, CPU)
    outcome = run_probe(early.spec, early.task, CPU)
    assert 32 <= outcome.steps < whole.steps
    assert outcome.bounds.decades == whole.bounds.decades
    limited = make_setting(*wide, f"probe.batches={outcome.steps}")
    same = run_probe(limited.spec, limited.task, CPU).bounds
    assert (same.low, same.high) == (outcome.bounds.low, outcome.bounds.high)


def test_a_probe_that_never_settles_looks_at_all_batches():
    """With two images a batch the lower bound stands still for a dozen steps, long before it rises two decades."""
    early = make_setting("training.batch_size=2", "probe.batches=settled")
    outcome = run_probe(early.spec, early.task, CPU)
    assert outcome.steps == early.task.steps_per_epoch(2)
    course = outcome.bounds.reliability.course
    assert outcome.bounds.low.decade / course.low[0] > 100


def test_the_course_ends_at_the_bounds_and_is_what_shorter_probes_find():
    setting = make_setting()
    outcome = run_probe(setting.spec, setting.task, CPU)
    course = outcome.bounds.reliability.course
    assert course.steps == tuple(range(1, outcome.steps + 1))
    assert course.high[-1] == pytest.approx(outcome.bounds.high.epsilon, rel=0.01)
    short = make_setting("probe.batches=9")
    own = run_probe(short.spec, short.task, CPU).bounds
    assert course.low[8] == pytest.approx(own.low.epsilon, rel=0.01)
    assert course.high[8] == pytest.approx(own.high.epsilon, rel=0.01)


def test_snapshots_of_every_so_many_steps_are_kept():
    setting = make_setting("probe.every=5")
    outcome = run_probe(setting.spec, setting.task, CPU)
    assert [shot.step for shot in outcome.series.snapshots] == list(range(5, outcome.steps + 1, 5))
    assert outcome.series.names == tuple(layer.name for layer in outcome.bounds.layers)


def test_progress_counts_the_steps_of_all_probes():
    setting = make_setting("probe.seeds=2", "probe.compare_weights=0.01", "probe.batches=4")
    seen = []
    run_probe(setting.spec, setting.task, CPU, lambda done, of: seen.append((done, of)))
    assert seen == [(n, 12) for n in range(1, 13)]
