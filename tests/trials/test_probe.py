import math

import numpy as np
import pytest
import torch

from epsgrid.errors import NoBoundsError, ObservationError
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


def test_progress_counts_the_steps_of_all_probes():
    setting = make_setting("probe.seeds=2", "probe.compare_weights=0.01", "probe.batches=4")
    seen = []
    run_probe(setting.spec, setting.task, CPU, lambda done, of: seen.append((done, of)))
    assert seen == [(n, 12) for n in range(1, 13)]


def test_wrong_optimizers_are_refused():
    setting = make_setting("optimizer=sgdm")
    with pytest.raises(NoBoundsError, match="'sgdm' has no adaptive denominator"):
        run_probe(setting.spec, setting.task, CPU)
    setting = make_setting("optimizer=adagrad", "probe.beta2=[0.9]")
    with pytest.raises(ObservationError, match="decay"):
        run_probe(setting.spec, setting.task, CPU)


@pytest.mark.parametrize(
    ("compared", "kind", "label", "own"),
    [
        ("probe.seeds=3", "seed", "seed 2", ["probe.seed=2"]),
        (
            "probe.compare_weights=1e-2",
            "weights",
            "moving at lr 0.01",
            ["probe.update_weights=true", "probe.learning_rate=1e-2"],
        ),
        ("probe.beta2=[0.9,0.99]", "betas", "β₂ = 0.9", ["optimizer.betas=[0.9,0.9]"]),
    ],
)
def test_what_bounds_are_compared_with_is_a_probe_of_its_own_and_sets_nothing(compared, kind, label, own):
    alone, several, other = make_setting(), make_setting(compared), make_setting(*own)
    bounds = run_probe(several.spec, several.task, CPU).bounds
    undisturbed = run_probe(alone.spec, alone.task, CPU).bounds
    assert (bounds.low, bounds.high) == (undisturbed.low, undisturbed.high)
    (variant,) = (each for each in bounds.reliability.of_kind(kind) if each.label == label)
    expected = run_probe(other.spec, other.task, CPU).bounds
    assert variant.low.magnitude == pytest.approx(expected.low.magnitude, rel=1e-6)
    assert variant.high.magnitude == pytest.approx(expected.high.magnitude, rel=1e-6)


def test_steps_and_snapshots_are_those_asked_for():
    per_epoch = make_setting().task.steps_per_epoch(64)
    for override, steps in [("batches=7", 7), ("epochs=2", 2 * per_epoch)]:
        setting = make_setting(f"probe.{override}", "probe.every=5")
        outcome = run_probe(setting.spec, setting.task, CPU)
        assert outcome.steps == steps
        assert [shot.step for shot in outcome.series.snapshots] == list(range(5, steps + 1, 5))
        assert outcome.series.names == tuple(layer.name for layer in outcome.bounds.layers)
