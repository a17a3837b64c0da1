from __future__ import annotations

import pytest

from epsgrid.spec.loading import parse_spec
from epsgrid.spec.model import Spec
from epsgrid.spec.trial import Trial, differences, identity, trial_id, trial_identity
from tests.spec.fakes import MINIMAL


def spec(*overrides: str) -> Spec:
    return parse_spec(MINIMAL, overrides=overrides)


def id_of(asked: Spec, data: str = "abc", rate: float = 1e-3, epsilon: float | None = 1e-8, seed: int = 0) -> str:
    return trial_id(trial_identity(identity(asked), data, rate, epsilon, seed))


def test_a_known_identity_and_its_id() -> None:
    """The literal must never change: finished trials are found again by it."""
    known = trial_identity(identity(spec()), "abc", 1e-3, 1e-8, 0)
    assert known.pop("code").keys() == {"tests/__init__.py", "tests/spec/__init__.py", "tests/spec/fakes.py"}
    assert known == {
        "task": {"name": "tests.spec.fakes:blobs", "label": "plain", "classes": 2, "shuffle": True},
        "model": {"name": "tests.spec.fakes:net", "layers": [{"width": 8, "activation": "relu"}]},
        "optimizer": {
            "name": "tests.spec.fakes:adam_like",
            "betas": [0.9, 0.999],
            "weight_decay": 0.0,
            "warmup": "auto",
        },
        "training": {
            "epochs": 200,
            "batch_size": 128,
            "schedule": {"kind": "step", "milestones": [0.75], "factor": 0.1, "warmup_steps": None},
            "clip_norm": None,
            "average_last": 0,
            "selection": "validation",
            "precision": "float32",
        },
        "data": "abc",
        "learning_rate": 0.001,
        "epsilon": 1e-08,
        "seed": 0,
    }
    assert trial_id(known) == trial_id(dict(reversed(known.items()))) == "c05bd6b68f1ba4b5"
    assert id_of(spec(), rate=1, epsilon=1) == id_of(spec(), rate=1.0, epsilon=1.0)


@pytest.mark.parametrize(
    "override",
    [
        "experiment=other",
        "task.root=/somewhere",
        "execution={executor: inline, workers: 3, device: cpu, trials_per_device: 4, retries: 0}",
        "probe={batches: 3, seed: 7}",
        "sweep={learning_rates: [1, 2], seeds: [9], grid: narrowed, default_epsilon: 1}",
    ],
)
def test_what_cannot_change_a_trials_numbers_is_left_out(override: str) -> None:
    assert id_of(spec(override)) == id_of(spec())


def test_whatever_can_change_a_trials_numbers_changes_the_id() -> None:
    overrides = (
        "task.classes=3",
        "model.layers=[]",
        "optimizer.weight_decay=1e-4",
        "training.epochs=3",
        "training.batch_size=64",
        "training.schedule.factor=1",
        "training.schedule.warmup=0.1",
        "training.schedule=cosine",
        "training.schedule={kind: cosine, final: 0.1}",
        "training.selection=test",
        "training.precision=bfloat16",
    )
    ids = [id_of(spec(override)) for override in overrides]
    others = ({"data": "abd"}, {"rate": 2e-3}, {"epsilon": 1e-7}, {"epsilon": None}, {"seed": 1})
    ids += [id_of(spec(), **other) for other in others]
    assert len({id_of(spec()), *ids}) == 1 + len(overrides) + len(others)


def test_an_option_that_came_later_is_part_of_the_identity_only_where_it_is_used() -> None:
    same, other = (identity(spec(f"model={{name: vgg11, width: {width}}}"))["model"] for width in (64, 8))
    assert same == {"name": "vgg11", "dropout": 0.5}
    assert other == {**same, "width": 8}


def test_a_trial_of_an_identity_keeps_the_rate_it_stands_for() -> None:
    known = trial_identity(identity(spec()), "abc", 1e-3, 1e-8, 0)
    trial = Trial.of(known, ("narrowed",), 1e-4)
    assert (trial.id, trial.identity, trial.learning_rate, trial.grid_rate) == (trial_id(known), known, 1e-3, 1e-4)
    assert (Trial.of(known).asked_rate, Trial.of(known, grid_rate=1e-3).asked_rate) == (None, None)


def test_differences_name_every_field() -> None:
    there = identity(spec())
    asked = identity(spec("training.epochs=3", "optimizer.betas=[0.9, 0.98]", "task.label=no"))
    assert differences(there, asked) == [
        "task.label: 'plain' there, 'no' asked",
        "optimizer.betas: [0.9, 0.999] there, [0.9, 0.98] asked",
        "training.epochs: 200 there, 3 asked",
    ]
    assert differences(there, identity(spec("execution.workers=3"))) == []
    assert differences({"model": {"width": 64}}, {"model": {"dropout": 0.5}}) == [
        "model.width: 64 there, not asked",
        "model.dropout: not there, 0.5 asked",
    ]
