"""The translation task: batches, loss, scores, and whole trials on generated text."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from epsgrid import tasks
from epsgrid.data._parallel import END, PAD
from epsgrid.errors import ExecutionError, SpecError
from epsgrid.spec.loading import parse_spec
from epsgrid.spec.trial import Trial, identity, trial_identity
from epsgrid.store.paths import TrialFolder
from epsgrid.tasks import _translation, synthetic_translation
from epsgrid.tasks._bleu import bleu_scores
from epsgrid.tasks._translation import TranslationTask, _pack
from epsgrid.trials.device import one_thread
from epsgrid.trials.train import Interrupted, run_trial
from tests.models import samples

CPU = torch.device("cpu")
GENERATED = {"train": 120, "validation": 30, "test": 20, "vocabulary": 200}
SMALL = {"encoder_layers": 1, "decoder_layers": 2, "width": 16, "ffn": 32, "heads": 2, "max_length": 60}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EPSGRID_CACHE", str(tmp_path_factory.mktemp("cache")))
        with one_thread():
            yield


def make(**settings: Any) -> TranslationTask:
    options = synthetic_translation.Options(**({"name": "synthetic_translation"} | GENERATED | settings))
    return synthetic_translation.build(options, synthetic_translation.prepare(options), CPU)


def small(task: TranslationTask, **settings: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    return samples.build("transformer", task.inputs, task.outputs, **(SMALL | settings))


@pytest.fixture(scope="module")
def task(cache: None) -> TranslationTask:
    return make()


def test_batches_hold_each_sentence_once_with_the_target_shifted(task: TranslationTask) -> None:
    target = task._data.train.target
    expected = sorted(target[row].tolist() for row in range(len(target)))
    found = []
    for batch in task.batches(0, 0, 256):
        assert max(batch.source.numel(), batch.after.numel()) <= 256
        for source, before, after in zip(*batch, strict=True):
            tokens = after[after != PAD].tolist()
            assert tokens[-1] == END
            assert before[before != PAD].tolist() == [END, *tokens[:-1]]
            assert source[source != PAD].tolist()[-1] == END
            found.append(tokens[:-1])
    assert sorted(found) == expected


def test_the_order_is_a_function_of_seed_and_epoch(task: TranslationTask) -> None:
    def epoch(seed: int, epoch: int, first_step: int = 0) -> list[int]:
        return [id(batch) for batch in task.batches(seed, epoch, 256, first_step)]

    generator = torch.get_rng_state()
    first = epoch(0, 0)
    assert len(first) == len(set(first)) == task.steps_per_epoch(256) > 5
    assert epoch(0, 0) == first
    assert epoch(0, 0, 3) == first[3:]
    assert epoch(0, 0, len(first)) == []
    assert epoch(0, 1) != first and epoch(1, 0) != first
    assert sorted(epoch(0, 1)) == sorted(first)
    assert torch.equal(torch.get_rng_state(), generator)
    with pytest.raises(SpecError, match=r"training\.batch_size: 8, which this task counts in tokens"):
        task.steps_per_epoch(8)


def plain(longer: list[int], order: list[int], tokens: int, multiple: int) -> list[list[int]]:
    """Fill batches pair by pair, with lists."""
    batches: list[list[int]] = []
    batch: list[int] = []
    for pair in order:
        while batch and (len(batch) + 1) * max(longer[other] for other in [*batch, pair]) > tokens:
            taken = len(batch) - len(batch) % multiple if len(batch) >= multiple else len(batch)
            batches.append(batch[:taken])
            batch = batch[taken:]
        batch.append(pair)
    return [*batches, batch]


@settings(max_examples=60, deadline=None)
@example(lengths=[(1, 1)] * 5 + [(1, 21)], tokens=40, multiple=3)  # two are given back, too many beside a long one
@example(lengths=[(1, 1)] * 20, tokens=40, multiple=8)
@given(
    lengths=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=120),
    tokens=st.integers(40, 400),
    multiple=st.integers(1, 8),
)
def test_packed_batches_hold_every_pair_once_within_the_limit(
    lengths: list[tuple[int, int]], tokens: int, multiple: int
) -> None:
    source, target = np.array(lengths).T
    batches = _pack(source, target, tokens, multiple)
    order = [pair for batch in batches for pair in batch]
    assert sorted(order) == list(range(len(lengths)))
    assert all(len(batch) * max(source[batch].max(), target[batch].max()) <= tokens for batch in batches)
    assert [(source[pair], target[pair]) for pair in order] == sorted(map(tuple, lengths))
    longer = np.maximum(source, target).tolist()
    assert [batch.tolist() for batch in batches] == plain(longer, order, tokens, multiple)
    if lengths == [(1, 1)] * 20:
        assert order != sorted(order), "pairs of equal lengths do not stay neighbours"


def test_a_model_that_does_not_translate_is_refused(task: TranslationTask) -> None:
    with pytest.raises(SpecError, match=r"needs a model that translates, and Linear is none; use `model: transformer`"):
        task.begin_epoch(torch.nn.Linear(1, 1), 256)
    task.begin_epoch(small(task), 256)


def test_the_loss_is_label_smoothed_cross_entropy_over_the_targets_tokens(task: TranslationTask) -> None:
    model = small(task).eval()
    batch = max(task.batches(0, 0, 256), key=lambda batch: int((batch.after == PAD).sum()))
    assert (batch.after == PAD).any()
    log_probabilities = torch.log_softmax(model(batch.source, batch.before), dim=-1)
    total, count = 0.0, 0
    for row, after in zip(log_probabilities, batch.after, strict=True):
        for scores, token in zip(row, after, strict=True):
            if token != PAD:
                total -= 0.9 * scores[token].item() + 0.1 * scores.mean().item()
                count += 1
    assert task.loss(model, batch).item() == pytest.approx(total / count, rel=1e-5)


def test_the_score_of_a_split_is_that_of_its_sentences(task: TranslationTask, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small(task).eval()
    scores = task.evaluate(model, "validation")
    assert scores.keys() == {"loss", "perplexity"}
    assert scores["perplexity"] == pytest.approx(math.exp(scores["loss"]))
    monkeypatch.setattr(_translation, "_EVALUATED_AT_ONCE", 1)
    assert task.evaluate(model, "validation")["loss"] == pytest.approx(scores["loss"], rel=1e-5)
    unsmoothed = make(label_smoothing=0.0, validation=1)
    (only,) = unsmoothed._batches(unsmoothed._data.validation, 4096)
    expected = unsmoothed.loss(model, only).item()
    assert unsmoothed.evaluate(model, "validation")["loss"] == pytest.approx(expected, rel=1e-5)


def test_bleu_is_of_the_test_split_unless_it_chooses(task: TranslationTask) -> None:
    model = small(task).eval()
    assert task.evaluate(model, "test").keys() == {"loss", "perplexity", "bleu", "bleu_13a"}
    assert (task.metric.name, task.metric.direction) == ("perplexity", "min")
    assert next(iter(task.notes.values())).startswith("nrefs:1|case:lc|eff:no|tok:none|smooth:exp|version:")
    choosing = make(metric="bleu")
    assert choosing.evaluate(model, "validation").keys() == {"loss", "perplexity", "bleu", "bleu_13a"}
    assert (choosing.metric.name, choosing.metric.direction) == ("bleu", "max")


def test_a_diverged_model_scores_nan_without_a_search(task: TranslationTask, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small(task).eval()
    with torch.no_grad():
        next(model.parameters()).fill_(math.nan)
    monkeypatch.setattr(task, "translate", lambda *_: pytest.fail("searched"))
    assert all(math.isnan(score) for score in task.evaluate(model, "test").values())


def test_translations_do_not_depend_on_their_batch(task: TranslationTask, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small(task).eval()
    with torch.no_grad():  # a bias to the end, so that translations have different lengths
        model.target_embedding.weight[END] *= 1.1
    together = task.translate(model, "test")
    assert len(together) == GENERATED["test"]
    monkeypatch.setattr(_translation, "_SEARCHED_AT_ONCE", {"cpu": 1})
    assert task.translate(model, "test") == together


def test_translations_stay_within_their_limits() -> None:
    task = make(longest_factor=0.0, longest_extra=2)
    model = small(task).eval()
    with torch.no_grad():
        model.target_embedding.weight[END] = 0.0
    assert all(len(line.split()) <= 2 for line in task.translate(model, "test"))


def test_without_sacrebleu_the_task_is_refused_before_it_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    with pytest.raises(ExecutionError, match=r"sacrebleu is needed here .*`pip install 'epsgrid\[translation\]'"):
        make()


TASKS = {
    "translation": """
task: {name: synthetic_translation, vocabulary: 200, train: 120, validation: 30, test: 20}
model: {name: transformer, encoder_layers: 1, decoder_layers: 1, width: 32, ffn: 32, heads: 2, dropout: 0.1, norm: pre}
training: {epochs: 3, batch_size: 256}
""",
    "text": """
task: {name: synthetic_text, words: 5, train: 1200, validation: 100, test: 100, sequence_length: 10}
model: {name: awd_lstm, embedding: 6, hidden: 9, layers: 2}
training: {epochs: 2, batch_size: 4}
""",
}


@pytest.mark.parametrize(("name", "untrained"), [("translation", math.log(100) - 1), ("text", math.log(5))])
def test_a_trial_learns_and_an_interrupted_one_goes_on_exactly(tmp_path: Path, name: str, untrained: float) -> None:
    """Stopped in the middle of an epoch, with all that a model carries from batch to batch."""
    rest = "optimizer: {name: adam}\nsweep: {learning_rates: [1e-2], seeds: [0]}\n"
    spec = parse_spec(f"experiment: {name}{TASKS[name]}{rest}")
    plugin = tasks.load(spec.task.name)
    data = plugin.prepare(spec.task)
    trial = Trial.of(trial_identity(identity(spec), data.checksum, 1e-2, 1e-8, 0))
    task = plugin.build(spec.task, data, CPU)

    def run(folder: Path, should_stop: Any = lambda: False) -> Any:
        return run_trial(
            spec, trial, task, TrialFolder(folder), CPU, should_stop=should_stop, provenance={}, warn=pytest.fail
        )

    whole = run(tmp_path / "whole")
    assert whole.state == "done"
    assert whole.validation.loss < untrained
    asked = iter([False] * 7 + [True])
    with pytest.raises(Interrupted):
        run(tmp_path / "stopped", lambda: next(asked))
    assert run(tmp_path / "stopped").validation == whole.validation


def test_bleu_of_the_reference_is_100_and_of_nothing_0() -> None:
    references = ["the house &apos;s door is old , i think .", "a second sentence is here ."]
    assert bleu_scores(references, references, "en") == pytest.approx({"bleu": 100.0, "bleu_13a": 100.0})
    assert bleu_scores(["", ""], references, "en") == {"bleu": 0.0, "bleu_13a": 0.0}
    assert bleu_scores([line.upper() for line in references], references, "en")["bleu"] == pytest.approx(100.0)


def test_tokenised_bleu_equals_a_plain_recomputation() -> None:
    translations = ["the old house is red and blue .", "we see a big tree there now ."]
    references = ["the old house is red .", "we see a tall tree there ."]
    precisions = []
    for n in range(1, 5):
        matched = total = 0
        for line, reference in zip(translations, references, strict=True):
            ours, theirs = (
                [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
                for words in (line.split(), reference.split())
            )
            matched += sum(min(ours.count(gram), theirs.count(gram)) for gram in set(ours))
            total += len(ours)
        precisions.append(matched / total)
    expected = 100 * math.prod(precisions) ** 0.25  # longer than the reference: no brevity penalty
    assert bleu_scores(translations, references, "en")["bleu"] == pytest.approx(expected)


def test_the_signatures_say_how_bleu_was_computed(task: TranslationTask) -> None:
    tokenised, plain = task.notes.values()
    assert tokenised.startswith("nrefs:1|case:lc|eff:no|tok:none|smooth:exp|version:")
    assert "|tok:13a|" in plain
