"""Trainings of the user's own, as a function: what is stored, refused, and made of a file of bounds."""

import json
import math
import os
from dataclasses import replace

import pytest
import torch
import yaml

import epsgrid
from epsgrid import plugins
from epsgrid.errors import NoBoundsError, SpecError, StoreError
from epsgrid.selection.load import load_experiment as load
from epsgrid.spec.trial import identity
from epsgrid.stages import probe as probe_stage
from epsgrid.stages.experiment import resolve
from epsgrid.stages.plans import plan_batches
from epsgrid.stages.status import status
from epsgrid.stages.sweep import plan_sweep
from epsgrid.store.pruning import ask
from epsgrid.store.records import ProbeRecord, TrialFailure, TrialResult, read_epochs
from tests.report.simulate import compare
from tests.stages.conftest import train
from tests.user_code import user_code

__all__ = ["user_code"]

CODE = """
import math
from user_helper import offset

def train(trial):
    print("printed by the training")
    score = offset - abs(math.log10(trial.learning_rate) + 2) - abs(math.log10(trial.epsilon) + 4) / 10
    return {"validation": score + trial.seed / 100, "test": score}

def single(trial):
    return 1.0 + trial.seed / 100

def diverging(trial):
    return float("inf")

def wordy(trial):
    return "good"

def nothing(trial):
    pass

def extra(trial):
    return {"validation": 1, "loss": 2}

def failing(trial):
    raise RuntimeError(f"no such file for {trial.folder}")

def of_two(trial, other):
    pass

def reporting(trial):
    mark = trial.folder / "epoch"
    start = int(mark.read_text()) if mark.exists() else 0
    for epoch in range(start, trial.epochs):
        trial.report(epoch / 10 + trial.seed, epoch)
        mark.write_text(str(epoch + 1))
        if epoch == 1 and not (trial.folder / "gone").exists():
            (trial.folder / "gone").touch()
            raise RuntimeError("as if killed")
    return trial.epochs
"""
SPEC = {
    "experiment": "own",
    "task": {"name": "function", "target": "user_train:train", "metric": {"name": "goodness", "direction": "max"}},
    "optimizer": "adam",
    "sweep": {
        "grid": "narrowed",
        "epsilons": [1e-5, 1e-4],
        "learning_rates": [1e-3, 1e-2, 1e-1],
        "seeds": [0, 1],
    },
    "execution": {"executor": "inline", "retries": 0},
}


@pytest.fixture
def asking(tmp_path, user_code):
    """Return a function from overrides to an experiment of the functions above."""
    user_code.write("user_train.py", CODE)
    user_code.write("user_helper.py", "offset = 3.0\n")
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(SPEC))

    def asked(*overrides, out="own"):
        return resolve(tmp_path / "own.yaml", tmp_path / "runs" / out, overrides, tmp_path / "runs")

    return asked


def bounds_of(optimizer_class, **options):
    """Return what an observer says of a few steps of a small net, and where its bounds come from."""
    torch.manual_seed(0)
    model = torch.nn.Linear(6, 4)
    optimizer = optimizer_class(model.parameters(), lr=1e-3, **options)
    with epsgrid.observe(optimizer, model=model) as observer:
        for _ in range(8):
            optimizer.zero_grad()
            model(torch.randn(16, 6)).square().mean().backward()
            optimizer.step()
    return observer.bounds()


def results(asked):
    paths = sorted(asked.folder.trials_dir.glob("*/result.json"))
    return [TrialResult.read(path) for path in paths]


def test_a_function_is_swept_reported_and_not_trained_twice(asking):
    asked = asking()
    assert train(asked, "narrowed").counts == {"done": 18}
    assert train(asked, "narrowed").trained == 0
    comparison = compare(load(asked.folder))
    assert comparison.answers.of("default").answer == "change"
    assert (comparison.task, comparison.model) == ("function", "user_train:train")
    assert not any("no test score" in note for note in comparison.notes)
    log = next(asked.folder.trials_dir.glob("*/log.txt")).read_text()
    assert "printed by the training" in log
    assert {result.test.metric == result.validation.metric for result in results(asked)} == {True, False}


def test_its_code_and_what_that_imports_are_part_of_a_trial(asking, user_code):
    asked = asking()
    train(asked, "narrowed")
    user_code.write("user_helper.py", "offset = 2.0\n")
    assert plan_sweep(asking(), "narrowed", None).to_run == 18
    assert status(asked.folder).changes[0].startswith("user_helper.py changed since 18 trials here were trained")
    user_code.write("user_helper.py", "offset = 3.0\n")
    assert plan_sweep(asking(), "narrowed", None).to_run == 0


def test_a_single_score_selects_and_compares_and_the_report_says_so(asking):
    asked = asking("task.target=user_train:single")
    train(asked, "narrowed")
    comparison = compare(load(asked.folder))
    assert comparison.answers.seeds == 2 and comparison.answers.of("default").answer == "keep"
    assert any("the training gives no test score" in note for note in comparison.notes)


def test_a_score_that_is_no_finite_number_is_a_result(asking):
    asked = asking("task.target=user_train:diverging")
    assert train(asked, "narrowed").counts == {"diverged": 18}
    assert results(asked)[0].reason == "goodness is inf"


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("wordy", "the score that user_train:wordy returns must be a number, got str 'good'"),
        ("nothing", "the score that user_train:nothing returns must be a number, got NoneType"),
        ("extra", "must return a score, or a mapping of 'validation' and, if you like, 'test'; got 'loss'"),
    ],
)
def test_what_is_no_score_is_told(asking, function, said):
    with pytest.raises(SpecError) as raised:
        train(asking(f"task.target=user_train:{function}"), "default")
    assert said in str(raised.value)


def test_a_command_s_wrong_key_stops_the_sweep_at_the_first_trial(asking, user_code, tmp_path):
    (tmp_path / "loss.py").write_text("import sys\nopen(sys.argv[1] + '/out.json', 'w').write('{\"los\": 1}')")
    score = "{file: out.json, key: loss, direction: min}"
    asked = asking(f"task={{name: command, run: 'python loss.py {{folder}} {{epsilon}}', score: {score}}}")
    for _ in range(2):  # the same command again says the same again
        with pytest.raises(SpecError, match="has no 'loss': it has los; correct"):
            train(asked, "narrowed")
        assert len([*asked.folder.trials_dir.glob("*/work/out.json")]) == 1


def test_a_sweep_stops_where_its_first_trainings_fail_alike(asking):
    summary = train(asking("task.target=user_train:failing"), "narrowed")
    assert summary.counts == {"failed": 3, "pending": 15}
    assert summary.why.startswith("Stopped: the first 3 trainings failed alike")
    path = next((asking().folder.trials_dir).glob("*/failure.json"))
    assert TrialFailure.read(path).error.startswith("RuntimeError: no such file for")


def test_epochs_are_stored_and_those_after_an_interruption_follow_them(asking):
    asked = asking("task.target=user_train:reporting", "training.epochs=4", "sweep.learning_rates=[0.1]")
    assert train(asked, "default").counts == {"failed": 2}
    assert train(asked, "default").counts == {"done": 2}
    for trial in asked.folder.trials():
        seed = json.loads(trial.spec_json.read_text())["seed"]
        scores = [epoch.validation.metric for epoch in read_epochs(trial.metrics_jsonl)]
        assert scores == [seed + epoch / 10 for epoch in range(4)]
        assert TrialResult.read(trial.result_json).epochs_trained == 4


def test_an_epoch_that_was_not_reported_has_an_unknown_score(asking, user_code):
    user_code.write(
        "user_train.py",
        """\
        def train(trial):
            trial.report(1, 0)
            trial.report(3, 2)
            trial.report(2.5, 2)
            trial.report(4)
            return 4
        """,
    )
    asked = asking("training.epochs=4", "sweep.learning_rates=[0.1]", "sweep.seeds=[0]")
    train(asked, "default")
    (trial,) = asked.folder.trials()
    scores = [epoch.validation.metric for epoch in read_epochs(trial.metrics_jsonl)]
    assert math.isnan(scores[1]) and [scores[0], *scores[2:]] == [1, 2.5, 4]
    assert "epochs 2 to 2 were not reported" in trial.log.read_text()


def test_a_training_that_is_asked_to_end_early_ends_at_its_next_report(asking):
    asked = asking(
        "task.target=user_train:reporting",
        "training.epochs=4",
        "sweep.learning_rates=[0.1]",
        "sweep.seeds=[0]",
        "sweep.prune={method: median}",
    )
    train(asked, "default")  # fails after the second epoch
    (trial,) = asked.folder.trials()
    assert ask(trial, 1, 4, "behind")
    assert train(asked, "default").counts == {"pruned": 1}


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("training.batch_size=64", "training.batch_size: task 'function' trains by your own code"),
        ("training.svag={l: 2}", "training.svag: task 'function' trains by your own code"),
        ("training.clip_norm=1.0", "training.clip_norm: task 'function' trains"),
        ("probe.seeds=3", "probe.seeds: task 'function' trains"),
        ("observe.every=5", "observe.every: task 'function' trains"),
        ("model=mlp", "model: task 'function' trains a model of its own; remove this"),
        ("sweep.prune={method: median}", "pruning needs training.epochs"),
        ("sweep.bounds=trusty", "expected 'trusted' or 'published', or a file such as bounds.json, got 'trusty'"),
        ("task.target=user_train", "expected module:function, such as my_training:train, got 'user_train'"),
        ("task.metric.direction=up", "expected 'max' or 'min', got 'up'"),
    ],
)
def test_what_an_own_training_cannot_have_is_refused_with_a_sentence(asking, override, said):
    with pytest.raises(SpecError) as raised:
        asking(override)
    assert said in str(raised.value)


def test_what_is_wrong_with_the_function_is_told_before_it_trains(asking):
    for target, said in {
        "user_absent:train": "there is no module 'user_absent' in ",
        "user_train:absent": "module 'user_train' has no 'absent'",
        "user_train:of_two": "cannot be called with a trial: missing a required argument: 'other'",
        "__main__:train": "was a function of a notebook, which no other process has",
    }.items():
        with pytest.raises((SpecError, epsgrid.errors.UnknownNameError), match=said):
            train(asking(f"task.target={target}", out=target.replace(":", "-")), "default")
    with pytest.raises(SpecError, match=r"training\.batch_size"):
        plan_batches(asking(), [32, 64], ["sqrt"])


def test_bounds_from_a_file_make_the_narrowed_grid(asking, tmp_path):
    bounds = bounds_of(torch.optim.AdamW)
    bounds.save(tmp_path / "bounds.json")
    overrides = ("sweep.epsilons=null", "sweep.bounds=bounds.json")
    asked = asking(*overrides)
    planned = plan_sweep(asked, "narrowed", None)
    assert planned.plan.epsilons["narrowed"] == bounds.decades and not planned.unknown
    train(asked, "narrowed")
    stored = load(asked.folder)
    assert stored.probe.steps == 8 and stored.bounds.decades == bounds.decades
    assert compare(stored).bounds.low.layers == bounds.low.layers
    (tmp_path / "bounds.json").unlink()
    assert plan_sweep(asking(*overrides), "narrowed", None).to_run == 0, "what was stored of it still counts"
    with pytest.raises(StoreError, match=r"there is no file .*bounds\.json; `bounds\.save\('bounds\.json'\)`"):
        train(asking(*overrides, out="other"), "narrowed")


def test_bounds_are_converted_where_the_second_moment_is_the_same_and_refused_elsewhere(asking, tmp_path):
    bounds = bounds_of(torch.optim.Adam)
    bounds.save(tmp_path / "bounds.json")

    def planned(optimizer):
        asked = asking("sweep.epsilons=null", "sweep.bounds=bounds.json", f"optimizer={optimizer}", out=optimizer)
        return plan_sweep(asked, "narrowed", None).plan.epsilons["narrowed"]

    assert planned("adam") == planned("nadam") == bounds.decades
    low, high = planned("eadam")[0], planned("eadam")[-1]
    assert low == pytest.approx(bounds.low.decade**2 / 1000) and high == pytest.approx(bounds.high.decade**2 / 1000)
    for optimizer in ("rmsprop", "adabelief", "amsgrad", "adagrad"):
        with pytest.raises(SpecError, match=f"observe a training with {optimizer}"):
            planned(optimizer)


def test_the_bounds_of_another_experiment_will_do(asking, tmp_path):
    record = probe_stage.probe_of(asking().spec, bounds_of(torch.optim.Adam), "here")
    record.write(tmp_path / "runs" / "first" / "bounds.json")
    asked = asking("sweep.epsilons=null", "sweep.bounds=runs/first/bounds.json")
    assert plan_sweep(asked, "narrowed", None).plan.epsilons["narrowed"] == record.bounds().decades


def test_probe_stores_a_file_s_bounds_or_says_how_to_get_one(asking, tmp_path):
    with pytest.raises(NoBoundsError, match="Observe its first epoch instead"):
        probe_stage.probe(asking(), [], force=False, on_step=print)
    with pytest.raises(NoBoundsError, match=r"gives to sweep\.bounds"):
        train(asking("sweep.epsilons=null"), "narrowed")
    bounds_of(torch.optim.Adam).save(tmp_path / "bounds.json")
    asked = asking("sweep.epsilons=null", "sweep.bounds=bounds.json")
    assert probe_stage.probe(asked, [], force=False, on_step=print)[1]
    assert not probe_stage.probe(asked, [], force=False, on_step=print)[1], "already there"
    assert ProbeRecord.read(asked.folder.bounds_json).data_description == "a training of your own with Adam"
    (tmp_path / "bounds.json").write_text(json.dumps(replace(bounds_of(torch.optim.Adam), origin=None).to_json()))
    with pytest.raises(StoreError, match=r"does not say of which optimizer .* write it with `bounds\.save`"):
        probe_stage.probe(asked, [], force=False, on_step=print)


def test_where_it_lies_is_no_part_of_a_trial(asking):
    asked = asking()
    assert asked.spec.task.folder == os.path.realpath(asked.folder.root.parent.parent)
    assert "folder" not in identity(asked.spec)["task"] and "model" not in identity(asked.spec)
    assert {*plugins.sources("user_train:train")} == {"user_train.py", "user_helper.py"}
