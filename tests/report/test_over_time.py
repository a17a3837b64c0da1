"""The numbers of what happens over time, against sorting the same entries in NumPy."""

from __future__ import annotations

import doctest
import math
from dataclasses import replace

import numpy as np
import pytest

from epsgrid.numerics.damping import damping_of
from epsgrid.numerics.placement import Placement
from epsgrid.report import table
from epsgrid.report.figures.damping import damping_of_series
from epsgrid.report.figures.over_time import dampings_of, drift, times_of, with_histograms
from epsgrid.report.figures.percentiles import FRACTIONS, _pooled_percentiles, percentile_numbers
from epsgrid.report.html import page
from epsgrid.report.text import bounds as bounds_text
from tests.report.kept import SMALL, probed, series


@pytest.mark.parametrize("module", [bounds_text, table, page])
def test_their_examples_run(module: object) -> None:
    found = doctest.testmod(module)  # type: ignore[arg-type]
    assert found.attempted and not found.failed


def roots_of(name: str, place: int, snapshots: int = 9) -> np.ndarray:
    layer = next(layer for layer in SMALL if layer.name == name)
    return layer.roots(place / (snapshots - 1))


def published(roots: np.ndarray, fraction: float) -> float:
    """The entry at the published index of the sorted non-zero entries."""
    ordered = np.sort(roots[roots > 0])
    return float(ordered[min(int(fraction * len(ordered)), len(ordered) - 1)])


def test_a_pooled_panel_holds_the_percentiles_of_all_entries_together() -> None:
    """Within the width of a stored bin; against pooling the entries themselves."""
    panel = _pooled_percentiles(series(), "weights", [0, 2])
    assert panel is not None
    assert panel.title == "weights"
    for fraction, magnitudes in zip(FRACTIONS, panel.magnitudes, strict=True):
        together = [np.concatenate([roots_of("conv.weight", p), roots_of("head.weight", p)]) for p in range(9)]
        assert magnitudes == pytest.approx([published(roots, fraction) for roots in together], rel=0.2)


def test_there_is_one_panel_for_each_kind() -> None:
    bounds = probed()
    numbers = percentile_numbers(series(), bounds, 1e-3)
    assert numbers is not None
    assert [panel.title for panel in numbers.panels] == ["convolution", "bias", "dense"]
    assert numbers.ends == (bounds.low.magnitude, bounds.high.magnitude)
    assert [*numbers.adapting] == ["convolution", "bias", "dense"]
    assert numbers.thresholds == tuple((float(epoch), 1e-3) for epoch in range(1, 10))
    unprobed = percentile_numbers(series(threshold=None), None, 1e-3)
    assert unprobed is not None
    assert (unprobed.ends, unprobed.thresholds, unprobed.adapting) == (None, (), {})


def test_snapshots_without_histograms_are_not_shown() -> None:
    kept = series(histograms=lambda index: index % 2 == 0)
    assert [snapshot.step for snapshot in with_histograms(kept)] == [10, 30, 50, 70, 90]
    together = _pooled_percentiles(kept, "all", range(4))
    assert together is not None and together.times == (1.0, 3.0, 5.0, 7.0, 9.0)
    assert [step for step, _ in kept.adaptable()] == [10, 30, 50, 70, 90]


def test_where_nothing_was_kept_nothing_is_shown() -> None:
    empty = series(snapshots=0)
    bare = series(histograms=lambda index: False)
    stateless = series(stateless=[layer.name for layer in SMALL])
    for kept in (empty, bare, stateless):
        assert percentile_numbers(kept, None, 1e-3) is None
        assert kept.adaptable() == []
    assert series(threshold=None).adaptable() == []
    assert drift(stateless, None) == ()


def share_above(names: list[str], place: int, magnitude: float) -> float:
    entries = np.concatenate([roots_of(name, place) for name in names])
    return float((entries > magnitude).mean())


def test_adaptable_shares_are_those_of_the_entries_zeros_included() -> None:
    numbers = percentile_numbers(series(), None, 1e-3)
    assert numbers is not None
    of_kind = {"convolution": ["conv.weight"], "dense": ["head.weight"], "bias": ["conv.bias", "head.bias"]}
    for kind, names in of_kind.items():
        expected = [(place + 1, share_above(names, place, 1e-3)) for place in range(9)]
        assert np.array(numbers.adapting[kind]) == pytest.approx(np.array(expected), abs=0.06)
    expected = [share_above([layer.name for layer in SMALL], place, 1e-3) for place in range(9)]
    assert [share for _, share in series().adaptable()] == pytest.approx(expected, abs=0.03)


def test_drift_is_the_published_rule_at_every_snapshot() -> None:
    bounds = probed()
    rows = drift(series(), bounds)
    assert [row.step for row in rows] == list(range(10, 100, 10))
    for place, row in enumerate(rows):
        lows = {layer.name: published(roots_of(layer.name, place), 0.02) for layer in SMALL}
        highs = {layer.name: published(roots_of(layer.name, place), 0.98) for layer in SMALL}
        assert row.low == pytest.approx(min(lows.values()), rel=0.008)
        assert row.high == pytest.approx(max(highs.values()), rel=0.008)
        assert min(lows, key=lows.__getitem__) in row.low_layers
        assert max(highs, key=highs.__getitem__) in row.high_layers
        assert row.low_moved == pytest.approx(math.log10(min(lows.values()) / bounds.low.magnitude), abs=0.004)
        assert row.high_moved == pytest.approx(math.log10(max(highs.values()) / bounds.high.magnitude), abs=0.004)
        assert row.threshold == 1e-3


def test_drift_needs_no_probe_but_the_percentiles_of_the_tail() -> None:
    assert drift(series(), None)[0].low_moved is None
    assert drift(series(), replace(probed(), tail_fraction=0.03)) == ()


def test_time_is_in_epochs_only_where_all_snapshots_know_theirs() -> None:
    kept = series()
    assert times_of(kept) == ("epoch", {10 * epoch: epoch for epoch in range(1, 10)})
    first, *others = kept.snapshots
    mixed = replace(kept, snapshots=(replace(first, epoch=None), *others))
    assert times_of(mixed) == ("step", {step: step for step in range(10, 100, 10)})


@pytest.mark.parametrize("placement", [Placement.outside(), Placement.in_place(0.999, outer=1.0)])
def test_damping_over_time_is_that_of_the_entries_at_the_epsilon_of_each_snapshot(placement: Placement) -> None:
    """The magnitude that ε weighs as much as becomes that ε again; against each entry by itself."""
    kept = series(threshold=1e-3)
    for place, snapshot in enumerate(kept.snapshots):
        found = dampings_of(kept, snapshot, placement)
        for name, damping in found.items():
            roots = roots_of(name, place)
            expected = placement.damping(roots[roots > 0], placement.epsilon_from_magnitude(1e-3)).mean()
            assert abs(damping.mean - expected) <= damping.error + 1e-6
    assert (
        dampings_of(kept, kept.snapshots[0], None) == dampings_of(series(threshold=None), kept.snapshots[0], None) == {}
    )


def test_the_figure_of_damping_has_the_layers_of_the_shortest_steps_and_only_where_they_are_short() -> None:
    numbers = damping_of_series(series(threshold=1e-2), Placement.outside())
    assert numbers is not None and (numbers.unit, len(numbers.total)) == ("epoch", 9)
    least = [min(damping for _, damping in line) for line in numbers.layers.values()]
    assert least == sorted(least) and 2 <= len(least) <= 4
    last = series(threshold=1e-2).snapshots[-1].layers
    found = [damping_of(layer.histogram, Placement.outside(), 1e-2) for layer in last if layer and layer.histogram]
    moving = [each for each in found if each is not None]
    total = sum(each.mean * each.moving for each in moving) / sum(each.moving for each in moving)
    assert numbers.total[-1] == (9.0, pytest.approx(total))
    assert damping_of_series(series(threshold=1e-12), Placement.outside()) is None
    assert damping_of_series(series(snapshots=1, threshold=1e-2), Placement.outside()) is None
