"""Generated stand-in text with a known best perplexity, for trying things out. Numbers on it mean nothing real.

Each word is drawn from a distribution that depends on the word `memory` places before it alone, so with `memory: 1` a
model of word pairs is perfect, and with more a model must keep words in mind. No model can do better in the long run
than the chain itself, whose perplexity on the very words drawn is computed with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from epsgrid.data._corpus import SPLITS, Corpus, make_corpus

_CONCENTRATION = 0.2
"""Of the Dirichlet draw of each word's successors: small, so that a few of them take most of the probability."""


@dataclass(frozen=True, eq=False)
class Chain:
    """What draws the words.

    Attributes:
        transition: (words, words), row i holds the probabilities of the word `memory` places after word i.
        memory: how far back a word depends on another.
    """

    transition: NDArray[np.float64]
    memory: int

    def draw(self, count: int, random: np.random.RandomState) -> NDArray[np.int64]:
        """Draw `count` words; the first `memory` ones uniformly."""
        limits = self.transition.cumsum(axis=1)
        words = len(limits)
        ids = random.randint(0, words, count)
        for place, share in enumerate(random.uniform(size=count)[self.memory :], start=self.memory):
            ids[place] = min(np.searchsorted(limits[ids[place - self.memory]], share, side="right"), words - 1)
        return ids

    def perplexity(self, ids: NDArray[Any]) -> float:
        """Return the chain's own perplexity on words it drew, all but the first `memory` of them."""
        probabilities = self.transition[ids[: -self.memory], ids[self.memory :]]
        return float(np.exp(-np.log(probabilities).mean()))


def make_chain(words: int, memory: int, seed: int) -> Chain:
    """Draw a chain over `words` words."""
    random = np.random.RandomState(seed)
    return Chain(random.dirichlet(np.full(words, _CONCENTRATION), size=words), memory)


def generate(words: int, memory: int, sizes: tuple[int, int, int], seed: int) -> Corpus:
    """Generate a corpus; the same arguments give the same words.

    Args:
        words: size of the vocabulary, at least 2.
        memory: how far back a word depends on another, at least 1.
        sizes: words of training, validation and test, each more than `memory`.
        seed: of the chain and of the words.
    """
    chain = make_chain(words, memory, seed)
    ids = chain.draw(sum(sizes), np.random.RandomState([seed, 1]))
    splits = dict(zip(SPLITS, np.split(ids, np.cumsum(sizes)[:-1]), strict=True))
    best = chain.perplexity(splits["test"])
    corpus = make_corpus(splits, tuple(f"word{number}" for number in range(words)))
    return corpus.described(f"GENERATED text (no real data; best possible test perplexity about {best:.2f})")
