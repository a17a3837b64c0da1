"""Beam search over a batch of sentences, decoding one token at a time.

At every step a sentence has up to `beam` unfinished translations. Each is continued by every token; of the best
2 · beam continuations those among the first `beam` that end are finished translations, and the best `beam` that do
not end go on. A sentence is done when `beam` translations are finished, or at its limit, where only the end may
follow. The result is the finished translation of the best score, log-probability / tokens^length_penalty, the end
counted as a token. These are the rules of fairseq's SequenceGenerator, with which the published BLEU was made; the
limit here is each sentence's own, so that a result does not depend on the others in the batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Decoder(Protocol):
    """What is searched: gives scores token by token and can be put back to any row. Rows are sentence by sentence."""

    def step(self, tokens: Tensor) -> Tensor:
        """Take (rows,) tokens and return (rows, V): log-probabilities of the next ones."""
        ...

    def keep(self, sentences: Tensor | None, rows: Tensor) -> None:
        """Keep some sentences, None for all, and let each row go on from what was row `rows[i]`."""
        ...


@dataclass(frozen=True)
class Search:
    """How to search.

    Attributes:
        beam: unfinished translations kept at a time, at least 1.
        length_penalty: exponent of the length; larger favours longer translations.
        start: token that every translation begins with.
        end: token that finishes a translation.
        never: tokens that never occur in one, such as the filling.
    """

    beam: int
    length_penalty: float
    start: int
    end: int
    never: tuple[int, ...]


@dataclass(frozen=True)
class Translation:
    """A translation without start and end, and its score; no tokens and −inf where no translation has a probability."""

    tokens: list[int]
    score: float


class _Best:
    """The best finished translation of each sentence so far."""

    def __init__(self, limits: Tensor) -> None:
        count, longest = len(limits), int(limits.max())
        self.scores = limits.new_full((count,), -torch.inf, dtype=torch.float32)
        self.tokens = limits.new_zeros(count, longest)
        self.lengths = limits.new_zeros(count)

    def offer(self, sentences: Tensor, scores: Tensor, prefixes: Tensor) -> None:
        """Take note of a translation for each of `sentences`: (n,) scores, (n, length) tokens."""
        better = scores > self.scores[sentences]
        chosen = sentences[better]
        self.scores[chosen] = scores[better]
        self.tokens[chosen, : prefixes.shape[1]] = prefixes[better]
        self.lengths[chosen] = prefixes.shape[1]

    def translations(self) -> list[Translation]:
        rows = zip(self.tokens.tolist(), self.lengths.tolist(), self.scores.tolist(), strict=True)
        return [Translation(tokens[:length], score) for tokens, length, score in rows]


def beam_search(decoder: Decoder, limits: Tensor, search: Search) -> list[Translation]:
    """Find a translation for each sentence.

    Args:
        decoder: at its start, with `beam` rows for each sentence.
        limits: (n,), int64, most tokens of each translation, the end not counted; on the decoder's device.
        search: how.

    Returns:
        n translations.
    """
    beam, device = search.beam, limits.device
    best = _Best(limits)
    sentences = torch.arange(len(limits), device=device)  # those still searched
    scores = torch.full((len(limits), beam), -torch.inf, device=device)
    scores[:, 0] = 0.0  # all rows are alike before the first token: only one may be continued
    finished = torch.zeros_like(sentences)
    prefixes = limits.new_empty(len(limits), beam, 0)
    tokens = limits.new_full((len(limits) * beam,), search.start)
    for length in range(1, int(limits.max()) + 2):
        at_limit = limits[sentences] < length
        log_probabilities = _allowed(decoder.step(tokens).float().view(len(sentences), beam, -1), at_limit, search)
        top, parents, followers = _continuations(scores, log_probabilities, search)
        ended = (followers == search.end) & top.isfinite()
        _finish(best, sentences, top, parents, ended, prefixes, length, search)
        finished += ended[:, :beam].sum(1)
        going_on = ((finished < beam) & ~at_limit).nonzero().squeeze(1)
        if not len(going_on):
            break
        order = torch.argsort(ended.int(), dim=1, stable=True)[going_on, :beam]  # the best that do not end
        scores, parents, followers = (part[going_on].gather(1, order) for part in (top, parents, followers))
        decoder.keep(
            going_on if len(going_on) < len(sentences) else None, (going_on[:, None] * beam + parents).flatten()
        )
        prefixes = torch.cat((prefixes[going_on[:, None], parents], followers[:, :, None]), dim=2)
        sentences, finished, tokens = sentences[going_on], finished[going_on], followers.flatten()
    return best.translations()


def _allowed(log_probabilities: Tensor, at_limit: Tensor, search: Search) -> Tensor:
    """Forbid what may never follow, and at the limit everything but the end: (n, beam, V), (n,) → (n, beam, V)."""
    forbidden = torch.zeros_like(log_probabilities[0, 0], dtype=torch.bool)
    forbidden[list(search.never)] = True
    not_end = torch.ones_like(forbidden)
    not_end[search.end] = False
    return log_probabilities.masked_fill(forbidden | (at_limit[:, None, None] & not_end), -torch.inf)


def _continuations(scores: Tensor, log_probabilities: Tensor, search: Search) -> tuple[Tensor, Tensor, Tensor]:
    """Return score, beam it continues, and token of the best 2 · beam continuations of each sentence, best first."""
    vocabulary = log_probabilities.shape[2]
    top, places = (scores[:, :, None] + log_probabilities).flatten(1).topk(2 * search.beam, dim=1)
    return top, places // vocabulary, places % vocabulary


def _finish(
    best: _Best,
    sentences: Tensor,
    top: Tensor,
    parents: Tensor,
    ended: Tensor,
    prefixes: Tensor,
    length: int,
    search: Search,
) -> None:
    """Offer the best translation of each sentence that ends among the first `beam` continuations."""
    ended = ended[:, : search.beam]
    which = ended.any(1).nonzero().squeeze(1)
    if not len(which):
        return
    first = ended[which].int().argmax(1)
    best.offer(
        sentences[which],
        top[which, first] / length**search.length_penalty,
        prefixes[which, parents[which, first]],
    )
