"""A generated stand-in for a parallel corpus: two toy languages with a grammar. Numbers on it mean nothing.

Both have articles, nouns, adjectives, verbs and adverbs, made of syllables and drawn with Zipf's frequencies; every
word has one translation. The word orders differ, so that a model has to learn more than a dictionary:

    source:  [adverb] article [adjective] noun  article [adjective] noun  verb .
    target:  article noun [adjective]  verb  article noun [adjective]  [adverb] .
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_SIZES = {"article": 4, "noun": 120, "adjective": 40, "verb": 60, "adverb": 20}
_SYLLABLES = (
    tuple(a + b for a in "bdfgklmnprst" for b in ("a", "e", "i", "o", "u")),
    tuple(a + b + c for a in "bdgklmprstvz" for b in "aeiou" for c in ("n", "r", "s")),
)
_OPTIONAL = 0.4


@dataclass(frozen=True)
class ToyText:
    """Sentence pairs of one split; line i of `target` translates line i of `source`."""

    source: tuple[str, ...]
    target: tuple[str, ...]


def generate(train: int, validation: int, test: int, seed: int) -> tuple[ToyText, ToyText, ToyText]:
    """Generate pairs for training, validation and testing; the same arguments give the same text on every machine."""
    random = np.random.RandomState(seed)
    lexicon = {kind: _words(random, size) for kind, size in _SIZES.items()}
    first, second, third = (_text(random, lexicon, count) for count in (train, validation, test))
    return first, second, third


_Word = tuple[str, str]


def _words(random: np.random.RandomState, size: int) -> list[_Word]:
    """Invent words of two or three syllables, each with its translation."""
    sides = [[_word(random, syllables) for _ in range(size)] for syllables in _SYLLABLES]
    return list(zip(*sides, strict=True))


def _word(random: np.random.RandomState, syllables: tuple[str, ...]) -> str:
    return "".join(syllables[index] for index in random.randint(0, len(syllables), random.randint(2, 4)))


def _text(random: np.random.RandomState, lexicon: dict[str, list[_Word]], count: int) -> ToyText:
    pairs = [_sentence(random, lexicon) for _ in range(count)]
    return ToyText(tuple(source for source, _ in pairs), tuple(target for _, target in pairs))


def _sentence(random: np.random.RandomState, lexicon: dict[str, list[_Word]]) -> tuple[str, str]:
    def draw(kind: str) -> _Word:
        weights = 1 / np.arange(1, len(lexicon[kind]) + 1)
        return lexicon[kind][random.choice(len(weights), p=weights / weights.sum())]

    def maybe(kind: str) -> list[_Word]:
        return [draw(kind)] if random.uniform() < _OPTIONAL else []

    adverb, verb = maybe("adverb"), [draw("verb")]
    (a, b, c), (d, e, f) = (([draw("article")], maybe("adjective"), [draw("noun")]) for _ in range(2))
    source = [*adverb, *a, *b, *c, *d, *e, *f, *verb]
    target = [*a, *c, *b, *verb, *d, *f, *e, *adverb]
    return " ".join([*(word for word, _ in source), "."]), " ".join([*(word for _, word in target), "."])
