from __future__ import annotations

import numpy as np
import pytest
from epsgrid.data._split import balanced_order
from hypothesis import given
from hypothesis import strategies as st

label_lists = st.lists(st.integers(0, 4), min_size=1, max_size=80)


@given(label_lists, st.integers(0, 3))
def test_it_is_a_permutation_and_the_same_every_time(labels: list[int], seed: int) -> None:
    order = balanced_order(np.array(labels), seed)
    assert sorted(order) == list(range(len(labels)))
    assert order.tolist() == balanced_order(np.array(labels), seed).tolist()


@given(label_lists, st.integers(0, 3), st.data())
def test_every_prefix_holds_the_classes_in_proportion(labels: list[int], seed: int, data: st.DataObject) -> None:
    given_labels = np.array(labels)
    first = balanced_order(given_labels, seed)[: data.draw(st.integers(0, len(labels)))]
    for label in set(labels):
        share = (given_labels == label).mean() * len(first)
        assert abs((given_labels[first] == label).sum() - share) <= len(set(labels)) / 2 + 0.5


@pytest.mark.parametrize("seed", range(5))
def test_equal_classes_are_balanced_to_one(seed: int) -> None:
    labels = np.repeat(np.arange(10), 30)
    order = balanced_order(labels, seed)
    for count in (1, 7, 10, 55, 300):
        counts = np.bincount(labels[order[:count]], minlength=10)
        assert counts.max() - counts.min() <= 1


def test_seeds_give_different_orders() -> None:
    labels = np.zeros(50, np.int64)
    assert balanced_order(labels, 0).tolist() != balanced_order(labels, 1).tolist()


def test_the_order_never_changes_with_a_version() -> None:
    """Every stored trial on held-out images depends on it."""
    assert balanced_order(np.array([0, 0, 0, 1, 1, 1, 2, 2]), 0).tolist() == EXPECTED


EXPECTED = [2, 3, 6, 1, 5, 7, 0, 4]
