"""Snapshots over time, against plain numpy on the entries that they were counted from."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from epsgrid.codec import from_document, to_document
from epsgrid.errors import CorruptRecordError, StoreError
from epsgrid.numerics.bounds import estimate_bounds
from epsgrid.numerics.counting import count, measure
from epsgrid.numerics.magnitudes import LayerStatus
from epsgrid.numerics.placement import Placement
from epsgrid.numerics.series import FRACTIONS, LayerSnapshot, Series, Snapshot, _Ends
from tests.numerics import reference
from tests.numerics.strategies import any_moments, moments, ordinary

SCALES = [0.5, 1.0, 1 / (1 - 0.999**391)]
scales = st.sampled_from(SCALES)


def layer_of(v: Any, scale: float = 1.0, histogram: bool = True) -> LayerSnapshot:
    """A layer as an observer sees it."""
    layer = LayerSnapshot.of(count(torch.as_tensor(v), scale))
    return layer if histogram else replace(layer, histogram=None)


def series_of(steps: list[list[np.ndarray | None]], scale: float = 1.0, **changes: Any) -> Series:
    """A series of layers "0", "1", ..., with steps 10, 20, ... of five to the epoch."""
    count = len(steps[0])
    snapshots = tuple(
        Snapshot(10 * n, n / 5, 1e-3, tuple(None if v is None else layer_of(v, scale) for v in layers))
        for n, layers in enumerate(steps, start=1)
    )
    names = tuple(map(str, range(count)))
    series = Series(names, ("other",) * count, (0,) * count, FRACTIONS, snapshots)
    return replace(series, **changes)


def random_layers(steps: int, sizes: tuple[int, ...] = (10, 300, 2000), seed: int = 0) -> list[list[np.ndarray | None]]:
    generator = np.random.default_rng(seed)
    return [
        [(generator.lognormal(-10, 4, size) * (generator.random(size) > 0.2)).astype(np.float32) for size in sizes]
        for _ in range(steps)
    ]


@given(st.lists(any_moments, min_size=1, max_size=4), scales, st.booleans())
def test_a_snapshot_reads_back_exactly(layers: list[np.ndarray], scale: float, histogram: bool) -> None:
    snapshot = Snapshot(3, 0.5, 1e-8, (None, *(layer_of(v, scale, histogram) for v in layers)))
    document = json.loads(json.dumps(to_document(snapshot), allow_nan=False))
    assert from_document(Snapshot, document, "snapshot") == snapshot


def test_entries_beyond_float32_are_stored_as_they_are_and_adaptable() -> None:
    v = torch.tensor([1e-300, 1e-300, 1.0, 1e300], dtype=torch.float64)
    outside = count(v, 2.0)
    values = (outside.quantile(0.0), 1e-5, outside.quantile(1.0))
    layer = LayerSnapshot(2.0, 0, 4, 0, values, outside.fold(1))
    assert layer.to_json()[4] == list(values)
    assert LayerSnapshot.from_json(json.loads(json.dumps(layer.to_json()))) == layer
    series = series_of([[v.numpy()]])  # below float32's range entries stand at its least number
    for magnitude, share in ((1e-30, 1.0), (1e-20, 0.5), (10.0, 0.25), (1e30, 0.0)):
        assert series.adaptable(magnitude=magnitude) == [(10, share)]


def test_a_series_survives_json() -> None:
    series = series_of(random_layers(3), kinds=("bias", "dense", "dense"), entries=(10, 300, 2000))
    assert Series.from_json(json.loads(json.dumps(series.to_json(), allow_nan=False))) == series


@given(
    st.lists(st.lists(moments(st.one_of(ordinary, st.just(0.0))), min_size=3, max_size=3), min_size=1, max_size=3),
    scales,
    st.sampled_from([0.01, 0.02, 0.05]),
)
def test_bounds_are_those_of_the_estimate_at_each_step(
    steps: list[list[np.ndarray | None]], scale: float, tail_fraction: float
) -> None:
    """Against the exact order statistics of `estimate_bounds`, within a bin's 0.8 %."""
    for layers in steps:
        layers.append(np.array([1e-6], dtype=np.float32))
    found = series_of(steps, scale).ends_over_time(tail_fraction)
    assert [ends.step for ends in found] == [10 * n for n in range(1, len(steps) + 1)]
    for layers, (_, low, high, *_) in zip(steps, found, strict=True):
        measured = [measure(str(n), torch.from_numpy(v), scale, tail_fraction) for n, v in enumerate(layers)]
        bounds = estimate_bounds(measured, Placement.outside(), tail_fraction)
        assert low == pytest.approx(bounds.low.magnitude, rel=1 / 128)
        assert high == pytest.approx(bounds.high.magnitude, rel=1 / 128)


def test_layers_without_state_zeros_and_broken_ones_set_no_bound() -> None:
    """As in `estimate_bounds`, which leaves a layer with a NaN out altogether."""
    broken = np.array([1e-30, np.nan, 1e30], dtype=np.float32)
    one = np.full(3, 4.0, dtype=np.float32)
    series = series_of([[None, np.zeros(2, np.float32), broken, one], [None, np.zeros(2, np.float32), broken, None]])
    assert measure("2", torch.from_numpy(broken)).status is LayerStatus.NON_FINITE
    ((step, low, high, *_),) = series.ends_over_time()
    assert step == 10
    assert (low, high) == (pytest.approx(2, rel=0.008), pytest.approx(2, rel=0.008))


def test_the_layers_that_set_the_ends_are_named_at_each_step() -> None:
    def value(magnitude: float) -> np.ndarray:
        return np.full(2, magnitude**2, dtype=np.float32)

    series = series_of([[value(1e-3), value(1e-5), value(1e-5)], [value(1e-6), value(1e-5), value(1e-2)]])
    first, second = series.ends_over_time()
    assert isinstance(first, _Ends)
    assert (first.low_layers, first.high_layers) == (("1", "2"), ("0",))
    assert (second.low_layers, second.high_layers) == (("0",), ("2",))


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda s: s.ends_over_time(0.1), r"no percentile at fraction 0\.1; it holds those at 0\.01, 0\.02, 0\.05"),
        (lambda s: s.over_time("0", 0.3), r"no percentile at fraction 0\.3; it holds those at .*0\.98, 0\.99$"),
        (lambda s: s.over_time("fc", 0.5), r"no layer 'fc'; it has 0, 1, 2$"),
    ],
)
def test_what_a_series_does_not_hold_is_told(ask: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ask(series_of(random_layers(2)))


def test_percentiles_over_time_are_those_of_the_entries() -> None:
    steps = random_layers(3)
    steps[1][0] = None
    steps[2][0] = np.zeros(3, dtype=np.float32)
    series = series_of(steps, 2.0)
    for column in range(3):
        arrays = [(10 * n, layers[column]) for n, layers in enumerate(steps, start=1)]
        entries = [(step, reference.magnitudes(v, 2.0)) for step, v in arrays if v is not None]
        expected = [(step, pytest.approx(of[int(0.75 * of.size)], rel=1 / 128)) for step, of in entries if of.size]
        assert series.over_time(str(column), 0.75) == series.over_time(str(column), 1 - 0.25) == expected
    assert [step for step, _ in series.over_time("0", 0.75)] == [10]


@given(st.lists(any_moments, min_size=1, max_size=3), scales, st.floats(1e-20, 1e20))
def test_the_adaptable_share_is_within_the_bin_of_the_magnitude(
    layers: list[np.ndarray], scale: float, magnitude: float
) -> None:
    series = series_of([list(layers)], scale)
    finite = np.concatenate([v[np.isfinite(v)] for v in layers])
    shares = series.adaptable(magnitude=magnitude)
    if not finite.size:
        assert shares == []
        return
    roots = np.sqrt(finite.astype(np.float64) * scale)
    edges = np.sqrt(reference.edges(1) * scale)
    around = np.searchsorted(edges, roots) == np.searchsorted(edges, magnitude)
    ((step, share),) = shares
    assert step == 10
    assert abs(share - (roots > magnitude).mean()) <= around.mean() + 1e-9


def test_without_a_magnitude_each_snapshot_is_asked_at_its_own_threshold() -> None:
    v = np.array([1e-8, 1e-4, 1.0], dtype=np.float32)
    series = series_of([[v], [v], [v], [v]])
    thresholds = (1e-3, None, 1e-1, 10.0)
    snapshots = [replace(s, threshold=t) for s, t in zip(series.snapshots, thresholds, strict=True)]
    snapshots[3] = replace(snapshots[3], layers=(layer_of(v, histogram=False),))
    series = replace(series, snapshots=tuple(snapshots))
    assert series.adaptable() == [(10, pytest.approx(2 / 3)), (30, pytest.approx(1 / 3))]


@pytest.mark.parametrize("count", [2, 5, 12, 50])
def test_a_thinned_series_keeps_its_ends_and_is_spread_evenly(count: int) -> None:
    series = series_of(random_layers(12, (2,)))
    steps = series.thinned(count).steps
    assert len(steps) == min(count, 12)
    assert (steps[0], steps[-1]) == (10, 120)
    gaps = np.diff(steps)
    assert gaps.max() - gaps.min() <= 10


def test_what_is_no_series_is_refused() -> None:
    with pytest.raises(CorruptRecordError, match="expected a series with a version"):
        Series.from_json([])
    for document in (None, [1.0]):
        with pytest.raises(CorruptRecordError, match="damaged layer snapshot"):
            LayerSnapshot.from_json(document)
    with pytest.raises(StoreError, match="series of version 2, written by a newer epsgrid"):
        Series.from_json({**series_of(random_layers(1)).to_json(), "version": 2})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": ["a"]}, "series: names, kinds and entries differ"),
        ({"fractions": [0.5, 0.2]}, "series: fractions do not rise"),
        ({"fractions": [0.2, 0.5]}, "series: .9. quantiles at step 10"),
        ({"snapshots": [{"step": 1, "epoch": None, "threshold": None, "layers": []}]}, "0 layers at step 1"),
    ],
    ids=str,
)
def test_a_damaged_series_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(CorruptRecordError, match=message):
        Series.from_json({**series_of(random_layers(1)).to_json(), **change})


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (0, "x", "expected a number, got 'x'"),
        (1, -1, "expected a count, got -1"),
        (2, 0, "quantiles of 0 entries"),
        (4, [0], "bin 0 does not exist at 5 mantissa bits"),
        (4, ["x"], "expected a count, got 'x'"),
        (5, [1, 0, 0, 0, []], "damaged histogram: "),
    ],
)
def test_a_damaged_layer_is_refused(place: int, value: Any, message: str) -> None:
    document = layer_of(np.array([1.0], dtype=np.float32)).to_json()
    document[place] = value
    with pytest.raises(CorruptRecordError, match=message):
        LayerSnapshot.from_json(document)
