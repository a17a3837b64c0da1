"""SVAG as a trial option, against a plain loop, an enumeration of all pairs, and plain training."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from epsgrid.errors import ScalingError, SpecError
from epsgrid.numerics.scaling import svag_weights
from epsgrid.stages.experiment import prepare_data
from epsgrid.store.paths import TrialFolder
from epsgrid.store.records import read_epochs
from epsgrid.trials import svag
from epsgrid.trials.building import seed_epoch
from tests.trials.conftest import make_setting
from tests.trials.test_train import without_times

SHORT = ("training.epochs=2", "training.batch_size=256")


@pytest.mark.parametrize("factor", [1, 2, 3, 8])
def test_the_weights_keep_the_mean_and_multiply_the_variance_by_l_squared(factor):
    plus, minus = svag_weights(factor)
    assert plus + minus == pytest.approx(1, abs=1e-14)
    assert plus**2 + minus**2 == pytest.approx(factor**2, rel=1e-14)


@pytest.mark.parametrize("factor", [2, 4])
def test_the_combined_gradient_has_the_mean_and_l_times_the_noise(factor):
    """Over all pairs of minibatches, each as likely: no sampling, so no tolerance but rounding."""
    random = np.random.default_rng(0)
    inputs, targets = random.normal(size=(5, 3)), random.normal(size=5)
    minibatches = list(itertools.combinations(range(5), 2))
    model = torch.nn.Linear(3, 1, bias=False, dtype=torch.float64)
    task = SimpleNamespace(
        loss=lambda model, batch: (
            (model(torch.tensor(inputs[batch, :])) - torch.tensor(targets[batch, None])) ** 2
        ).mean()
    )
    weight = model.weight.detach().numpy()[0]
    single = np.array(
        [2 * (inputs[b, :].T @ (inputs[b, :] @ weight - targets[b,])) / 2 for b in map(list, minibatches)]
    )
    combined = []
    for first, second in itertools.product(map(list, minibatches), repeat=2):
        loss, _ = svag.losses(task, model, svag._Pair(first, second, svag_weights(factor)))
        combined.append(torch.autograd.grad(loss, model.weight)[0].numpy()[0])
    np.testing.assert_allclose(np.mean(combined, 0), single.mean(0), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(
        np.cov(combined, rowvar=False, ddof=0), factor**2 * np.cov(single, rowvar=False, ddof=0), rtol=1e-10
    )


def test_the_loss_reported_is_the_mean_of_both():
    task = SimpleNamespace(loss=lambda model, batch: torch.tensor(batch, requires_grad=True))
    descended, reported = svag.losses(task, None, svag._Pair(1.0, 3.0, svag_weights(5)))
    assert (descended.item(), reported.item(), reported.requires_grad) == (4 * 1.0 - 3 * 3.0, 2.0, False)


def test_both_streams_see_all_examples_l_squared_times_in_orders_of_their_own():
    setting = make_setting(*SHORT, "training.svag={l: 2}")
    training = setting.spec.training
    pairs = list(svag.batches(setting.task, training, seed=0, epoch=1))
    assert len(pairs) == svag.steps_in_epoch(setting.task, training, 0, 1) == 4 * setting.task.steps_per_epoch(256)
    plain = torch.cat([batch.images for batch in setting.task.batches(0, 0, 256)]).flatten(1).sum(0)
    for side in ("first", "second"):
        seen = torch.cat([getattr(pair, side).images for pair in pairs]).flatten(1)
        assert torch.allclose(seen.sum(0), 4 * plain, rtol=1e-3, atol=1e-2)
    assert not any(torch.equal(pair.first.images, pair.second.images) for pair in pairs)
    firsts = [pair.first.images for pair in pairs[:: setting.task.steps_per_epoch(256)]]
    assert not any(torch.equal(one, two) for one, two in itertools.combinations(firsts, 2))


def test_with_l_1_it_is_plain_training_bit_for_bit_and_the_same_trial(tmp_path):
    plain, one = make_setting(*SHORT), make_setting(*SHORT, "training.svag={l: 1}")
    assert one.trial().id == plain.trial().id
    assert without_times(one.train(tmp_path / "one", one.trial())) == without_times(
        plain.train(tmp_path / "plain", plain.trial())
    )
    assert make_setting(*SHORT, "training.svag={l: 2}").trial().id != plain.trial().id


def test_training_equals_a_plain_loop_with_numbers_set_by_hand(tmp_path):
    """l = 2: a quarter of the time per step, half the learning rate, twice the ε and the clipping, decays at 1/4."""
    setting = make_setting(*SHORT, "training.svag={l: 2}", "training.clip_norm=0.5", "model.dropout=0.0")
    result = setting.train(tmp_path, setting.trial(learning_rate=1e-2, epsilon=1e-4))
    model = setting.model()
    adam = torch.optim.Adam(
        model.parameters(), lr=5e-3, betas=(0.975, 0.99975), eps=2e-4, weight_decay=1e-4, fused=True
    )
    plus, minus = (1 + math.sqrt(7)) / 2, (1 - math.sqrt(7)) / 2
    losses = []
    for epoch in range(2):
        adam.param_groups[0]["lr"] = 5e-3 if epoch < 1.5 else 5e-4
        seed_epoch(0, epoch)
        pairs = list(svag.batches(setting.task, setting.spec.training, 0, epoch))
        for pair in pairs:
            adam.zero_grad()
            first, second = (setting.task.loss(model, batch) for batch in (pair.first, pair.second))
            (plus * first + minus * second).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            adam.step()
            losses.append(((first + second) / 2).item())
    epochs = read_epochs(TrialFolder(tmp_path).metrics_jsonl)
    steps = len(losses) // 2
    assert result.steps == 2 * steps == 2 * 4 * setting.task.steps_per_epoch(256)
    assert [epoch.train_loss for epoch in epochs] == pytest.approx(
        [np.mean(losses[:steps]), np.mean(losses[steps:])], rel=1e-5
    )
    assert [epoch.learning_rate for epoch in epochs] == [5e-3, 5e-3]
    assert "svag" not in result.provenance


@pytest.mark.parametrize("steps", [0, 4, 5, 7, 20, 39])
def test_a_stopped_trial_goes_on_bit_for_bit_from_within_and_between_passes(tmp_path, steps):
    setting = make_setting(*SHORT, "training.svag={l: 2}")
    assert setting.task.steps_per_epoch(256) == 5
    whole = setting.train(tmp_path / "whole")
    setting.stop(tmp_path / "stopped", steps)
    assert without_times(setting.train(tmp_path / "stopped")) == without_times(whole)


@pytest.mark.parametrize(
    ("optimizer", "epsilon", "weight_decay"),
    [("adam", 3e-8, 0.09), ("adamw", 3e-8, 0.03), ("eadam", 1e-8, 0.09), ("rmsprop", 3e-8, 0.09)],
)
def test_the_settings_of_finer_steps(optimizer, epsilon, weight_decay):
    recipe = "training={schedule: {kind: inverse_sqrt, warmup_steps: 50}, clip_norm: 0.25, svag: {l: 3}}"
    setting = make_setting(f"optimizer={{name: {optimizer}, weight_decay: 0.09}}", recipe, "observe.every=7")
    finer, rate, scaled = svag.settings(setting.spec, 6e-3, 1e-8)
    assert rate == 2e-3
    assert scaled == pytest.approx(epsilon, rel=1e-14)
    assert finer.optimizer.weight_decay == weight_decay
    decays = getattr(finer.optimizer, "betas", None) or (finer.optimizer.alpha,)
    assert decays[-1] == pytest.approx(1 - 0.001 / 9, abs=1e-16)
    assert finer.training.schedule.warmup_steps == 450
    assert finer.training.clip_norm == 0.75
    assert finer.observe.every == 63
    assert finer.training.epochs == setting.spec.training.epochs


def test_caveats_are_told_and_kept_with_the_result(tmp_path):
    setting = make_setting("training.epochs=1", "training.batch_size=256", "training.svag={l: 2}")
    result = setting.train(tmp_path)
    assert "noise of dropout is made 2 times larger" in result.provenance["svag"][0]
    assert setting.warnings == [f"note: {caveat}" for caveat in result.provenance["svag"]]
    normed = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1), torch.nn.BatchNorm2d(1))
    assert "each of the two minibatches is normalised by itself" in svag.caveats(normed, setting.spec.training)[0]
    assert svag.caveats(normed, make_setting().spec.training) == ()


def test_a_task_whose_batches_have_an_order_is_refused():
    language = ("task={name: synthetic_text}", "model={name: lstm}")
    with pytest.raises(SpecError, match=r"training.svag combines independent minibatches, and batches of"):
        make_setting(*language, "training.svag={l: 2}")
    make_setting(*language, "training.svag={l: 1}")
    with pytest.raises(SpecError, match=r"training.svag.l: should be greater than or equal to 1"):
        make_setting("training.svag={l: 0}")


def test_an_optimizer_without_a_rule_is_refused_before_any_trial():
    spec = make_setting("optimizer=nadam", "training.svag={l: 2}").spec
    with pytest.raises(ScalingError, match=r"training.svag takes finer steps .* not derived for 'nadam'.*adam, adamw"):
        prepare_data(spec)
    prepare_data(make_setting("optimizer=nadam", "training.svag={l: 1}").spec)
