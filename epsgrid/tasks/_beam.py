"""Beam search over a batch of sentences, decoding one token at a time, by the rules of fairseq's SequenceGenerator.

Of the best 2 · beam continuations of a sentence's unfinished translations those among the first `beam` that end are
finished, and the best `beam` that do not end go on. A sentence is done when `beam` translations are finished, or at its
own limit, where only the end may follow. The result is the finished translation of the best score, log-probability /
tokens^length_penalty, the end counted as a token.

Shapes: n sentences, R = n · beam rows of the decoder, sentence by sentence, V tokens of the dictionary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Translation:
    """A translation without start and end, and its score; no tokens and −inf if no translation has a probability."""

    tokens: list[int]
    score: float


def beam_search(
    model: Any, state: Any, limits: Tensor, beam: int, length_penalty: float, end: int, never: int
) -> list[Translation]:
    """Find a translation for each sentence.

    Args:
        model: with `step(tokens, state)`, like the one of models/transformer.py.
        state: of the model before the first token, with `beam` ≥ 1 rows, unfinished translations, for each sentence.
        limits: (n,), int64, most tokens of each translation, without the end; on the model's device.
        beam: number of unfinished translations kept.
        length_penalty: exponent of the length; larger favours longer translations.
        end: token that finishes a translation; it is also the one before the first.
        never: token that may not occur in a translation: the padding.
    """
    device = limits.device
    best = [Translation([], -math.inf)] * len(limits)
    sentences = torch.arange(len(limits), device=device)  # those that are not done
    scores = torch.full((len(limits), beam), -torch.inf, device=device)
    scores[:, 0] = 0.0  # all rows are equal before the first token: only one may be continued
    finished = torch.zeros_like(sentences)
    prefixes = limits.new_empty(len(limits), beam, 0)
    tokens = limits.new_full((len(limits) * beam,), end)
    for length in range(1, int(limits.max()) + 2):
        at_limit = limits[sentences] < length
        logits, state = model.step(tokens, state)
        log_probabilities = torch.log_softmax(logits.float(), dim=-1).view(len(sentences), beam, -1)  # (n, beam, V)
        vocabulary = log_probabilities.shape[2]
        forbidden = torch.zeros(vocabulary, dtype=torch.bool, device=device)
        forbidden[never] = True
        not_end = torch.ones_like(forbidden)
        not_end[end] = False
        log_probabilities = log_probabilities.masked_fill(forbidden | (at_limit[:, None, None] & not_end), -torch.inf)
        # the best 2 · beam continuations of each sentence, best first: score, beam that is continued, token
        top, places = (scores[:, :, None] + log_probabilities).flatten(1).topk(2 * beam, dim=1)
        parents, followers = places // vocabulary, places % vocabulary
        ended = (followers == end) & top.isfinite()
        ending = ended[:, :beam].any(1).nonzero().squeeze(1)
        if len(ending):
            first = ended[ending, :beam].int().argmax(1)  # the best of those that end
            penalised = top[ending, first] / length**length_penalty
            offered = (sentences[ending], prefixes[ending, parents[ending, first]], penalised)
            for sentence, translation, score in zip(*(part.tolist() for part in offered), strict=True):
                if score > best[sentence].score:
                    best[sentence] = Translation(translation, score)
        finished += ended[:, :beam].sum(1)
        going_on = ((finished < beam) & ~at_limit).nonzero().squeeze(1)
        if not len(going_on):
            break
        order = torch.argsort(ended.int(), dim=1, stable=True)[going_on, :beam]  # the best that do not end
        scores, parents, followers = (part[going_on].gather(1, order) for part in (top, parents, followers))
        kept = going_on if len(going_on) < len(sentences) else None
        state = state.select(kept, (going_on[:, None] * beam + parents).flatten())
        prefixes = torch.cat((prefixes[going_on[:, None], parents], followers[:, :, None]), dim=2)
        sentences, finished, tokens = sentences[going_on], finished[going_on], followers.flatten()
    return best
