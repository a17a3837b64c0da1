"""Generated text in two toy languages, for trying things out and for tests; nothing learnt about the real world.

Both have articles, nouns, adjectives, verbs and adverbs, made of syllables and drawn with Zipf's frequencies; every
word has one translation. The word orders differ, so that a model has to learn more than a dictionary:

    source:  [adverb] article [adjective] noun  article [adjective] noun  verb .
    target:  article noun [adjective]  verb  article noun [adjective]  [adverb] .
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from epsgrid.data._parallel import ParallelCorpus, ParallelText, encoded_corpus
from epsgrid.spec.options import Count, Seed
from epsgrid.tasks._build import build_translation
from epsgrid.tasks._options import TranslationOptions

_SIZES = {"article": 4, "noun": 120, "adjective": 40, "verb": 60, "adverb": 20}
_SYLLABLES = (
    tuple(a + b for a in "bdfgklmnprst" for b in ("a", "e", "i", "o", "u")),
    tuple(a + b + c for a in "bdgklmprstvz" for b in "aeiou" for c in ("n", "r", "s")),
)
_OPTIONAL_SHARE = 0.4

_Word = tuple[str, str]

START = {
    "model": {"name": "transformer", "width": 32, "ffn": 64, "encoder_layers": 1, "decoder_layers": 1},
    "training": {"epochs": 3, "batch_size": 512},
}


class Options(TranslationOptions):
    """The sentence pairs that are generated; how they are encoded, searched and judged."""

    train: Count = 2000
    """Training pairs."""
    validation: Count = 200
    """Validation pairs."""
    test: Count = 200
    """Test pairs."""
    data_seed: Seed = 0
    """Seed of the pairs."""
    vocabulary: Annotated[int, Field(ge=2)] = 400
    """Entries of the joint byte-pair encoding."""


def prepare(options: Options) -> ParallelCorpus:
    """Generate and encode the text, or map from the cache what was encoded before."""
    return encoded_corpus(
        lambda: generate(options),
        ["generated", options.train, options.validation, options.test, options.data_seed],
        "GENERATED toy languages (no real data)",
        ("source", "target"),
        options.vocabulary,
    )


build = build_translation


def generate(options: Options) -> dict[str, ParallelText]:
    """Generate the sentence pairs of each split; equal options give equal text on every machine."""
    random = np.random.RandomState(options.data_seed)
    lexicon: dict[str, list[_Word]] = {}
    for kind, size in _SIZES.items():
        sides = [  # words of two or three syllables
            ["".join(part[i] for i in random.randint(0, len(part), random.randint(2, 4))) for _ in range(size)]
            for part in _SYLLABLES
        ]
        lexicon[kind] = list(zip(*sides, strict=True))
    splits = {}
    for split, count in (("train", options.train), ("validation", options.validation), ("test", options.test)):
        pairs = [_sentence(random, lexicon) for _ in range(count)]
        splits[split] = ParallelText([source for source, _ in pairs], [target for _, target in pairs], count)
    return splits


def _sentence(random: np.random.RandomState, lexicon: dict[str, list[_Word]]) -> tuple[str, str]:
    def draw(kind: str) -> _Word:
        weights = 1 / np.arange(1, len(lexicon[kind]) + 1)
        return lexicon[kind][random.choice(len(weights), p=weights / weights.sum())]

    def maybe(kind: str) -> list[_Word]:
        return [draw(kind)] if random.uniform() < _OPTIONAL_SHARE else []

    adverb, verb = maybe("adverb"), [draw("verb")]
    (a, b, c), (d, e, f) = (([draw("article")], maybe("adjective"), [draw("noun")]) for _ in range(2))
    source = [*adverb, *a, *b, *c, *d, *e, *f, *verb]
    target = [*a, *c, *b, *verb, *d, *f, *e, *adverb]
    return " ".join([*(word for word, _ in source), "."]), " ".join([*(word for _, word in target), "."])
