from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from epsgrid.errors import CorruptRecordError, NoBoundsError, StoreError
from epsgrid.numerics.bounds import EpsilonBounds, Reliability, Variant, estimate_bounds
from epsgrid.numerics.counting import measure
from epsgrid.numerics.magnitudes import Bound, LayerStatistics, LayerStatus, decade_of
from epsgrid.numerics.placement import Placement
from tests.numerics import reference
from tests.numerics.strategies import moments, ordinary

OUTSIDE = Placement.outside()


def layer(name: str, low: float, high: float, nonzero: int = 10) -> LayerStatistics:
    return LayerStatistics(name, (nonzero,), nonzero, nonzero, low, high, None, LayerStatus.MEASURED)


@given(st.lists(moments(st.one_of(ordinary, st.just(0.0)), min_size=1), min_size=1, max_size=4), st.floats(1, 1000))
def test_bounds_equal_the_published_algorithm(layers: list[np.ndarray], scale: float) -> None:
    layers = [np.append(v, np.float32(1e-6)) for v in layers]
    measured = [measure(str(index), torch.from_numpy(v), scale) for index, v in enumerate(layers)]
    bounds = estimate_bounds(measured, OUTSIDE, 0.02)
    assert (bounds.low.magnitude, bounds.high.magnitude) == reference.published_bounds(layers, scale)
    assert bounds.low.decade == pytest.approx(10 ** round(math.log10(bounds.low.magnitude)))


def test_ranks_never_differ_from_the_authors_arithmetic() -> None:
    """Their code writes (1 - 0.98) * n and 0.98 * n."""
    for first in range(1, 10_000_001, 1_000_000):
        n = np.arange(first, first + 1_000_000)
        np.testing.assert_array_equal((0.02 * n).astype(np.int64), ((1 - 0.98) * n).astype(np.int64))
        np.testing.assert_array_equal(((1 - 0.02) * n).astype(np.int64), (0.98 * n).astype(np.int64))


def test_each_bound_names_the_layers_that_set_it() -> None:
    bounds = estimate_bounds([layer("a", 2e-7, 1e-3, 7), layer("b", 1e-6, 3e-3), layer("c", 2e-7, 3e-3)], OUTSIDE)
    assert bounds.low == Bound(2e-7, 2e-7, 1e-7, ("a", "c"), 7)
    assert bounds.high == Bound(3e-3, 3e-3, 1e-3, ("b", "c"), 10)
    assert bounds.decades == (1e-7, 1e-6, 1e-5, 1e-4, 1e-3)


def test_magnitudes_of_a_squared_epsilon_are_rounded_before_they_are_converted() -> None:
    """4e-3 rounds to 1e-2, whose square is 1e-4; its own square, 1.6e-5, would round to half a decade of magnitude."""
    bounds = estimate_bounds([layer("a", 4e-3, 4e-2)], Placement.inside())
    assert (bounds.low.magnitude, bounds.low.decade) == (4e-3, 1e-4)
    assert (bounds.low.epsilon, bounds.decades) == (1.6e-5, (1e-4, 1e-2))
    assert EpsilonBounds.from_json(json.loads(json.dumps(bounds.to_json()))) == bounds
    assert estimate_bounds([layer("a", 4e-3, 4e-3)], Placement.in_place(0.999)).low.decade == 1e-7


def test_bounds_without_rounding_noise_are_another_choice() -> None:
    published = estimate_bounds([layer("a", 2e-7, 1e-3), layer("noise", 2e-14, 1e-13)], OUTSIDE)
    assert published.chosen("trusted") == published.beside(published) == published
    both = published.beside(estimate_bounds([layer("a", 2e-7, 1e-3)], OUTSIDE))
    assert both.chosen("published").low.decade == 1e-14
    trusted = both.chosen("trusted")
    assert (trusted.low.decade, trusted.layers, trusted.without_noise) == (1e-7, published.layers, None)
    assert EpsilonBounds.from_json(json.loads(json.dumps(both.to_json()))) == both


def test_bounds_of_earlier_versions_hold_those_without_noise_as_a_variant() -> None:
    published = estimate_bounds([layer("a", 2e-7, 1e-3), layer("noise", 2e-14, 1e-13)], OUTSIDE)
    without = estimate_bounds([layer("a", 2e-7, 1e-3)], OUTSIDE)
    variant = Variant("without", "rounding noise", without.low, without.high)
    stored = replace(published, reliability=Reliability("low", ("noise sets the lower bound",), (variant,)))
    assert EpsilonBounds.from_json(stored.to_json()).chosen("trusted").low == without.low


def test_layers_that_are_not_measured_are_kept_and_skipped() -> None:
    frozen = LayerStatistics.unmeasured("embedding", (3, 4), LayerStatus.FROZEN)
    broken = measure("broken", torch.tensor([1.0, torch.nan, 1e-30]))
    bounds = estimate_bounds([frozen, layer("a", 1e-5, 1e-3), broken], OUTSIDE)
    assert bounds.skipped == (frozen, broken)
    assert bounds.low.layers == bounds.high.layers == ("a",)
    assert (frozen.entries, frozen.nonzero, frozen.histogram) == (12, 0, None)


def test_no_measured_layer_gives_no_bounds_and_the_reasons() -> None:
    unmeasured = [LayerStatistics.unmeasured(f"layer{n}", (1,), LayerStatus.NO_GRADIENT) for n in range(29)]
    for layers, message in (
        ([measure("fc.weight", torch.zeros(3))], r"none of the 1 layers.*fc\.weight: all zero\); check"),
        ([measure("a", torch.zeros(3)), *unmeasured], r"\(a: all zero; .*; layer6: no gradient; and 22 more\)"),
        ([], "the optimizer holds no parameters"),
    ):
        with pytest.raises(NoBoundsError, match=message):
            estimate_bounds(layers, OUTSIDE)


def test_a_decade_is_the_float_that_one_types() -> None:
    for exponent in (-40, -8, 0, 9):
        assert decade_of(1.01 * 10.0**exponent) == float(f"1e{exponent}")
    for value in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="only a positive finite number has a decade"):
            decade_of(value)


def some_bounds() -> EpsilonBounds:
    layers = [
        measure("a", torch.linspace(0, 1e-6, 200), 1.7),
        measure("zero", torch.zeros(3, 2)),
        LayerStatistics.unmeasured("frozen", (2, 2), LayerStatus.FROZEN),
    ]
    return estimate_bounds(layers, Placement.in_place(0.999), 0.05)


def test_bounds_survive_json() -> None:
    bounds = some_bounds()
    assert EpsilonBounds.from_json(json.loads(json.dumps(bounds.to_json(), allow_nan=False))) == bounds


@pytest.mark.parametrize("document", [None, {"version": None}])
def test_what_is_no_bounds_is_refused(document: Any) -> None:
    with pytest.raises(CorruptRecordError, match="expected a set of bounds with a version"):
        EpsilonBounds.from_json(document)
    with pytest.raises(StoreError, match="version 2, written by a newer epsgrid"):
        EpsilonBounds.from_json({**some_bounds().to_json(), "version": 2})


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (["low"], 3, "bounds: low: expected an object, got 3"),
        (["layers", 0, "status"], "tired", r"bounds: layers\[0\].*status: expected 'measured' or 'all zero' or"),
        (["layers", 0, "low"], None, r"bounds: layers\[0\].*: a: measured, yet None"),
        (["layers", 0, "histogram"], {"version": 1}, "histogram: histogram with wrong fields"),
    ],
)
def test_damaged_bounds_are_refused(place: list[Any], value: Any, message: str) -> None:
    document = part = some_bounds().to_json()
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    with pytest.raises(CorruptRecordError, match=message):
        EpsilonBounds.from_json(document)
