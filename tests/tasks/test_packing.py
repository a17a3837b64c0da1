"""Packing by length: every pair once, nothing over the limit, and the same batches as the plain rule gives."""

from __future__ import annotations

import numpy as np
import pytest
from epsgrid.tasks._packing import pack
from hypothesis import given, settings
from hypothesis import strategies as st

from epsgrid.errors import SpecError

LENGTHS = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=120)


def plain(longer: list[int], order: list[int], tokens: int, multiple: int) -> list[list[int]]:
    """Fill batches pair by pair, with lists."""
    batches: list[list[int]] = []
    batch: list[int] = []
    for pair in order:
        if (len(batch) + 1) * max(longer[other] for other in [*batch, pair]) > tokens:
            taken = len(batch) - len(batch) % multiple if len(batch) >= multiple else len(batch)
            batches.append(batch[:taken])
            batch = batch[taken:]
        batch.append(pair)
    return [*batches, batch]


@settings(max_examples=60, deadline=None)
@given(lengths=LENGTHS, tokens=st.integers(40, 400), multiple=st.integers(1, 8))
def test_batches_hold_every_pair_once_within_the_limit(
    lengths: list[tuple[int, int]], tokens: int, multiple: int
) -> None:
    source, target = np.array(lengths).T
    batches = pack(source, target, tokens, multiple)
    assert sorted(pair for batch in batches for pair in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch)
        assert len(batch) * max(source[batch].max(), target[batch].max()) <= tokens
    for batch in batches[:-1]:
        assert len(batch) % multiple == 0 or len(batch) < multiple
    order = [pair for batch in batches for pair in batch]
    assert [(source[pair], target[pair]) for pair in order] == sorted(map(tuple, lengths))
    longer = np.maximum(source, target).tolist()
    assert [batch.tolist() for batch in batches] == plain(longer, order, tokens, multiple)


def test_pairs_of_equal_lengths_do_not_stay_neighbours() -> None:
    ones = np.ones(100, np.int64)
    batches = pack(ones, ones, 10)
    assert [len(batch) for batch in batches] == [8] * 12 + [4]
    assert batches[0].tolist() != list(range(8))
    assert [batch.tolist() for batch in pack(ones, ones, 10)] == [batch.tolist() for batch in batches]


def test_a_sentence_longer_than_a_batch_is_refused() -> None:
    with pytest.raises(
        SpecError, match=r"training\.batch_size: 128, which this task counts in tokens, .* 200; the pub"
    ):
        pack(np.array([3, 5]), np.array([200, 5]), 128)
