"""Scale specs and bounds to another batch size; and the largest batch that the data have."""

import math
import re

import pytest
import torch

from epsgrid import optimizers, plugins, tasks
from epsgrid.errors import DataError, ScalingError
from epsgrid.numerics.scaling import NoScaling, Scaling
from epsgrid.optimizers._scaling import _scalable, scaled_epsilon
from epsgrid.spec.loading import parse_spec
from epsgrid.stages.scale import annotated_yaml, check_size, renamed, scaled_spec, too_large

SPEC = """
experiment: base
task: digits
model: {name: mlp, hidden: [8]}
optimizer: {name: adam, weight_decay: 1e-4}
training:
  epochs: 5
  batch_size: 64
  clip_norm: 0.5
  schedule: {kind: inverse_sqrt, warmup_steps: 50}
probe: {batches: 10, every: 5, compare_weights: 1e-3}
observe: {every: 8}
sweep: {learning_rates: [1e-3, 3e-3], default_epsilon: 1e-8}
"""


def spec(*overrides: str):
    return parse_spec(SPEC, overrides=overrides)


def moved(scaled) -> dict:
    return {change.path: change.after for change in scaled.changes}


def test_the_square_root_rule_moves_every_number_that_it_should():
    scaled = scaled_spec(spec(), 256)
    assert scaled.kappa == 4.0
    assert moved(scaled) == {
        "optimizer.betas": [0.6, 0.996],
        "training.batch_size": 256,
        "training.schedule.warmup_steps": 12,
        "training.clip_norm": 0.25,
        "probe.batches": 2,
        "probe.every": 1,
        "probe.compare_weights": 2e-3,
        "observe.every": 2,
        "sweep.learning_rates": [2e-3, 6e-3],
        "sweep.default_epsilon": 5e-9,
    }
    assert scaled.spec.optimizer.betas == (0.6, 0.996)
    assert scaled.spec.sweep.learning_rates == (2e-3, 6e-3)
    warmup = next(change for change in scaled.changes if change.path.endswith("warmup_steps"))
    assert (warmup.before, warmup.why) == (50, "as many epochs: over κ")
    assert any("assumed: the noise of a gradient outweighs its mean" in note for note in scaled.notes)
    assert any("weight_decay is part of the gradient and stays" in note for note in scaled.notes)
    same = scaled_spec(spec(), 64)
    assert same.changes == () and same.spec == spec() and renamed(same) == same
    assert moved(scaled_spec(spec("optimizer=sgdm"), 128, "linear"))["sweep.learning_rates"] == [2e-3, 6e-3]
    half_life = scaled_spec(spec(), 1024, half_life=True).spec
    assert half_life.optimizer.betas == pytest.approx((0.9**16, 0.999**16))
    assert half_life.sweep.default_epsilon == 2.5e-9


@pytest.mark.parametrize(
    ("rule", "rates", "epsilon", "betas"),
    [
        ("sqrt-keep-epsilon", [2e-3, 6e-3], 1e-8, (0.6, 0.996)),
        ("linear", [4e-3, 12e-3], 1e-8, (0.9, 0.999)),
        ("none", [1e-3, 3e-3], 1e-8, (0.9, 0.999)),
    ],
)
def test_the_other_rules(rule, rates, epsilon, betas):
    scaled = scaled_spec(spec(), 256, rule)
    assert list(scaled.spec.sweep.learning_rates) == rates
    assert scaled.spec.sweep.default_epsilon == epsilon
    assert scaled.spec.optimizer.betas == betas
    assert scaled.spec.training.schedule.warmup_steps == 12
    assert scaled.spec.training.epochs == 5


def test_decoupled_decay_keeps_lr_times_decay_times_steps():
    before, scaled = spec("optimizer=adamw"), scaled_spec(spec("optimizer=adamw"), 256).spec
    kept = before.sweep.learning_rates[0] * before.optimizer.weight_decay * 400
    assert scaled.sweep.learning_rates[0] * scaled.optimizer.weight_decay * 100 == pytest.approx(kept, rel=1e-14)
    coupled = "optimizer={name: adabelief, weight_decay: 1e-2, decoupled_weight_decay: false}"
    assert scaled_spec(spec(coupled), 256).spec.optimizer.weight_decay == 1e-2
    scaled = scaled_spec(spec(coupled.replace("false", "true")), 256).spec  # κ = 4: c(β₁) falls to 0.7265 of it
    assert scaled.optimizer.weight_decay == pytest.approx(2e-2 / 0.726483, rel=1e-5)
    kept = before.sweep.learning_rates[0] * 1e-2 * 400
    assert scaled.sweep.learning_rates[0] * scaled.optimizer.weight_decay * 100 == pytest.approx(kept, rel=1e-14)


def test_an_epsilon_in_place_stays_and_the_floor_it_gives_falls():
    asked, scaled = spec("optimizer=eadam"), scaled_spec(spec("optimizer=eadam"), 256)
    assert "sweep.default_epsilon" not in moved(scaled)
    assert any("added to v in place" in note and "ε stays as it is" in note for note in scaled.notes)
    assert scaled_epsilon(asked.optimizer, 1e-16, 4, "sqrt") == 1e-16
    floors = [
        optimizers.load("eadam").placement(each.optimizer, 100).magnitude_from_epsilon(1e-16)
        for each in (asked, scaled.spec)
    ]
    assert floors[1] == pytest.approx(floors[0] / 2, rel=1e-6)
    assert scaled_epsilon(spec().optimizer, 1e-8, 4, "sqrt") == 5e-9
    assert scaled_epsilon(spec("optimizer=rmsprop").optimizer, 1e-8, 0.25, "sqrt") == 2e-8
    assert scaled_epsilon(spec("optimizer=nadam").optimizer, 1e-8, 4, "linear") == 1e-8


def test_the_noise_of_a_residual_falls_with_its_momentum_too():
    asked, scaled = spec("optimizer=adabelief"), scaled_spec(spec("optimizer=adabelief"), 256)
    factor = (0.6 * math.sqrt(2 / 1.6)) / (0.9 * math.sqrt(2 / 1.9))
    assert scaled.spec.sweep.learning_rates == pytest.approx([2 * factor * rate for rate in asked.sweep.learning_rates])
    assert scaled.spec.sweep.default_epsilon == pytest.approx(factor**2 * asked.sweep.default_epsilon)
    assert any("whose noise changes with β₁" in note for note in scaled.notes)
    reasons = {change.path: change.why for change in scaled.changes}
    assert reasons["sweep.learning_rates"] == "the square-root rule: times √κ and 0.7265 (see below)"
    kept = scaled_spec(spec("optimizer=adabelief"), 256, "sqrt-keep-epsilon").spec
    assert kept.sweep.learning_rates == scaled.spec.sweep.learning_rates
    assert kept.sweep.default_epsilon == asked.sweep.default_epsilon
    assert scaled_epsilon(asked.optimizer, 1e-16, 4, "sqrt-keep-epsilon") == 1e-16
    linear = scaled_spec(spec("optimizer=adabelief"), 256, "linear").spec
    assert linear.sweep.learning_rates == pytest.approx([4 * rate for rate in asked.sweep.learning_rates])


@pytest.mark.parametrize("name", _scalable())
@pytest.mark.parametrize("batch", [1, 48])
def test_a_spec_that_was_scaled_down_and_up_again_is_the_same(name, batch):
    """κ = 1/64 has an exact root; of 3/4 the root is rounded twice, so the last digit may be another."""
    base = spec(f"optimizer={{name: {name}, weight_decay: 0.01}}")
    back = scaled_spec(scaled_spec(base, batch).spec, 64).spec
    if batch == 1 and name != "adabelief":  # the roots of its c(β₁) are rounded too
        assert back == base
    for value, expected in zip(numbers(back), numbers(base), strict=True):
        assert value == pytest.approx(expected, rel=1e-13)


def numbers(asked) -> list:
    found = [field for field in asked.optimizer.model_dump().values() if isinstance(field, float | tuple)]
    return [*found, asked.sweep.learning_rates, asked.sweep.default_epsilon, asked.training.clip_norm]


def test_every_optimizer_says_what_its_scaling_is():
    names = plugins.names("optimizers")
    assert all(isinstance(optimizers.load(name).SCALING, Scaling | NoScaling) for name in names)
    assert _scalable() == ("adabelief", "adam", "adamw", "eadam", "rmsprop")
    for name in _scalable():
        options, declared = optimizers.load(name).Options(name=name), optimizers.load(name).SCALING
        assert all(hasattr(options, field) for field in (*declared.decays, *declared.requires, "weight_decay"))
        in_place = "in place" in optimizers.load(name).placement(options, 1).where
        assert (declared.epsilon == "in place") == in_place


@pytest.mark.parametrize(
    ("override", "batch", "words"),
    [
        ("optimizer=nadam", 128, r"not derived for 'nadam': its momentum .* derived for: adabelief, adam, adamw"),
        ("optimizer={name: rmsprop, momentum: 0.9}", 128, "optimizer.momentum: .* with momentum: 0.0 only, got 0.9"),
        ("optimizer=adam", 1024, r"from 64 to 1,024 is κ = 16, .* ends at κ = 10, a batch of 640: .*--half-life"),
        ("optimizer=adabelief", 640, r"optimizer.betas.0: .* κ = 10 makes it 0.0, which 'adabelief' refuses"),
        ("optimizer=tests.spec.fakes:adam_like", 128, "its file declares no SCALING"),
        ("optimizer=adam", 0, "batch size: expected a whole number of at least 1, got 0"),
    ],
)
def test_what_cannot_be_scaled_is_told(override, batch, words):
    with pytest.raises(ScalingError, match=words):
        scaled_spec(spec(override), batch)


def test_the_yaml_reads_back_below_comments_that_say_what_changed():
    scaled = renamed(scaled_spec(spec(), 256))
    text = annotated_yaml(scaled)
    assert parse_spec(text) == scaled.spec
    assert scaled.spec.experiment == "base-batch-256"
    comments = [line for line in text.splitlines() if line.startswith("#")]
    assert comments[0] == "# Scaled to a batch of 256 by epsgrid scale: κ = 4, rule: sqrt."
    assert [line.split(":")[0] for line in comments[1:-2]] == [f"#   {change.path}" for change in scaled.changes]
    assert "#   optimizer.betas: [0.9, 0.999] → [0.6, 0.996]: it spans as many epochs: 1 − β times κ" in comments


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(ScalingError, match=r"training.batch_size: 2,000 is larger than .* all 1,077 training examples"):
        check_size(spec("training.batch_size=2000"))
    assert check_size(spec()) is None
    assert check_size(spec("task={name: images, root: /nowhere}")).startswith("not checked whether a batch fits")


@pytest.mark.parametrize(
    ("name", "options", "largest", "words"),
    [
        ("digits", {}, 1077, "1,078 is larger than the data: .* all 1,077 training examples"),
        ("synthetic_text", {"train": 1000}, 499, "499 columns of two words that 1,000 training words make"),
        ("synthetic_translation", {"train": 96, "vocabulary": 60}, None, "tokens of 96 training pairs"),
    ],
)
def test_the_largest_batch_is_what_the_task_takes_in_one_step(name, options, largest, words):
    plugin = tasks.load(name)
    chosen = plugin.Options(name=name, **options)
    data = plugin.prepare(chosen)
    task = plugin.build(chosen, data, torch.device("cpu"))
    if largest is None:
        pairs = zip(data.train.source.lengths, data.train.target.lengths, strict=True)
        largest = 96 * max(map(max, pairs))
    assert task.steps_per_epoch(largest) == 1
    assert too_large(largest, data) is None
    assert re.search(words, too_large(largest + 1, data))
    if name == "synthetic_text":
        with pytest.raises(DataError, match="too few for 500 columns"):
            task.steps_per_epoch(largest + 1)
    else:
        assert task.steps_per_epoch(largest - 1) > 1
    assert too_large(10**9, object()) is None
