"""Bounds at several batch sizes, of layers whose law is known: shares of noise, scaling errors, verdict, tables."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from epsgrid.numerics.bounds import EpsilonBounds, estimate_bounds
from epsgrid.numerics.magnitudes import LayerStatistics, LayerStatus
from epsgrid.numerics.placement import Placement
from epsgrid.report.batches import _MeasuredBatches, noise_rows, read_batches
from epsgrid.report.text.batches import noise_tables
from epsgrid.store.paths import ExperimentFolder
from epsgrid.store.records import VariedRecord
from tests.report.kept import trusted
from tests.report.simulate import measured, probe_record

BASE, SIZES, SEEDS = 64, (16, 64, 256), (0, 1, 2)
Law = Callable[[int], float]
NOISE: Law = lambda size: (size / BASE) ** -0.5  # noqa: E731
SIGNAL: Law = lambda size: 1.0  # noqa: E731
HALF: Law = lambda size: (0.5 + 0.5 * BASE / size) ** 0.5  # noqa: E731


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
        (HALF, NOISE, "safe for the upper bound only"),
        (HALF, SIGNAL, "not safe"),
    ],
)
def test_the_verdict_follows_the_laws_of_the_bounds(low, high, answer):
    rows = noise_rows(batches(low, high, sizes=(8, 64, 512)))
    assert rows.answer == answer
    assert "between batch 8 and 512" in rows.verdict
    share = {NOISE: 1.0, HALF: 0.5, SIGNAL: 0.0}
    for law in rows.laws:
        expected = share[low if law.layer == "low.weight" else high]
        assert -2 * law.exponent == pytest.approx(expected, abs=0.04)
        assert abs(-2 * law.exponent - expected) <= 2 * law.exponent_within


def test_the_verdict_says_how_much_of_it_is_noise():
    verdict = noise_rows(batches(NOISE, SIGNAL)).verdict
    noise = re.search(
        r"noise is \D*([\d.]+) % .* of v̂ at the lower bound and \D*([\d.]+) % .* at the upper, at batch 64$", verdict
    )
    assert float(noise[1]) > 95 > 5 > float(noise[2])


def test_much_scatter_cannot_tell():
    assert noise_rows(batches(scatter=0.3)).answer == "cannot tell"


def test_two_sizes_have_no_law_and_one_seed_no_interval():
    rows = noise_rows(batches(sizes=(64, 256), seeds=(0,)))
    assert (rows.answer, rows.laws) == ("safe", ())
    assert rows.notes[1:] == (
        "one seed: errors have no interval; --seeds 3 gives them one",
        "two sizes do not tell noise from signal: add a third",
    )
    assert len(noise_tables(rows)) == 1
    assert noise_rows(batches(SIGNAL, SIGNAL, sizes=(64, 256), seeds=(0,))).answer == "not safe"


def test_scaling_errors_are_those_computed_by_hand():
    found = batches(NOISE, SIGNAL)
    rows = noise_rows(found)
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
    notes = " ".join(noise_rows(found).notes)
    assert "batch 256 is 25 % of the data: drawn without replacement, its noise is 13 % smaller" in notes
    assert "mean square of only 4 gradients" in notes
    assert "gradient" not in " ".join(noise_rows(batches()).notes)


def test_a_layer_that_is_rounding_noise_has_no_law():
    found = batches()
    own = found.bounds[BASE, 0]
    marked = replace(own, reliability=replace(trusted(own), noise={"low.weight": 1.0}))
    rows = noise_rows(replace(found, bounds={**found.bounds, (BASE, 0): marked}))
    assert {law.layer for law in rows.laws} == {"high.bias"}


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
    sizes, layers = noise_tables(noise_rows(found))
    assert [row[0] for row in sizes.rows] == ["16", "64 (spec)", "256"]
    assert sizes.rows[1][4] == sizes.rows[1][6] == "–"
    assert sizes.points[0].startswith("scaling bounds by 1/√κ between batch 16 and 256: safe for the lower bound only;")
    assert [row[0] for row in layers.rows] == ["low.weight", "high.bias"]
    assert layers.note.startswith("p: the slope of log √v̂ at batch 64")
