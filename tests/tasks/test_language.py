"""The language tasks: columns, stretches, the carried state, loss and scores."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from epsgrid.data._corpus import make_corpus
from epsgrid.errors import DataError
from epsgrid.tasks import Metric, synthetic_text
from epsgrid.tasks._language import LanguageTask, _TextBatch, perplexity
from epsgrid.tasks._options import Columns, LanguageOptions
from tests.models import samples

CPU = torch.device("cpu")


def counting(train: int = 500, validation: int = 50, test: int = 30, **settings: Any) -> LanguageTask:
    """Return a task on text whose words are their own places, so that batches can be read."""
    splits = {"train": np.arange(train), "validation": np.arange(validation), "test": np.arange(test)}
    words = tuple(map(str, range(max(train, validation, test))))
    return LanguageTask(make_corpus(splits, words), LanguageOptions(name="text", **settings), CPU)


def generated(words: int = 6, memory: int = 1, train: int = 4000, **settings: Any) -> LanguageTask:
    sizes = {"words": words, "memory": memory, "train": train, "validation": 400, "test": 400}
    options = synthetic_text.Options(name="synthetic_text", **sizes, **settings)
    return LanguageTask(synthetic_text.prepare(options), options, CPU)


def build(task: LanguageTask, name: str = "lstm", **settings: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    settings = {"layers": 1, **({} if name == "gpt" else {"embedding": 8, "hidden": 16}), **settings}
    return samples.build(name, task.inputs, task.outputs, **settings)


def same(one: list[_TextBatch], other: list[_TextBatch]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a.inputs, b.inputs) and torch.equal(a.targets, b.targets) for a, b in zip(one, other, strict=True)
    )


def test_batches_read_each_column_from_top_to_bottom() -> None:
    task = counting(train=4 * 100 + 3)
    assert task.metric == Metric("perplexity", "min", "")
    assert (task.inputs, task.outputs) == ((), 403)
    batches = list(task.batches(0, 0, 4))
    inputs = torch.cat([batch.inputs for batch in batches])
    targets = torch.cat([batch.targets for batch in batches])
    assert inputs.shape[1] == 4
    assert len(inputs) in (99, 100)  # a single last row is left out
    for column in range(4):
        assert inputs[:, column].tolist() == list(range(100 * column, 100 * column + len(inputs)))
    assert torch.equal(targets, inputs + 1)
    assert inputs.dtype == targets.dtype == torch.int64


def test_variable_lengths_are_the_published_mixture() -> None:
    assert min(task_lengths(counting(sequence_length=2), 300)) == 5
    lengths = task_lengths(counting(), 20_000)
    short = [length for length in lengths if length < 52]
    assert len(short) / len(lengths) == pytest.approx(0.05, abs=0.006)
    assert np.mean(short) == pytest.approx(34.5, abs=0.6)  # cut to whole words: half a word less than 35
    long = [length for length in lengths if length >= 52]
    assert np.mean(long) == pytest.approx(69.5, abs=0.2)
    assert np.std(long) == pytest.approx(5, abs=0.2)


def task_lengths(task: LanguageTask, count: int, seed: int = 0, epoch: int = 0) -> list[int]:
    drawn = task._lengths(seed, epoch)
    return [next(drawn) for _ in range(count)]


def test_lengths_depend_on_seed_and_epoch_alone() -> None:
    one, other = counting(train=5000), counting(train=900)
    assert task_lengths(one, 50) == task_lengths(other, 50)
    assert task_lengths(one, 50) != task_lengths(one, 50, seed=1) != task_lengths(one, 50, epoch=1)
    full, part = list(one.batches(3, 2, 2)), list(one.batches(3, 2, 7))
    assert [one.learning_rate_scale(batch) for batch in full] == [len(batch.inputs) / 70 for batch in full]
    lengths = [len(batch.inputs) for batch in part]
    assert lengths[:-1] == [len(batch.inputs) for batch in full][: len(lengths) - 1]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31 - 1), st.integers(0, 300), st.integers(1, 20), st.data())
def test_a_resumed_epoch_goes_on_exactly(seed: int, epoch: int, batch_size: int, draw: st.DataObject) -> None:
    task, before = counting(train=1000, sequence_length=10), torch.get_rng_state()
    whole = list(task.batches(seed, epoch, batch_size))
    assert len(whole) == task.steps_per_epoch(batch_size, seed, epoch)
    first_step = draw.draw(st.integers(0, len(whole)))
    assert same(list(task.batches(seed, epoch, batch_size, first_step)), whole[first_step:])
    assert torch.equal(torch.get_rng_state(), before), "torch's generators are not used"


def test_the_carried_state_makes_steps_one_long_pass() -> None:
    """Losses of an epoch's steps, weights fixed, equal those of one pass over all columns."""
    task = generated(sequence_length=10)
    model = build(task).eval()
    batches = list(task.batches(0, 0, 4))
    task.begin_epoch(model, 4)
    losses = [task.loss(model, batch).item() * batch.targets.numel() for batch in batches]
    inputs, targets = (torch.cat(parts) for parts in zip(*batches, strict=True))
    logits = model(inputs, model.carried.zeros(4)).logits
    whole = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")
    assert sum(losses) == pytest.approx(whole.item(), rel=1e-5)


def test_the_models_penalty_is_in_the_training_loss_only() -> None:
    task = generated()
    dropouts = ("weight_drop", "embedding_dropout", "input_dropout", "hidden_dropout", "output_dropout")
    model = build(task, "awd_lstm", **dict.fromkeys(dropouts, 0.0), activation_penalty=7.0)
    batch = next(iter(task.batches(0, 0, 4)))
    losses = []
    for training in (True, False):
        task.begin_epoch(model.train(training), 4)
        losses.append(task.loss(model, batch).item())
    penalty = model.train()(batch.inputs, model.carried.zeros(4)).penalty.item()
    assert losses[0] == pytest.approx(losses[1] + penalty, rel=1e-5)
    assert penalty > 0


@pytest.mark.parametrize("columns", [1, 10, 1000])
@pytest.mark.parametrize("name", ["lstm", "awd_lstm"])
def test_evaluation_equals_word_by_word(name: str, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow reference: every word on its own, in double precision, the state handed on by hand."""
    task = generated(evaluation_columns=Columns(validation=columns, test=columns))
    model = build(task, name).eval()
    ids = task._held_out["test"].tolist()
    rows = -(-(len(ids) - 1) // columns)
    with torch.inference_mode():
        scores = task.evaluate(model, "test")
        total, slow = 0.0, build(task, name).eval().double()
        for place in range(len(ids) - 1):
            if place % rows == 0:
                state = tuple(tensor.double() for tensor in slow.carried.zeros(1))
            output = slow(torch.tensor([[ids[place]]]), state)
            state = output.state
            total -= output.logits[0, 0].log_softmax(0)[ids[place + 1]].item()
        monkeypatch.setattr("epsgrid.tasks._language._EVALUATED_AT_ONCE", 30)
        assert task.evaluate(model, "test") == pytest.approx(scores, rel=1e-6), "long text is scored in pieces"
    assert scores["loss"] == pytest.approx(total / (len(ids) - 1), rel=1e-5)
    assert scores["perplexity"] == pytest.approx(math.exp(total / (len(ids) - 1)), rel=1e-5)


def test_a_model_without_state_is_scored_as_it_is_trained() -> None:
    """Each stretch of `sequence_length` words is read by itself, from the top of its column."""
    task = generated(sequence_length=30, evaluation_columns=Columns(test=4))
    model = build(task, "gpt", width=16, heads=2, layers=2).eval()
    task.begin_epoch(model, 4)
    batch = next(iter(task.batches(0, 0, 4)))
    expected = torch.nn.functional.cross_entropy(model(batch.inputs).flatten(0, 1), batch.targets.flatten())
    assert torch.equal(task.loss(model, batch), expected)
    ids, total = task._held_out["test"], 0.0
    with torch.inference_mode():
        for column in range(0, 399, 100):
            for start in range(column, min(column + 100, 399), 30):
                end = min(start + 30, column + 100, 399)
                logits = model(ids[start:end, None])[:, 0]
                total += torch.nn.functional.cross_entropy(logits, ids[start + 1 : end + 1], reduction="sum").item()
        assert task.evaluate(model, "test")["loss"] == pytest.approx(total / 399, rel=1e-5)


def test_evaluation_leaves_the_carried_state_and_the_generators_alone() -> None:
    task = generated()
    model = build(task, "awd_lstm").train()
    task.begin_epoch(model, 4)
    task.loss(model, next(iter(task.batches(0, 0, 4))))
    before = [tensor.clone() for tensor in model.carried.read()]
    generator = torch.get_rng_state()
    with torch.inference_mode():
        task.evaluate(model.eval(), "validation")
        task.evaluate(model, "test")
    assert all(torch.equal(a, b) for a, b in zip(before, model.carried.read(), strict=True))
    assert torch.equal(torch.get_rng_state(), generator)


def train(task: LanguageTask, model: torch.nn.Module, epochs: int, rate: float) -> None:
    optimizer = torch.optim.Adam(model.parameters(), rate)
    for epoch in range(epochs):
        task.begin_epoch(model.train(), 10)
        for batch in task.batches(0, epoch, 10):
            optimizer.param_groups[0]["lr"] = rate * task.learning_rate_scale(batch)
            optimizer.zero_grad()
            task.loss(model, batch).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.25)
            optimizer.step()


@pytest.mark.parametrize(
    ("memory", "settings"), [(1, {"hidden": 24}), (2, {"hidden": 24}), (2, {"name": "gpt", "width": 32, "heads": 2})]
)
def test_training_approaches_the_best_possible_perplexity(memory: int, settings: dict[str, Any]) -> None:
    """The chain's own perplexity on the same words is the bound; counting words alone stays far above it."""
    task = generated(words=5, memory=memory, train=6000, sequence_length=20)
    ids = task._held_out["test"].numpy()
    best = synthetic_text._chain_perplexity(synthetic_text._draw_transition(5, seed=0), memory, ids)
    shares = np.bincount(task._train.numpy()) / len(task._train)
    counted = math.exp(-np.log(shares[ids]).mean())
    model = build(task, **settings)
    train(task, model, epochs=8, rate=2e-2)
    with torch.inference_mode():
        reached = task.evaluate(model.eval(), "test")["perplexity"]
    assert best * 0.99 < reached < best * 1.06
    assert counted > best * 1.3
    assert perplexity(1e6) == math.inf and math.isnan(perplexity(math.nan))


def test_text_that_is_too_short_is_an_error() -> None:
    task = counting(train=39)
    with pytest.raises(DataError, match=r"39 training words are too few for 20 columns \(training\.batch_size\)"):
        task.steps_per_epoch(20)
    assert counting(train=41, sequence_length=5).steps_per_epoch(20) == 1
    with pytest.raises(DataError, match="a split has 1 words; at least two are needed"):
        counting(test=1)
