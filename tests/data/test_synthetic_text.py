from __future__ import annotations

import math

import numpy as np
import pytest
from epsgrid.data.synthetic_text import generate, make_chain


def test_the_same_arguments_give_the_same_text() -> None:
    one, again, other = (generate(6, 1, (300, 50, 50), seed) for seed in (0, 0, 1))
    assert one.checksum == again.checksum != other.checksum
    assert (len(one.train), len(one.validation), len(one.test)) == (300, 50, 50)
    assert one.description.startswith("GENERATED text (no real data; best possible test perplexity about ")
    assert one.words == tuple(f"word{number}" for number in range(6))


@pytest.mark.parametrize("memory", [1, 3])
def test_a_word_depends_on_the_one_that_far_back(memory: int) -> None:
    chain = make_chain(5, memory, seed=2)
    ids = chain.draw(20_000, np.random.RandomState(0))
    counts = np.zeros((5, 5))
    np.add.at(counts, (ids[:-memory], ids[memory:]), 1)
    rows = counts.sum(axis=1)
    assert rows.min() > 100
    error = np.abs(counts / rows[:, None] - chain.transition).max(axis=1)
    assert (error < 3 / np.sqrt(rows)).all()


def test_the_chains_perplexity_approaches_its_entropy_rate() -> None:
    """The entropy rate from the stationary distribution, the eigenvector of 1: nothing is drawn for it."""
    chain = make_chain(6, 1, seed=0)
    values, vectors = np.linalg.eig(chain.transition.T)
    stationary = np.real(vectors[:, np.argmax(np.real(values))])
    stationary /= stationary.sum()
    rows = -np.sum(chain.transition * np.log(np.maximum(chain.transition, 1e-300)), axis=1)
    expected = math.exp(stationary @ rows)
    drawn = chain.perplexity(chain.draw(50_000, np.random.RandomState(1)))
    assert drawn == pytest.approx(expected, rel=0.03)


def test_perplexity_by_hand() -> None:
    chain = make_chain(2, 2, seed=0)
    ids = np.array([0, 1, 1, 0])
    product = chain.transition[0, 1] * chain.transition[1, 0]
    assert chain.perplexity(ids) == pytest.approx(product ** (-1 / 2))
