"""Beam search: against an exhaustive search, against a plain one sentence at a time, and its edges."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from epsgrid.tasks._beam import Translation, beam_search

PAD, END = 0, 1


class Table:
    """A toy decoder: log-probabilities looked up by sentence, position and the sum of all tokens so far, modulo V.

    `table` is (sentences, positions, V, V), log-probabilities of the next token in the last axis. A row that continues
    another translation than its own gets other scores than the plain searches.
    """

    def __init__(self, table: Tensor, beam: int) -> None:
        self.table, self.position = table, 0
        self.of_row = torch.arange(len(table)).repeat_interleave(beam)
        self.sums = torch.zeros(len(self.of_row), dtype=torch.long)

    def step(self, tokens: Tensor, state: Table) -> tuple[Tensor, Table]:
        self.sums += tokens
        scores = self.table[self.of_row, self.position, self.sums % self.table.shape[-1]]
        self.position += 1
        return scores, self

    def select(self, sentences: Tensor | None, rows: Tensor) -> Table:
        self.of_row, self.sums = self.of_row[rows], self.sums[rows]
        return self


def random_table(seed: int, sentences: int, positions: int, vocabulary: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (sentences, positions, vocabulary, vocabulary)
    return torch.log_softmax(2 * torch.randn(shape, generator=generator, dtype=torch.float64), dim=-1)


def plain(table: Tensor, limit: int, beam: int, penalty: float) -> Translation:
    """Search one sentence with lists; the rules of fairseq in as few words as possible."""
    live: list[tuple[float, tuple[int, ...]]] = [(0.0, (END,))]
    finished: list[tuple[float, tuple[int, ...]]] = []
    for position in range(limit + 1):
        followers = [END] if position == limit else range(1, table.shape[-1])
        candidates = [
            (total + table[position, sum(tokens) % table.shape[-1], token].item(), (*tokens, token))
            for total, tokens in live
            for token in followers
        ]
        candidates.sort(key=lambda candidate: -candidate[0])
        ended = [candidate for candidate in candidates[:beam] if candidate[1][-1] == END]
        finished += [(total / (len(tokens) - 1) ** penalty, tokens) for total, tokens in ended]
        live = [candidate for candidate in candidates[: 2 * beam] if candidate[1][-1] != END][:beam]
        if len(finished) >= beam:
            break
    best = max(finished)
    return Translation(list(best[1][1:-1]), best[0])


def search(decoder: Table, limits: list[int], beam: int, penalty: float = 1.0) -> list[Translation]:
    return beam_search(decoder, decoder, torch.tensor(limits), beam, penalty, end=END, never=PAD)  # type: ignore[arg-type]


def assert_same(found: list[Translation], expected: list[Translation]) -> None:
    assert [translation.tokens for translation in found] == [translation.tokens for translation in expected]
    assert [t.score for t in found] == pytest.approx([t.score for t in expected], rel=1e-5)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    limits=st.lists(st.integers(0, 7), min_size=1, max_size=5),
    beam=st.integers(1, 6),
    vocabulary=st.integers(4, 9),
    penalty=st.sampled_from([0.5, 1.0, 1.5]),
)
def test_a_batch_equals_a_plain_search_of_each_sentence(
    seed: int, limits: list[int], beam: int, vocabulary: int, penalty: float
) -> None:
    table = random_table(seed, len(limits), 8, vocabulary)
    found = search(Table(table, beam), limits, beam, penalty)
    assert_same(found, [plain(table[i], limit, beam, penalty) for i, limit in enumerate(limits)])


def test_a_model_that_gives_nan_translates_to_nothing() -> None:
    table = torch.full((2, 4, 5, 5), math.nan)
    found = search(Table(table, 2), [3, 1], 2)
    assert found == [Translation([], -math.inf)] * 2
