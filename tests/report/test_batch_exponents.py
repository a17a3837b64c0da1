"""Bounds at several batch sizes, of layers whose law is known: exponents, scaling errors, verdict, figure."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from epsgrid.numerics.bounds import EpsilonBounds, estimate_bounds
from epsgrid.numerics.magnitudes import LayerStatistics, LayerStatus
from epsgrid.numerics.placement import Placement
from epsgrid.report.batches import _MeasuredBatches, exponent_rows, read_batches
from epsgrid.report.text.batches import exponent_tables
from epsgrid.store.paths import ExperimentFolder
from epsgrid.store.records import VariedRecord
from tests.report.kept import trusted
from tests.report.simulate import measured, probe_record

BASE, SIZES, SEEDS = 64, (16, 64, 256), (0, 1, 2)
Law = Callable[[int], float]
NOISE: Law = lambda size: (size / BASE) ** -0.5  # noqa: E731
SIGNAL: Law = lambda size: 1.0  # noqa: E731
QUARTER: Law = lambda size: (size / BASE) ** -0.25  # noqa: E731


def layer(name: str, kind: str, middle: float, law: Law, size: int, seed: int, scatter: float) -> LayerStatistics:
    """A layer of 500 entries over a decade and a half whose magnitudes follow a law, up to a scatter per probe."""
    rng = np.random.default_rng([seed, size, len(name)])
    level = 1 + 0.2 * np.random.default_rng(seed).random()
    roots = middle * level * law(size) * 10 ** np.linspace(-0.75, 0.75, 500) * 10 ** (scatter * rng.standard_normal())
    found = measured(name, (500,), (roots**2).astype(np.float32))
    return replace(found, kind=kind)


def batch_record(sizes: tuple[int, ...], seeds: tuple[int, ...], examples: int | None) -> VariedRecord:
    """The record of probes at some batch sizes."""
    return VariedRecord(("training.batch_size",), tuple((float(size),) for size in sizes), (BASE,), seeds, examples)


def batches(
    low: Law = NOISE,
    high: Law = NOISE,
    *,
    sizes: tuple[int, ...] = SIZES,
    seeds: tuple[int, ...] = SEEDS,
    scatter: float = 0.005,
    **changes: object,
) -> _MeasuredBatches:
    """Two layers, of which the first sets the lower and the second the upper bound."""
    bounds: dict[tuple[int, int], EpsilonBounds] = {}
    for size in sizes:
        for seed in seeds:
            layers = [
                layer("low.weight", "dense", 1e-5, low, size, seed, scatter),
                layer("high.bias", "bias", 1e-1, high, size, seed, scatter),
                LayerStatistics.unmeasured("frozen.weight", (3,), LayerStatus.FROZEN, "dense"),
            ]
            bounds[size, seed] = estimate_bounds(layers, Placement.outside())
    record = batch_record(sizes, seeds, None)
    steps = {size: 8192 // size for size in sizes}
    return replace(_MeasuredBatches(record, bounds, steps), **changes)


@pytest.mark.parametrize(
    ("low", "high", "answer"),
    [
        (NOISE, NOISE, "safe"),
        (NOISE, SIGNAL, "safe for the lower bound only"),
        (QUARTER, NOISE, "safe for the upper bound only"),
        (QUARTER, SIGNAL, "not safe"),
    ],
)
def test_the_verdict_follows_the_laws_of_the_bounds(low, high, answer):
    rows = exponent_rows(batches(low, high))
    assert rows.answer == answer
    assert rows.low.value == pytest.approx(math.log(low(256)) / math.log(4), abs=0.02)
    assert rows.high.value == pytest.approx(math.log(high(256)) / math.log(4), abs=0.02)
    assert "between batch 16 and 256" in rows.verdict


def test_much_scatter_or_no_interval_cannot_tell():
    assert exponent_rows(batches(scatter=0.5)).answer == "cannot tell"
    rows = exponent_rows(batches(sizes=(64, 256), seeds=(0,)))
    assert rows.answer == "cannot tell"
    assert any("two sizes and one seed leave no interval" in note for note in rows.notes)


def test_layers_have_their_own_exponents_and_an_unmeasured_one_has_none():
    rows = exponent_rows(batches(NOISE, SIGNAL))
    noise, signal, frozen = rows.layers
    assert [noise.median.regime, signal.median.regime] == ["noise-dominated", "signal-dominated"]
    assert (frozen.low, frozen.median, frozen.high) == (None, None, None)
    assert "in their median 1 of 2 layers are noise-dominated, 1 signal-dominated" in rows.verdict


def test_scaling_errors_are_those_computed_by_hand():
    found = batches(NOISE, SIGNAL)
    rows = exponent_rows(found)
    for row in rows.sizes:
        if row.batch_size == BASE:
            assert (row.low_scaling_error, row.high_scaling_error) == (None, None)
            continue
        by_hand = [
            np.log10(found.bounds[BASE, seed].high.magnitude / math.sqrt(row.batch_size / BASE))
            - np.log10(found.bounds[row.batch_size, seed].high.magnitude)
            for seed in SEEDS
        ]
        assert row.high_scaling_error.mean == pytest.approx(np.mean(by_hand), abs=1e-9)
        assert row.kappa == row.batch_size / BASE


def test_a_batch_that_is_much_of_the_data_and_few_gradients_are_told():
    found = batches(steps={16: 64, 64: 16, 256: 4})
    found = replace(found, record=batch_record(SIZES, SEEDS, 1024))
    notes = " ".join(exponent_rows(found).notes)
    assert "batch 256 is 25 % of the data: drawn without replacement, its noise is 13 % smaller" in notes
    assert "mean square of only 4 gradients" in notes
    assert "gradient" not in " ".join(exponent_rows(batches()).notes)


def test_a_layer_that_is_rounding_noise_is_marked():
    found = batches()
    own = found.bounds[BASE, 0]
    marked = replace(own, reliability=replace(trusted(own), noise={"low.weight": 1.0}))
    rows = exponent_rows(replace(found, bounds={**found.bounds, (BASE, 0): marked}))
    assert [row.is_rounding_noise for row in rows.layers] == [True, False, False]
    assert exponent_tables(rows)[-1].rows[0][0] == "low.weight (rounding noise)"


def test_records_on_disk_are_read_back_whole(tmp_path):
    folder = ExperimentFolder(tmp_path)
    assert read_batches(folder) is None
    found = batches(sizes=(64, 256), seeds=(0,))
    for (size, seed), bounds in found.bounds.items():
        probe_record(bounds, Placement.outside()).write(found.record.probe(folder, (size,), seed))
    found.record.write(folder.varied(found.record.keys))
    read = read_batches(folder)
    assert read.bounds == found.bounds
    assert read.steps == {64: 11, 256: 11}


def test_tables_show_bounds_and_layers():
    found = batches(NOISE, SIGNAL)
    sizes, layers = exponent_tables(exponent_rows(found))
    assert [row[0] for row in sizes.rows] == ["16", "64 (spec)", "256"]
    assert sizes.rows[1][5] == sizes.rows[1][8] == "–"
    assert sizes.points[0].startswith("scaling bounds by 1/√κ between batch 16 and 256: safe for the lower bound only;")
    assert layers.rows[2][3:] == ("–", "–", "–", "–")
