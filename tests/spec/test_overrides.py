from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epsgrid.errors import SpecError
from epsgrid.spec.loading import parse_spec
from epsgrid.spec.model import Spec
from tests.spec.fakes import MINIMAL, AdamOptions, BlobsOptions, NetOptions


def override(*overrides: str, text: str = MINIMAL) -> Spec:
    return parse_spec(text, "spec.yaml", overrides)


def test_a_value_is_replaced_or_put_in() -> None:
    spec = override("training.epochs=2", "probe.batches=10", "training.schedule.factor=.5", "sweep.seeds=[3, 4]")
    assert (spec.training.epochs, spec.probe.batches, spec.training.schedule.factor) == (2, 10, 0.5)
    assert spec.sweep.seeds == (3, 4)
    assert spec.training.batch_size == 128, "what is not overridden stays"
    spec = override(
        "optimizer.betas=[0.9,0.98]", "task.classes=5", "task.label='1e-8'", "sweep.seeds=[1, 2]", "sweep.seeds.1=5"
    )
    assert spec.optimizer == AdamOptions(name="tests.spec.fakes:adam_like", betas=(0.9, 0.98))
    assert isinstance(spec.task, BlobsOptions)
    assert (spec.task.classes, spec.task.label, spec.sweep.seeds) == (5, "1e-8", (1, 5))


def test_a_whole_section_is_replaced() -> None:
    text = MINIMAL.replace("model: tests.spec.fakes:net", "model: {name: nonsense, gone: 3}")
    spec = override("model=tests.spec.fakes:net", "model.layers=[{width: 3}]", text=text)
    assert isinstance(spec.model, NetOptions)
    assert spec.model.layers[0].width == 3


def test_a_field_is_put_into_a_short_form() -> None:
    schedule = override("training.schedule=cosine", "training.schedule.warmup=0.1").training.schedule
    assert (schedule.kind, schedule.warmup, schedule.final) == ("cosine", 0.1, 0.0)


def test_the_last_one_wins_over_others_and_the_file() -> None:
    assert override("training.epochs=2", "training.epochs=3").training.epochs == 3
    text = MINIMAL.replace("[1e-3]", "[-1, zwei]")
    assert override("sweep.learning_rates=[1]", text=text).sweep.learning_rates == (1.0,)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "optimizer.betsa=[1, 2]",
            r"optimizer.betsa: unknown key; did you mean 'betas'\? \(allowed: name, betas, weight_",
        ),
        ("optimzer.betas=3", r"optimzer: unknown key; did you mean 'optimizer'\?"),
        ("training.epochs", "there is no value; an override is key=value, such as training.epochs=2"),
        ("=3", "a dotted key is missing; an override is key=value"),
        ("training.epochs=0", r"training.epochs: should be greater than or equal to 1 \(got 0\)"),
        ("optimizer.betas=[0.9", "not valid YAML: while parsing a flow sequence"),
        ("training={epochs: 2, epochs: 3}", "epochs: repeated key"),
        ("experiment.x=2", "experiment: is 'demo' and has no keys; set it as a whole"),
        ("sweep.learning_rates.1=2", "sweep.learning_rates: there is no entry 1: it has 1, counted from 0"),
        (
            "sweep.learning_rates.last=2",
            "sweep.learning_rates: is a list: expected an index, counted from 0, got 'last'",
        ),
        ("model=nonesuch", r"model.name: unknown model 'nonesuch'.* one of: "),
    ],
)
def test_an_error_says_which_override(text: str, told: str) -> None:
    with pytest.raises(SpecError, match=told) as caught:
        override(text)
    assert str(caught.value).startswith(f"-o {text}: ")


def test_problems_of_file_and_overrides_are_reported_together() -> None:
    with pytest.raises(SpecError) as caught:
        override("training.epoch=3", "nonsense", text=MINIMAL + "zzz: 1\n")
    places = [line.partition(": ")[0] for line in str(caught.value).splitlines()]
    assert places == ["spec.yaml:7:1", "-o nonsense", "-o training.epoch=3"]


@given(st.text(st.characters(codec="utf-8")))
def test_any_text_is_an_override_or_refused(text: str) -> None:
    try:
        override(text)
    except SpecError as error:
        assert f"-o {text}: " in str(error)
