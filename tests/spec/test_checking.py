from __future__ import annotations

import pickle

import pytest

from epsgrid.errors import SpecError
from epsgrid.spec.loading import parse_spec
from epsgrid.spec.model import Spec
from tests.spec.fakes import MINIMAL, MODEL, OPTIMIZER, TASK, AdamOptions, BlobsOptions, Layer, NetOptions

HEAD = f"experiment: demo\ntask: {TASK}\nmodel: {MODEL}\n"
SWEEP = "sweep: {learning_rates: [1e-3]}\n"


def parse(text: str) -> Spec:
    return parse_spec(text, "spec.yaml")


def problems(text: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        parse(text)
    return str(caught.value).splitlines()


def test_the_smallest_spec_gets_all_defaults() -> None:
    spec = parse(MINIMAL)
    assert type(spec) is Spec
    assert spec.task == BlobsOptions(name=TASK)
    assert spec.model == NetOptions(name=MODEL, layers=(Layer(),))
    assert spec.optimizer == AdamOptions(name=OPTIMIZER)
    assert spec.sweep.learning_rates == (1e-3,)
    assert spec.training.epochs == 200


@pytest.mark.parametrize(
    ("optimizer", "epsilon"), [("adam", 1e-8), ("adadelta", 1e-6), ("adagrad", 1e-10), ("adamomentum", 1e-16)]
)
def test_the_default_epsilon_is_that_of_the_optimizer(optimizer: str, epsilon: float) -> None:
    text = MINIMAL.replace(OPTIMIZER, optimizer)
    assert parse(text).sweep.default_epsilon == epsilon
    assert parse(text + "  default_epsilon: 1e-3\n").sweep.default_epsilon == 1e-3


def test_a_list_of_epsilons_needs_an_optimizer_that_has_one() -> None:
    (line,) = problems(MINIMAL.replace(OPTIMIZER, "sgdm") + "  epsilons: [1e-3]\n")
    assert "sweep.epsilons: 'sgdm' has no ε; remove the list" in line


def test_a_spec_is_a_frozen_value() -> None:
    spec = parse(MINIMAL + "  default_epsilon: 1\n")
    assert isinstance(spec.sweep.default_epsilon, float), "whole numbers are fine for floats"
    assert spec == parse(MINIMAL + "  default_epsilon: 1\n") == pickle.loads(pickle.dumps(spec))  # noqa: S301 - ours
    with pytest.raises(ValueError, match="frozen"):
        spec.experiment = "other"


def test_words_that_yaml_1_1_takes_for_truth_stay_text() -> None:
    spec = parse(MINIMAL.replace(f"task: {TASK}", f"task: {{name: '{TASK}', label: no}}"))
    assert spec.task.label == "no"


@pytest.mark.parametrize(
    ("optimizer", "told"),
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
        ("weight_decay: true", "expected a number, got true"),
        ("weight_decay:", "expected a number, got null"),
        ("betas: [0.9, 0.99, 0.999]", "expected at most 2 in the list, got [0.9, 0.99, 0.999]"),
        ("betas: 0.9", "expected a list, got 0.9"),
        ("betas: {a: 1}", "expected a list, got {a: 1}"),
    ],
)
def test_one_problem_in_the_optimizer(optimizer: str, told: str) -> None:
    key = optimizer.partition(":")[0]
    (line,) = problems(f"{HEAD}{SWEEP}optimizer:\n  name: {OPTIMIZER}\n  {optimizer}\n")
    place, field, message = line.split(": ", 2)
    assert place.startswith("spec.yaml:7:")
    assert field == f"optimizer.{key}"
    assert message.startswith(told)


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ("training: {epochs: 2.5}", "spec.yaml:6:20: training.epochs: expected a whole number, got 2.5"),
        ("training: {epochs: 1e2}", "spec.yaml:6:20: training.epochs: expected a whole number, got 100.0"),
        (
            "training: {epochs: 010}",
            "spec.yaml:6:20: training.epochs: expected a whole number, got '010'; a number has no",
        ),
        ("training: {epochs: yes}", "spec.yaml:6:20: training.epochs: expected a whole number, got 'yes'"),
        ("training: 3", "spec.yaml:6:11: training: expected a mapping of keys to values, got 3"),
        ("training:", "spec.yaml:6:10: training: expected a mapping of keys to values, got null"),
        (
            "training: {schedule: {milestones: [.5, 2]}}",
            "spec.yaml:6:40: training.schedule.milestones.1: should be less",
        ),
        ("training: {schedule: {milestones: [.5, .5]}}", "spec.yaml:6:22: training.schedule: milestones must rise"),
        ("training: {schedule: {kind: inverse_sqrt}}", "spec.yaml:6:22: training.schedule: kind: inverse_sqrt needs"),
        ("training: {schedule: {warmup_steps: 4}}", "spec.yaml:6:22: training.schedule: warmup_steps is only used"),
        (
            "training: {selection: tets}",
            "spec.yaml:6:23: training.selection: expected 'validation' or 'test', got 'tets'; did",
        ),
        ("probe: {update_weights: yes}", "spec.yaml:6:25: probe.update_weights: expected true or false, got 'yes'"),
        ("probe: {update_weights: true}", "spec.yaml:6:8: probe: update_weights: true needs probe.learning_rate"),
        ("probe:\n  learning_rate: 1", "spec.yaml:6:1: probe: learning_rate is only used with update_weights: true"),
        (
            "execution: {executor: locl}",
            "spec.yaml:6:23: execution.executor: unknown executor 'locl'; did you mean 'local'?",
        ),
        ("execution: {executor: 3}", "spec.yaml:6:23: execution.executor: expected text, got 3; put it in quotes"),
        ("execution: {executor: [a]}", "spec.yaml:6:23: execution.executor: expected text, got ['a']"),
        (
            "trainign: {epochs: 3}",
            "spec.yaml:6:1: trainign: unknown key; did you mean 'training'? (allowed: experiment, task,",
        ),
    ],
)
def test_one_problem_elsewhere(section: str, told: str) -> None:
    (line,) = problems(f"{HEAD}optimizer: {OPTIMIZER}\n{SWEEP}{section}\n")
    assert line.startswith(told)


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ("model: mpl", "spec.yaml:5:8: model.name: unknown model 'mpl'; did you mean 'mlp'? (one of: "),
        ("model: {nam: mlp}", "spec.yaml:5:1: model.name: required key is missing; one of: "),
        ("model: {name: 3}", "spec.yaml:5:15: model.name: expected text, got 3; one of: "),
        ("model: [mlp]", "spec.yaml:5:8: model: expected a name, or a mapping with one, got ['mlp']; one of: "),
        ("model:", "spec.yaml:5:7: model: expected a name, or a mapping with one, got null; one of: "),
        (
            "model: nowhere.at.all:NET",
            "spec.yaml:5:8: model.name: model 'nowhere.at.all:NET': cannot import 'nowhere.at.all'",
        ),
        (
            f"model: {TASK}",
            f"spec.yaml:5:8: model.name: {TASK!r} has no class Options(ModelOptions), so it is no plug-in",
        ),
        (
            "model: tests.spec.fakes:no_options",
            "spec.yaml:5:8: model.name: 'tests.spec.fakes:no_options' has no class Options",
        ),
    ],
)
def test_one_problem_with_a_plugin(section: str, told: str) -> None:
    (line,) = problems(f"experiment: demo\ntask: {TASK}\n{SWEEP}optimizer: {OPTIMIZER}\n{section}\n")
    assert line.startswith(told)


@pytest.mark.parametrize(
    ("experiment", "told"),
    [
        (
            "my experiment",
            "spec.yaml:1:13: experiment: should match pattern '^[A-Za-z0-9][A-Za-z0-9._-]*$' (got 'my",
        ),
        ("../up", "spec.yaml:1:13: experiment: should match pattern"),
        ("2026", "spec.yaml:1:13: experiment: expected text, got 2026; put it in quotes"),
        ("x" * 101, "spec.yaml:1:13: experiment: should have at most 100 characters"),
        ("latest", "spec.yaml:1:13: experiment: 'latest' names the file that remembers"),
    ],
)
def test_a_name_that_is_no_folder(experiment: str, told: str) -> None:
    (line,) = problems(MINIMAL.replace("experiment: demo", f"experiment: {experiment}"))
    assert line.startswith(told)


@pytest.mark.parametrize(
    ("sweep", "told"),
    [
        (
            "{learning_rates: [1, 1.0]}",
            "spec.yaml:5:25: sweep.learning_rates: learning_rates names a value twice: [1.0, 1.0]",
        ),
        ("{learning_rates: [1], seeds: [3, 3]}", "spec.yaml:5:37: sweep.seeds: seeds names a value twice: [3, 3]"),
        ("{learning_rates: [1], epsilons: [1e-3, 0.001]}", "spec.yaml:5:40: sweep.epsilons: epsilons names a value"),
        ("{learning_rates: [1], epsilons: [1e-3, 1e-50]}", "spec.yaml:5:47: sweep.epsilons.1: 1e-50 is 0 in float32"),
        ("{learning_rates: [1], epsilons: [1e39]}", "spec.yaml:5:41: sweep.epsilons.0: 1e39 is infinite in float32"),
        ("{learning_rates: [1], epsilons: [-1e-3]}", "spec.yaml:5:41: sweep.epsilons.0: should be greater than 0"),
        ("{learning_rates: [1], epsilons: []}", "spec.yaml:5:40: sweep.epsilons: expected at least 1 in the list"),
        ("{learning_rates: [1], bounds: trust}", "spec.yaml:5:38: sweep.bounds: expected 'trusted' or 'published'"),
        ("{learning_rates: []}", "spec.yaml:5:25: sweep.learning_rates: expected at least 1 in the list, got []"),
        ("{learning_rates: [0]}", "spec.yaml:5:26: sweep.learning_rates.0: should be greater than 0 (got 0)"),
        ("{learning_rates: 1e-3}", "spec.yaml:5:25: sweep.learning_rates: expected a list, got 0.001"),
        ("{learning_rates: [1], seeds: [1e2]}", "spec.yaml:5:38: sweep.seeds.0: expected a whole number, got 100.0"),
    ],
)
def test_one_problem_in_the_sweep(sweep: str, told: str) -> None:
    (line,) = problems(MINIMAL.partition("sweep:")[0] + f"sweep: {sweep}\n")
    assert line.startswith(told)


def test_missing_sections() -> None:
    assert problems("experiment: demo") == [
        f"spec.yaml: {section}: required key is missing" for section in ("task", "model", "optimizer", "sweep")
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  learning_rates: [1e-3]", "  seeds: [1]", "spec.yaml:5:1: sweep.learning_rates: required key is missing"),
        (
            f"optimizer: {OPTIMIZER}",
            f"optimizer: {{name: '{OPTIMIZER}', betas: [0.9]}}",
            "spec.yaml:4:49: optimizer.betas.1: required entry of the list is missing",
        ),
        (
            f"model: {MODEL}",
            f"model:\n  name: {MODEL}\n  layers:\n    - widht: 3",
            "spec.yaml:6:7: model.layers.0.widht: unknown key; did you mean 'width'? (allowed: width, activation)",
        ),
    ],
)
def test_what_is_missing_or_deep_is_placed(old: str, new: str, message: str) -> None:
    assert problems(MINIMAL.replace(old, new)) == [message]


def test_all_problems_are_reported_in_the_order_of_the_file() -> None:
    text = f"""\
experiment: my experiment
task: {{name: "{TASK}", shuffle: on, shuffle: on}}
model: nonesuch
optimizer: {{name: "{OPTIMIZER}", beta: 3}}
execution: {{executor: nowhere, workers: 0}}
sweep: {{seeds: [-1, 2]}}
"""
    lines = problems(text)
    assert [line.split(": ")[1] for line in lines] == [
        "experiment",
        "task.shuffle",
        "task.shuffle",
        "model.name",
        "optimizer.beta",
        "execution.executor",
        "execution.workers",
        "sweep.learning_rates",
        "sweep.seeds.0",
    ]
    assert [int(line.split(":")[1]) for line in lines] == [1, 2, 2, 3, 4, 5, 5, 6, 6]


def test_long_values_are_shortened() -> None:
    (line,) = problems(MINIMAL + f"training: {{epochs: {'x' * 500}}}\n")
    assert len(line) < 200
