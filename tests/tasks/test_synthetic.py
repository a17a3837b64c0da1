"""Generated images and text."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from epsgrid.data._corpus import Corpus
from epsgrid.data._images import ImageSet
from epsgrid.tasks import synthetic, synthetic_text
from epsgrid.tasks.synthetic_text import _chain_perplexity, _draw_transition, _draw_words


def images(shape: tuple[int, int, int] = (1, 8, 8), seed: int = 0) -> ImageSet:
    settings = {"classes": 3, "train": 50, "validation": 10, "test": 30, "noise": 0.3, "data_seed": seed}
    return synthetic.prepare(synthetic.Options(name="synthetic", shape=shape, **settings)).images


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (2, 5, 3), (1, 1, 1)])
def test_shapes_and_balance(shape: tuple[int, int, int]) -> None:
    found = images(shape)
    assert found.train.pixels.shape == (60, *shape)
    assert found.test.pixels.shape == (30, *shape)
    assert np.bincount(found.train.labels).tolist() == [20] * 3
    assert np.bincount(found.test.labels).tolist() == [10] * 3
    assert "GENERATED" in found.description
    assert found.checksum == images(shape).checksum != images(shape, seed=1).checksum


def text(**settings: Any) -> Corpus:
    return synthetic_text.prepare(synthetic_text.Options(name="synthetic_text", **settings))


def test_equal_options_give_equal_text() -> None:
    sizes = {"words": 6, "train": 300, "validation": 50, "test": 50}
    one, again, other = (text(**sizes, data_seed=seed) for seed in (0, 0, 1))
    assert one.checksum == again.checksum != other.checksum
    assert [len(ids) for ids in one.splits.values()] == [300, 50, 50]
    assert one.description.startswith("GENERATED text (no real data; best possible test perplexity about ")
    assert one.words == tuple(f"word{number}" for number in range(6))
    options = synthetic_text.Options(name="synthetic_text", **sizes)
    assert synthetic_text.build(options, one, torch.device("cpu")).outputs == 6


@pytest.mark.parametrize("memory", [1, 3])
def test_a_word_depends_on_the_one_that_far_back(memory: int) -> None:
    transition = _draw_transition(5, seed=2)
    ids = _draw_words(transition, memory, 20_000, np.random.RandomState(0))
    counts = np.zeros((5, 5))
    np.add.at(counts, (ids[:-memory], ids[memory:]), 1)
    rows = counts.sum(axis=1)
    assert rows.min() > 100
    error = np.abs(counts / rows[:, None] - transition).max(axis=1)
    assert (error < 3 / np.sqrt(rows)).all()


def test_the_chains_perplexity_approaches_its_entropy_rate() -> None:
    """The entropy rate from the stationary distribution, the eigenvector of 1: nothing is drawn for it."""
    transition = _draw_transition(6, seed=0)
    values, vectors = np.linalg.eig(transition.T)
    stationary = np.real(vectors[:, np.argmax(np.real(values))])
    stationary /= stationary.sum()
    rows = -np.sum(transition * np.log(np.maximum(transition, 1e-300)), axis=1)
    drawn = _chain_perplexity(transition, 1, _draw_words(transition, 1, 50_000, np.random.RandomState(1)))
    assert drawn == pytest.approx(math.exp(stationary @ rows), rel=0.03)
    transition = _draw_transition(2, seed=0)
    by_hand = (transition[0, 1] * transition[1, 0]) ** (-1 / 2)
    assert _chain_perplexity(transition, 2, np.array([0, 1, 1, 0])) == pytest.approx(by_hand)
