"""Compute what a Penn Treebank language model must beat: unigram and Kneser-Ney trigram perplexity; numpy only.

    python scripts/baseline_ptb.py [--root FOLDER] [--unchecked]

The trigram is interpolated, modified Kneser-Ney (Chen and Goodman 1998, section 3): three discounts per order from the
counts of counts, continuation counts below the highest order. Sentences are scored each on its own behind two start
marks, every word and every `<eos>` counts, `<unk>` is a word like any other. Nothing is tuned.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from epsgrid.data._corpus import EOS
from epsgrid.errors import EpsgridError
from epsgrid.tasks import ptb

Ids = NDArray[np.int64]
Shares = NDArray[np.float64]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--root", type=Path, help="folder of the three files; found as the task ptb finds them if left out"
    )
    parser.add_argument("--unchecked", action="store_true", help="accept any text, as `checked: false` does")
    arguments = parser.parse_args()
    try:
        root = str(arguments.root) if arguments.root else None
        corpus = ptb.prepare(ptb.Options(name="ptb", root=root, checked=not arguments.unchecked))
    except EpsgridError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    words, eos = len(corpus.words), corpus.words.index(EOS)
    model = KneserNey.fit(trigrams(corpus.train, words, eos), words)
    print(corpus.description)
    print(f"{'perplexity':<32}{'validation':>12}{'test':>12}")
    for name, score in (
        ("uniform", lambda ids: np.full(len(ids), 1 / words)),
        ("unigram", lambda ids: unigram(corpus.train, words)[ids]),
        ("Kneser-Ney bigram", lambda ids: model.bigram(*trigrams(ids, words, eos)[1:])),
        ("Kneser-Ney trigram", lambda ids: model.trigram(*trigrams(ids, words, eos))),
    ):
        shown = (f"{perplexity(score(ids)):12.2f}" for ids in (corpus.validation, corpus.test))
        print(f"{name:<32}{''.join(shown)}")
    return 0


def perplexity(probabilities: Shares) -> float:
    return float(np.exp(-np.log(probabilities).mean()))


def unigram(train: NDArray[Any], words: int) -> Shares:
    """Return each word's share of the training text; none is 0, as the vocabulary is that of the text."""
    counts: Ids = np.bincount(train, minlength=words)
    return _shares(counts)


def trigrams(ids: NDArray[Any], start: int, eos: int) -> tuple[Ids, Ids, Ids]:
    """Return every word with the two before it in its sentence; `start`, an id of its own, stands for missing ones."""
    last = ids.astype(np.int64)
    before = np.concatenate([[eos], last[:-1]])
    middle = np.where(before == eos, start, before)
    two_before = np.concatenate([[start], middle[:-1]])
    return np.where(middle == start, start, two_before), middle, last


@dataclass(frozen=True)
class Table:
    """Counts of n-grams (contexts, words) of one order, and what the interpolation needs of them.

    Attributes:
        keys: (n,), sorted; context · base + word.
        counts: (n,), ≥ 1.
        contexts: (m,), sorted.
        totals: (m,), sum of the counts in each context.
        left: (m,), share of each context that the discounts take away.
        discounts: for counts 0, 1, 2 and 3 or more.
        base: one more than the largest word.
    """

    keys: Ids
    counts: Ids
    contexts: Ids
    totals: Ids
    left: Shares
    discounts: Shares
    base: int

    @staticmethod
    def of(keys: Ids, counts: Ids, base: int) -> Table:
        """Make the table of n-grams with these keys and counts."""
        discounts = _discounts(counts)
        contexts, place = np.unique(keys // base, return_inverse=True)
        totals = np.bincount(place, counts).astype(np.int64)
        left = np.bincount(place, discounts[np.minimum(counts, 3)]) / totals
        return Table(keys, counts, contexts, totals, left, discounts, base)

    def interpolate(self, context: Ids, word: Ids, lower: Shares) -> Shares:
        """Return P(word | context), given that of the order below."""
        counts = _look_up(self.keys, self.counts, context * self.base + word)
        totals = _look_up(self.contexts, self.totals, context)
        left = np.where(totals > 0, _look_up(self.contexts, self.left, context), 1.0)
        own: Shares = (counts - self.discounts[np.minimum(counts, 3)]) / np.maximum(totals, 1)
        return own + left * lower


@dataclass(frozen=True)
class KneserNey:
    """The model: a table for each order, and the continuation shares of single words."""

    three: Table
    two: Table
    one: Shares

    @staticmethod
    def fit(grams: tuple[Ids, Ids, Ids], words: int) -> KneserNey:
        """Fit the model to what `trigrams` returns for the training text."""
        base = words + 1  # the start mark is a word of contexts
        first, middle, last = grams
        pairs, pair_counts = np.unique(middle * base + last, return_counts=True)
        triples, triple_counts = np.unique((first * base + middle) * base + last, return_counts=True)
        continued, continuations = np.unique(triples % (base * base), return_counts=True)
        assert np.array_equal(continued, pairs)
        # Nothing but another start mark comes before one: pairs that begin with it keep their plain counts.
        counts = np.where(pairs // base == words, pair_counts, continuations)
        ends = np.bincount(pairs % base, minlength=words)
        three, two = Table.of(triples, triple_counts, base), Table.of(pairs, counts, base)
        return KneserNey(three, two, _shares(ends))

    def bigram(self, middle: Ids, last: Ids) -> Shares:
        """Return P(last | middle)."""
        return self.two.interpolate(middle, last, self.one[last])

    def trigram(self, first: Ids, middle: Ids, last: Ids) -> Shares:
        """Return P(last | first, middle)."""
        return self.three.interpolate(first * self.three.base + middle, last, self.bigram(middle, last))


def _shares(counts: Ids) -> Shares:
    shares: Shares = counts / counts.sum()
    return shares


def _discounts(counts: Ids) -> Shares:
    """Return Chen and Goodman's discounts for counts 0, 1, 2 and 3 or more, from how many n-grams have each count."""
    once, twice, thrice, often = (int((counts == count).sum()) for count in (1, 2, 3, 4))
    share = once / (once + 2 * twice)
    return np.array([0, 1 - 2 * share * twice / once, 2 - 3 * share * thrice / twice, 3 - 4 * share * often / thrice])


def _look_up(keys: Ids, values: NDArray[Any], wanted: Ids) -> NDArray[Any]:
    """Return the values of the keys that are wanted, 0 for those that are not there."""
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[places] == wanted, values[places], 0)


if __name__ == "__main__":
    sys.exit(main())
