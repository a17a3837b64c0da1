"""Generated text with a known best perplexity, for trying things out and for tests; nothing learnt about the world.

Each word is drawn from a distribution that depends only on the word `memory` places before it, so with `memory: 1` a
model of word pairs is perfect, and with more a model must remember words. No model can be better in the long run than
the chain itself, whose perplexity on the words drawn is computed with them.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from epsgrid.data._corpus import SPLITS, Corpus, make_corpus
from epsgrid.spec.options import Count, Seed
from epsgrid.tasks._build import build_language
from epsgrid.tasks._options import LanguageOptions, Words

_CONCENTRATION = 0.2
"""Of the Dirichlet draw of each word's successors: small, so that a few of them take most of the probability."""

START = {"model": {"name": "lstm", "embedding": 8, "hidden": 24}, "training": {"epochs": 3, "batch_size": 10}}


class Options(LanguageOptions):
    """The text that is generated, and how it is read."""

    words: Annotated[int, Field(ge=2, le=1000)] = 20
    """Words of the vocabulary."""
    memory: Count = 1
    """How far before a word the one lies that it depends on."""
    train: Words = 20_000
    """Training words."""
    validation: Words = 2_000
    """Validation words."""
    test: Words = 2_000
    """Test words."""
    data_seed: Seed = 0
    """Seed of the text."""

    @model_validator(mode="after")
    def _memory_fits_every_split(self) -> Options:
        least = min(self.train, self.validation, self.test)
        if self.memory >= least:
            raise ValueError(f"memory: {self.memory} must be less than the words of every split, the least is {least}")
        return self


def prepare(options: Options) -> Corpus:
    """Generate the text; nothing is cached, because reading it would hardly be faster."""
    transition = _draw_transition(options.words, options.data_seed)
    sizes = (options.train, options.validation, options.test)
    ids = _draw_words(transition, options.memory, sum(sizes), np.random.RandomState([options.data_seed, 1]))
    splits = dict(zip(SPLITS, np.split(ids, np.cumsum(sizes)[:-1]), strict=True))
    best = _chain_perplexity(transition, options.memory, splits["test"])
    corpus = make_corpus(splits, tuple(f"word{number}" for number in range(options.words)))
    return corpus.described(f"GENERATED text (no real data; best possible test perplexity about {best:.2f})")


build = build_language


def _draw_transition(words: int, seed: int) -> NDArray[np.float64]:
    """Draw a Markov chain: row i holds the probabilities of the word `memory` places after word i, (words, words)."""
    return np.random.RandomState(seed).dirichlet(np.full(words, _CONCENTRATION), size=words)


def _draw_words(
    transition: NDArray[np.float64], memory: int, count: int, random: np.random.RandomState
) -> NDArray[np.int64]:
    """Draw `count` words from a chain; the first `memory` ones uniformly."""
    limits = transition.cumsum(axis=1)
    words = len(limits)
    ids = random.randint(0, words, count)
    for place, share in enumerate(random.uniform(size=count)[memory:], start=memory):
        ids[place] = min(np.searchsorted(limits[ids[place - memory]], share, side="right"), words - 1)
    return ids


def _chain_perplexity(transition: NDArray[np.float64], memory: int, ids: NDArray[Any]) -> float:
    """Return a chain's own perplexity on words it drew, all but the first `memory` of them."""
    return float(np.exp(-np.log(transition[ids[:-memory], ids[memory:]]).mean()))
