"""How far the bounds can be trusted, per kind of layer, and ε without a sweep: rows, tables, page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from epsgrid.numerics.bounds import EpsilonBounds, Verdict
from epsgrid.numerics.estimates import _FORMULAS
from epsgrid.numerics.placement import Placement
from epsgrid.report.compare import _bounds_row, estimates
from epsgrid.report.text.bounds import kinds_table, layers_table, reliability_table
from epsgrid.report.text.page import page
from epsgrid.report.text.render import tables
from epsgrid.report.trust import kind_rows, reliability_row
from epsgrid.selection.load import load_experiment
from tests.report import simulate
from tests.report.kept import SMALL, probed, trusted
from tests.report.simulate import compare, unpadded

ADAM = Placement.outside()


def with_reliability(verdict: Verdict = "medium") -> EpsilonBounds:
    bounds = probed()
    return replace(bounds, reliability=trusted(bounds, verdict))


def test_a_row_tells_what_each_choice_does_to_the_bounds() -> None:
    bounds = with_reliability()
    row = reliability_row(bounds)
    assert row is not None
    assert (row.verdict, row.settled_after, row.steps) == ("medium", 4, 16)
    assert [variant.choice for variant in row.variants] == [
        "as measured",
        "tail of 5 %",
        "seed 1",
        "weights moving at lr 0.001",
        "without rounding noise",
        "β₂ = 0.99",
    ]
    by_choice = {variant.choice: variant for variant in row.variants}
    measured, other = by_choice["as measured"], by_choice["seed 1"]
    assert (measured.low, measured.high, measured.decades) == (1e-5, 0.1, 5)
    assert (other.low, other.decades, other.low_moved, other.high_moved) == pytest.approx((1e-4, 4, 1.0, 0.0))
    assert reliability_row(probed()) is None
    assert row.to_json()["noise"] == [{"layer": "conv.bias", "share": 1.0}]


def test_the_table_has_the_verdict_its_reasons_and_the_noise() -> None:
    row = reliability_row(with_reliability("low"))
    assert row is not None
    table = reliability_table(row)
    assert table.title == "Reliability: low"
    assert table.points == (*row.reasons, "only rounding noise: conv.bias (100 % of its entries)")
    assert table.rows[0] == ("as measured", "1e-5", "0.1", "5", "–")
    assert table.rows[2] == ("seed 1", "1e-4", "0.1", "4", "+1.0, 0")
    assert table.note is not None and table.note.startswith("decades settled after 4 of 16 batches")


def test_each_kind_has_the_bounds_its_layers_would_set_alone() -> None:
    bounds = probed()
    rows = {row.kind: row for row in kind_rows(bounds, ADAM)}
    layers = {layer.name: layer for layer in bounds.layers}
    assert list(rows) == ["convolution", "bias", "dense"]
    bias = rows["bias"]
    assert (bias.layers, bias.entries, bias.low_layer, bias.high_layer) == (2, 42, "conv.bias", "head.bias")
    assert (bias.low, bias.high) == (layers["conv.bias"].low, layers["head.bias"].high)
    placement = Placement.in_place(0.999)
    (first, *_) = kind_rows(bounds, placement)
    assert first.low == pytest.approx(placement.epsilon_from_magnitude(rows["convolution"].low))
    table = kinds_table(tuple(rows.values()))
    assert table is not None and table.rows[1][-1] == "conv.bias, head.bias"


def test_kinds_that_nobody_knows_are_not_listed() -> None:
    bounds = probed([replace(layer, kind="other") for layer in SMALL])
    assert kind_rows(bounds, ADAM) == ()
    assert kinds_table(()) is None
    assert "kind" not in layers_table(_bounds_row(bounds, ADAM)).columns
    table = layers_table(_bounds_row(probed(), ADAM))
    assert table.columns[:3] == ("layer", "kind", "shape")
    assert table.rows[0][:2] == ("conv.weight", "convolution")


def test_layers_of_rounding_noise_have_no_say_in_the_estimates() -> None:
    bounds = probed()
    noisy = replace(bounds, reliability=replace(trusted(bounds), noise={"head.weight": 1.0, "conv.bias": 0.1}))
    found = {estimate.name: estimate.epsilon for estimate in estimates(noisy, ADAM)}
    plain = {estimate.name: estimate.epsilon for estimate in estimates(bounds, ADAM)}
    assert list(found) == list(_FORMULAS)
    assert found["middle"] > plain["middle"]  # head.weight set the lower bound
    without = probed([layer for layer in SMALL if layer.name != "head.weight"])
    assert found == {estimate.name: estimate.epsilon for estimate in estimates(without, ADAM)}


def test_the_page_and_the_document_hold_all_of_it(tmp_path: Path) -> None:
    stored = simulate.simulate(tmp_path)
    simulate.probe_record(with_reliability(), ADAM).write(stored.folder.bounds_json)
    comparison = compare(load_experiment(stored.folder))
    text = unpadded(page(comparison, []))
    bounds, trust = text.index("## Bounds\n"), text.index("## Reliability: medium\n")
    assert bounds < trust < text.index("## Bounds of each kind of layer") < text.index("## Point estimates of ε")
    assert "\n- with seed 1 the lower bound would be 1e-4, one decade higher\n" in text
    assert "\n| seed 1 | 1e-4 | 0.1 | 4 | +1.0, 0 |\n" in text
    assert "\n| convolution | 1 | 4,000 |" in text
    assert all(len(row) == len(table.columns) for table in tables(comparison) for row in table.rows)
    document = comparison.to_json()
    assert document["reliability"]["verdict"] == "medium"
    assert [row["kind"] for row in document["kinds"]] == ["convolution", "bias", "dense"]
    assert {row["name"] for row in document["estimates"]} == set(_FORMULAS)
