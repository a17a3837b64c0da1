from __future__ import annotations

import pickle

import pytest

from epsgrid.errors import SpecError
from epsgrid.spec.loading import parse_spec
from epsgrid.spec.model import Spec
from tests.spec.fakes import MINIMAL, MODEL, OPTIMIZER, TASK, AdamOptions, BlobsOptions, Layer, NetOptions

SECTIONS = {
    "experiment": " demo",
    "task": f" {TASK}",
    "model": f" {MODEL}",
    "optimizer": f" {OPTIMIZER}",
    "sweep": " {learning_rates: [1e-3]}",
}
ADAM = f"optimizer: {{name: '{OPTIMIZER}', "
COLUMN = len(ADAM) + 1
"""Where what follows ADAM begins in its line."""


def problems(text: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        parse_spec(text, "spec.yaml")
    return str(caught.value).splitlines()


def test_the_smallest_spec_gets_all_defaults() -> None:
    spec = parse_spec(MINIMAL)
    assert type(spec) is Spec
    assert spec.task == BlobsOptions(name=TASK)
    assert spec.model == NetOptions(name=MODEL, layers=(Layer(),))
    assert spec.optimizer == AdamOptions(name=OPTIMIZER)
    assert (spec.sweep.learning_rates, spec.training.epochs) == ((1e-3,), 200)


@pytest.mark.parametrize(
    ("optimizer", "epsilon"), [("adam", 1e-8), ("adadelta", 1e-6), ("adagrad", 1e-10), ("adamomentum", 1e-16)]
)
def test_the_default_epsilon_is_that_of_the_optimizer(optimizer: str, epsilon: float) -> None:
    text = MINIMAL.replace(OPTIMIZER, optimizer)
    assert parse_spec(text).sweep.default_epsilon == epsilon
    assert parse_spec(text + "  default_epsilon: 1e-3\n").sweep.default_epsilon == 1e-3


def test_a_list_of_epsilons_needs_an_optimizer_that_has_one() -> None:
    (line,) = problems(MINIMAL.replace(OPTIMIZER, "sgdm") + "  epsilons: [1e-3]\n")
    assert "sweep.epsilons: 'sgdm' has no ε; remove the list" in line


def test_a_spec_is_a_frozen_value() -> None:
    spec = parse_spec(MINIMAL + "  default_epsilon: 1\n")
    assert isinstance(spec.sweep.default_epsilon, float), "whole numbers are fine for floats"
    assert spec == parse_spec(MINIMAL + "  default_epsilon: 1\n") == pickle.loads(pickle.dumps(spec))  # noqa: S301 - ours
    with pytest.raises(ValueError, match="frozen"):
        spec.experiment = "other"
    assert problems("experiment: demo") == [
        f"spec.yaml: {section}: required key is missing" for section in ("task", "model", "optimizer", "sweep")
    ]


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ("experiment: my experiment", "1:13: experiment: should match pattern '^[A-Za-z0-9][A-Za-z0-9._-]*$' (got 'my"),
        ("experiment: 2026", "1:13: experiment: expected text, got 2026; put it in quotes"),
        (f"experiment: {'x' * 101}", "1:13: experiment: should have at most 100 characters"),
        ("experiment: latest", "1:13: experiment: 'latest' names the file that remembers"),
        ("model: mpl", "3:8: model.name: unknown model 'mpl'; did you mean 'mlp'? (one of: "),
        ("model: {nam: mlp}", "3:1: model.name: required key is missing; one of: "),
        ("model: {name: 3}", "3:15: model.name: expected text, got 3; one of: "),
        ("model: [mlp]", "3:8: model: expected a name, or a mapping with one, got ['mlp']; one of: "),
        ("model: nowhere.at.all:NET", "3:8: model.name: model 'nowhere.at.all:NET': cannot import 'nowhere.at.all'"),
        (f"model: {TASK}", f"3:8: model.name: {TASK!r} has no class Options(ModelOptions), so it is no model"),
        (f"model:\n  name: {MODEL}\n  layers:\n    - widht: 3", "6:7: model.layers.0.widht: unknown key; did you mean"),
        ("training: {epochs: 2.5}", "6:20: training.epochs: expected a whole number, got 2.5"),
        (f"training: {{epochs: {'x' * 500}}}", "6:20: training.epochs: expected a whole number, got 'xxx"),
        ("training: 3", "6:11: training: expected a mapping of keys to values, got 3"),
        ("training: {schedule: {milestones: [.5, 2]}}", "6:40: training.schedule.milestones.1: should be less"),
        ("training: {schedule: {milestones: [.5, .5]}}", "6:22: training.schedule: milestones must rise"),
        ("training: {schedule: {kind: inverse_sqrt}}", "6:22: training.schedule: kind: inverse_sqrt needs"),
        ("training: {schedule: {warmup_steps: 4, warmup: .1}}", "6:22: training.schedule: warmup is a share of all"),
        ("training: {schedule: {final: .1}}", "6:22: training.schedule: final is only used with kind: linear, cosine"),
        ("training: {schedule: cosin}", "6:22: training.schedule.kind: expected 'step', 'inverse_sqrt', 'const"),
        (
            "training: {schedule: {kind: cosine, factor: .1}}",
            "6:22: training.schedule: factor is only used with kind: step; remove it (`-o training.schedule=cosine`",
        ),
        ("training: {selection: tets}", "6:23: training.selection: expected 'validation' or 'test', got 'tets'; did"),
        ("probe: {update_weights: yes}", "6:25: probe.update_weights: expected true or false, got 'yes'"),
        ("probe: {update_weights: true}", "6:8: probe: update_weights: true needs probe.learning_rate"),
        ("probe:\n  learning_rate: 1", "6:1: probe: learning_rate is only used with update_weights: true"),
        ("execution: {executor: locl}", "6:23: execution.executor: unknown executor 'locl'; did you mean 'local'?"),
        ("execution: {executor: 3}", "6:23: execution.executor: expected text, got 3; put it in quotes"),
        ("trainign: {epochs: 3}", "6:1: trainign: unknown key; did you mean 'training'? (allowed: experiment, task,"),
        ("sweep: {learning_rates: [1, 1.0]}", "5:25: sweep.learning_rates: learning_rates names a value twice"),
        ("sweep: {learning_rates: [1], seeds: [3, 3]}", "5:37: sweep.seeds: seeds names a value twice: [3, 3]"),
        ("sweep: {learning_rates: [1], epsilons: [1e-3, 0.001]}", "5:40: sweep.epsilons: epsilons names a value"),
        ("sweep: {learning_rates: [1], epsilons: [1e-3, 1e-50]}", "5:47: sweep.epsilons.1: 1e-50 is 0 in float32"),
        ("sweep: {learning_rates: [1], epsilons: [1e39]}", "5:41: sweep.epsilons.0: 1e39 is infinite in float32"),
        ("sweep: {learning_rates: [1], epsilons: [-1e-3]}", "5:41: sweep.epsilons.0: should be greater than 0"),
        ("sweep: {learning_rates: [1], epsilons: []}", "5:40: sweep.epsilons: expected at least 1 in the list"),
        ("sweep: {learning_rates: [1], bounds: trust}", "5:38: sweep.bounds: expected 'trusted' or 'published'"),
        ("sweep: {learning_rates: []}", "5:25: sweep.learning_rates: expected at least 1 in the list, got []"),
        ("sweep: {learning_rates: [0]}", "5:26: sweep.learning_rates.0: should be greater than 0 (got 0)"),
        ("sweep: {learning_rates: 1e-3}", "5:25: sweep.learning_rates: expected a list, got 0.001"),
        ("sweep: {seeds: [1]}", "5:1: sweep.learning_rates: required key is missing"),
        (
            "sweep: {learning_rates: [1], prune: {method: median, reduction_factor: 2}}",
            "5:37: sweep.prune: reduction_factor is not used with method: median",
        ),
        ("sweep: {learning_rates: [1], prune: {startup_trials: 2}}", "5:37: sweep.prune: startup_trials is only used"),
        (f"{ADAM}betas: [0.9]}}", f"4:{COLUMN}: optimizer.betas.1: required entry of the list is missing"),
    ],
)
def test_one_problem(section: str, told: str) -> None:
    key, _, value = section.partition(":")
    (line,) = problems("".join(f"{key}:{value}\n" for key, value in {**SECTIONS, key: value}.items()))
    assert line.startswith(f"spec.yaml:{told}")
    assert len(line) < 300, "long values are shortened"


@pytest.mark.parametrize(
    ("option", "told"),
    [
        (
            "lr: 1e-3",
            "unknown key; the sweep varies the learning rate: see sweep.learning_rates (allowed: name, betas,",
        ),
        ("eps: 1e-3", "unknown key; the sweep varies ε: see sweep.grid, and sweep.default_epsilon"),
        ("betsa: 1", "unknown key; did you mean 'betas'? (allowed: name, betas, weight_decay, warmup)"),
        ("epochs: 1", "unknown key; did you mean 'training.epochs'? (allowed: name,"),
        ("zzz: 1", "unknown key (allowed: name, betas, weight_decay, warmup)"),
        ("weight_decay: -0.1", "should be greater than or equal to 0 (got -0.1)"),
        ("weight_decay: .nan", "should be a finite number (got NaN)"),
        ("weight_decay: ten", "expected a number, got 'ten'"),
        ("weight_decay: '1e-4'", "expected a number, got '1e-4'; it is in quotes: remove them"),
        ("weight_decay: 1_000", "expected a number, got '1_000'; a number has no underscores: write 1000"),
        ("betas: [0.9, 0.99, 0.999]", "expected at most 2 in the list, got [0.9, 0.99, 0.999]"),
        ("betas: 0.9", "expected a list, got 0.9"),
    ],
)
def test_one_problem_in_the_options_of_a_plugin(option: str, told: str) -> None:
    (line,) = problems(MINIMAL.replace(f"optimizer: {OPTIMIZER}", f"{ADAM}{option}}}"))
    place, field, message = line.split(": ", 2)
    assert place.startswith("spec.yaml:4:") and field == f"optimizer.{option.partition(':')[0]}"
    assert message.startswith(told)


def test_all_problems_are_reported_in_the_order_of_the_file() -> None:
    lines = problems(f"""\
experiment: my experiment
task: {{name: "{TASK}", shuffle: on, shuffle: on}}
model: nonesuch
optimizer: {{name: "{OPTIMIZER}", beta: 3}}
execution: {{executor: nowhere, workers: 0}}
sweep: {{seeds: [-1, 2]}}
""")
    assert [":".join(line.split(":")[1:4:2]) for line in lines] == [
        "1: experiment",
        "2: task.shuffle",
        "2: task.shuffle",
        "3: model.name",
        "4: optimizer.beta",
        "5: execution.executor",
        "5: execution.workers",
        "6: sweep.learning_rates",
        "6: sweep.seeds.0",
    ]
