from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from epsgrid import models, tasks
from epsgrid.data._corpus import Corpus
from epsgrid.errors import DataError, SpecError
from epsgrid.spec.model import TaskOptions
from epsgrid.tasks import ptb, synthetic_text
from tests.data.test_ptb import REAL, needs_ptb, write

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EPSGRID_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("EPSGRID_DATA", raising=False)


def prepare(**settings: object) -> Corpus:
    return ptb.prepare(ptb.Options(name="ptb", **settings))


def test_the_plugin_is_found_and_its_defaults_are_the_published_protocol() -> None:
    options = tasks.load("ptb").Options(name="ptb")
    assert isinstance(options, TaskOptions)
    assert (options.sequence_length, options.variable_length) == (70, True)
    assert (options.evaluation_columns.validation, options.evaluation_columns.test) == (10, 1)


def test_where_text_lies_is_no_part_of_identity(tmp_path: Path) -> None:
    one = ptb.Options(name="ptb", root="/somewhere", checked=False).identity()
    assert one == ptb.Options(name="ptb").identity()
    assert set(one) == {"name", "sequence_length", "variable_length", "evaluation_columns", "subset"}
    assert ptb.Options(name="ptb", subset={"train": 9}).identity() != one


def test_own_text_is_prepared_and_built(tmp_path: Path) -> None:
    root = write(tmp_path / "own", prefix="")
    corpus = prepare(root=root, checked=False, subset={"train": 8})
    assert corpus.description.startswith("a subset (the first 8 train words) of text in")
    task = ptb.build(ptb.Options(name="ptb"), corpus, CPU)
    assert (task.inputs, task.outputs) == ((), 7)


def test_text_that_is_not_the_published_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"ptb\.train\.txt: 2 lines, Penn Treebank's has 42,068"):
        prepare(root=write(tmp_path / "own"))


def test_a_subset_larger_than_the_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"task\.subset\.train: 99 words asked for, there are 9"):
        prepare(root=write(tmp_path / "own"), checked=False, subset={"train": 99})


@pytest.mark.parametrize(
    "wrong", [{"subset": {"train": 1}}, {"sequence_length": 1}, {"evaluation_columns": {"test": 0}}, {"bptt": 70}]
)
def test_options_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ptb.Options(name="ptb", **wrong)


def test_generated_text_says_so_and_must_be_longer_than_its_memory() -> None:
    options = synthetic_text.Options(name="synthetic_text", train=50, validation=10, test=10, memory=9)
    corpus = synthetic_text.prepare(options)
    assert corpus.description.startswith("GENERATED text")
    assert synthetic_text.build(options, corpus, CPU).outputs == 20
    with pytest.raises(ValidationError, match="memory: 10 must be less than the words of every split, the least is 10"):
        synthetic_text.Options(name="synthetic_text", train=50, validation=10, test=10, memory=10)


@needs_ptb
def test_the_real_text_gives_about_as_many_steps_as_published() -> None:
    """46,479 rows in stretches of 67.75 words on average: 686 ± about 3."""
    task = ptb.build(ptb.Options(name="ptb"), prepare(root=str(REAL)), CPU)
    steps = [task.steps_per_epoch(20, seed, epoch) for seed in range(3) for epoch in range(3)]
    assert all(676 <= count <= 696 for count in steps)
    assert len(set(steps)) > 1


@needs_ptb
def test_one_step_on_the_real_text_starts_near_the_uniform_perplexity() -> None:
    options = ptb.Options(name="ptb", root=str(REAL), subset={"train": 2000, "validation": 300, "test": 100})
    task = ptb.build(options, ptb.prepare(options), CPU)
    plugin = models.load("awd_lstm")
    torch.manual_seed(0)
    model = plugin.build(plugin.Options(name="awd_lstm", embedding=16, hidden=16), task.inputs, task.outputs)
    task.begin_epoch(model, 20)
    task.loss(model.train(), next(iter(task.batches(0, 0, 20)))).backward()
    with torch.inference_mode():
        scores = task.evaluate(model.eval(), "test")
    assert scores["perplexity"] == pytest.approx(10_000, rel=0.2)
