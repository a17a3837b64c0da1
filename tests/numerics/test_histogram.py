from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from epsgrid.errors import CorruptRecordError
from epsgrid.numerics.counting import count
from epsgrid.numerics.histogram import LogHistogram, bin_count
from epsgrid.numerics.tables import Counter
from tests.numerics import reference
from tests.numerics.strategies import any_moments, moments, ordinary

FRACTIONS = [0.0, 0.02, 0.25, 0.5, 0.75, 0.98, 1.0]


def histogram_of(v: Any, scale: float = 1.0, mantissa_bits: int = 5) -> LogHistogram:
    return Counter((), mantissa_bits).count([torch.as_tensor(v, dtype=torch.float32)]).histogram(0, scale)


@pytest.mark.parametrize("mantissa_bits", [0, 1, 5, 10])
def test_edges_are_the_roots_of_the_binary_steps(mantissa_bits: int) -> None:
    edges = histogram_of([], 0.3, mantissa_bits).edges()
    np.testing.assert_array_equal(edges, np.sqrt(reference.edges(mantissa_bits) * 0.3))
    assert len(edges) == bin_count(mantissa_bits)


@given(any_moments, st.integers(0, 5))
def test_folding_equals_counting_with_coarser_bins(v: np.ndarray, mantissa_bits: int) -> None:
    assert histogram_of(v).fold(mantissa_bits) == histogram_of(v, mantissa_bits=mantissa_bits)


@given(any_moments)
def test_a_histogram_survives_json_and_pickle(v: np.ndarray) -> None:
    histogram = histogram_of(v, 1.75)
    assert LogHistogram.from_json(json.loads(json.dumps(histogram.to_json()))) == histogram
    assert pickle.loads(pickle.dumps(histogram)) == histogram  # noqa: S301


@given(moments(ordinary, min_size=1), st.floats(1e-3, 1e3))
def test_quantiles_are_within_a_128th_of_the_published_order_statistic(v: np.ndarray, scale: float) -> None:
    exact = reference.magnitudes(v, scale)
    for fraction in FRACTIONS:
        truth = exact[min(int(fraction * len(exact)), len(exact) - 1)]
        assert abs(histogram_of(v, scale).quantile(fraction) / truth - 1) < 1 / 128


@given(any_moments, st.integers(0, 8160))
def test_the_entries_above_a_bin_edge_are_exact(v: np.ndarray, edge: int) -> None:
    histogram = histogram_of(v)
    magnitude = histogram.edges()[edge]
    assert histogram.entries_above(magnitude) == (reference.magnitudes(v) > magnitude).sum()
    assert histogram.finite == np.isfinite(v).sum()


def test_entries_outside_the_range_stand_at_its_ends() -> None:
    histogram = count(torch.tensor([1e-300, 1e300], dtype=torch.float64), scale=4.0)
    assert histogram.quantile(0) == 2 * 2.0**-74.5
    assert histogram.quantile(1) == 2 * 2.0**64


def test_a_rank_is_located_in_its_bin() -> None:
    v = [0.0, 1e-300, 1.01, 1.02, 4.0, 1e300, np.inf]
    histogram = count(torch.tensor(v, dtype=torch.float64))
    assert [histogram.locate(rank) for rank in range(5)] == [(0, 0), (4065, 0), (4065, 1), (4128, 0), (8161, 0)]


def test_counts_cannot_be_changed() -> None:
    source = np.zeros(bin_count(5), dtype=np.int64)
    histogram = LogHistogram(5, source)
    source[0] = 1
    assert histogram.total == 0
    with pytest.raises(ValueError, match="read-only"):
        histogram.counts[0] = 1


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: LogHistogram(-1, np.zeros(1, dtype=np.int64)), r"mantissa_bits must lie in 0\.\.10"),
        (lambda: LogHistogram(5, np.zeros(8193, dtype=np.int64)), "counts must be 8161 numbers"),
        (lambda: histogram_of([1.0], np.nan), "scale must be positive and finite"),
        (lambda: histogram_of([1.0]).quantile(1.1), r"fraction must lie in \[0, 1\]"),
    ],
)
def test_what_makes_no_histogram_is_refused(act: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        act()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("runs", [[8160, 1, 1]], r"run of 2 counts at bin 8160 does not fit bins 0\.\.8160"),
        ("runs", [[5, 1], [5, 1]], r"run of 1 counts at bin 5 does not fit bins 6\.\.8160"),
        ("runs", [[5, -1]], "expected a count, got -1"),
        ("nan", True, "expected a count, got True"),
        ("scale", "x", "damaged histogram"),
        ("mantissa_bits", 99, "mantissa_bits must lie in"),
        ("version", None, "expected a histogram with a version, got"),
        ("colour", 1, "wrong fields: colour"),
    ],
)
def test_a_damaged_histogram_is_refused(field: str, value: Any, message: str) -> None:
    with pytest.raises(CorruptRecordError, match=message):
        LogHistogram.from_json({**histogram_of([1.0]).to_json(), field: value})
