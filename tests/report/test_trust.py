"""How far the bounds can be trusted, per kind of layer, and ε without a sweep: rows, tables, page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from epsgrid.numerics.bounds import EpsilonBounds
from epsgrid.numerics.estimates import FORMULAS
from epsgrid.numerics.placement import Placement
from epsgrid.numerics.reliability import Verdict
from epsgrid.report.compare import Comparison, compare, estimate_rows
from epsgrid.report.load import load_experiment
from epsgrid.report.table import Table
from epsgrid.report.text.bounds import estimates_table, kinds_table, layers_table, reliability_table
from epsgrid.report.text.page import page
from epsgrid.report.text.render import tables
from epsgrid.report.trust import estimates, kind_rows, reliability_row
from tests.report import simulate
from tests.report.kept import SMALL, probed, trusted
from tests.report.simulate import Outcome, peaked, unpadded

ADAM = Placement.outside()


def with_reliability(verdict: Verdict = "soft") -> EpsilonBounds:
    bounds = probed()
    return replace(bounds, reliability=trusted(bounds, verdict))


def test_what_was_not_looked_at_gives_no_row() -> None:
    assert reliability_row(probed()) is None


def test_a_row_tells_what_each_choice_does_to_the_bounds() -> None:
    bounds = with_reliability()
    row = reliability_row(bounds)
    assert row is not None
    assert (row.verdict, row.settled_after, row.steps) == ("soft", 4, 16)
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
    assert [(noise.layer, noise.share) for noise in row.noise] == [("conv.bias", 1.0)]


def test_without_variants_there_is_no_row_of_the_bounds_alone() -> None:
    bounds = probed()
    row = reliability_row(replace(bounds, reliability=replace(trusted(bounds), variants=(), course=None, noise={})))
    assert row is not None and row.variants == ()
    table = reliability_table(row)
    assert (table.rows, table.note) == ((), None)


def test_the_table_has_the_verdict_its_reasons_and_the_noise() -> None:
    row = reliability_row(with_reliability("not to be trusted"))
    assert row is not None
    table = reliability_table(row)
    assert table.title == "Reliability: not to be trusted"
    assert table.points == (*row.reasons, "only rounding noise: conv.bias (100.0 % of its entries)")
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
    table = kinds_table(tuple(rows.values()))
    assert table is not None and table.rows[1][-1] == "conv.bias, head.bias"


def test_kinds_are_in_the_optimizers_own_epsilon() -> None:
    placement = Placement.in_place(0.999)
    (row, *_) = kind_rows(probed(), placement)
    assert row.low == pytest.approx(placement.epsilon_from_magnitude(kind_rows(probed(), ADAM)[0].low))


def test_kinds_that_nobody_knows_are_not_listed() -> None:
    bounds = probed([replace(layer, kind="other") for layer in SMALL])
    assert kind_rows(bounds, ADAM) == ()
    assert kinds_table(()) is None
    assert "kind" not in layers_table(row_of(bounds)).columns


def row_of(bounds: EpsilonBounds):  # type: ignore[no-untyped-def]
    from epsgrid.report.compare import _bounds
    from epsgrid.report.load import StoredExperiment

    record = simulate.probe_record(bounds, ADAM)
    stored = StoredExperiment(None, None, record, bounds, None, {}, {}, {}, ())  # type: ignore[arg-type]
    return _bounds(stored)


def test_layers_are_listed_with_their_kinds_where_they_are_known() -> None:
    table = layers_table(row_of(probed()))
    assert table.columns[:3] == ("layer", "kind", "shape")
    assert table.rows[0][:2] == ("conv.weight", "convolution")


def test_layers_of_rounding_noise_have_no_say_in_the_estimates() -> None:
    bounds = probed()
    noisy = replace(bounds, reliability=replace(trusted(bounds), noise={"head.weight": 1.0, "conv.bias": 0.1}))
    found = {estimate.name: estimate.epsilon for estimate in estimates(noisy, ADAM)}
    plain = {estimate.name: estimate.epsilon for estimate in estimates(bounds, ADAM)}
    assert list(found) == list(FORMULAS)
    assert found["middle"] > plain["middle"]  # head.weight set the lower bound
    without = probed([layer for layer in SMALL if layer.name != "head.weight"])
    assert found == {estimate.name: estimate.epsilon for estimate in estimates(without, ADAM)}


def simulated(tmp_path: Path, bounds: EpsilonBounds, **changes: object) -> Comparison:
    """An experiment whose probe found these bounds."""
    stored = simulate.simulate(tmp_path, **changes)  # type: ignore[arg-type]
    simulate.probe_record(bounds, ADAM).write(stored.folder.bounds_json)
    return compare(load_experiment(stored.folder))


def test_the_regret_of_an_estimate_is_what_its_decade_loses(tmp_path: Path) -> None:
    rows = {row.name: row for row in simulated(tmp_path, probed(), truth=peaked(best=1e-2)).estimates}
    middle, upper = rows["middle"], rows["upper"]
    assert (middle.decade, middle.is_trained, middle.learning_rate) == (1e-3, True, 1e-3)
    assert middle.test is not None and middle.test.mean == pytest.approx(0.89 - 0.03, abs=0.005)
    assert middle.regret.mean == pytest.approx(0.03, abs=0.004)
    assert middle.regret.low is not None and middle.regret.low > 0
    assert (upper.decade, upper.regret.mean) == (0.1, pytest.approx(0.03, abs=0.004))


def test_regret_is_positive_where_the_estimate_loses_whatever_the_direction(tmp_path: Path) -> None:
    def perplexity(rate: float, epsilon: float | None, seed: int) -> Outcome:
        score = 60 + 3 * abs(np.log10(epsilon or 1.0) + 2) + 0.1 * seed
        return score, score

    rows = simulated(tmp_path, probed(), truth=perplexity, metric=("perplexity", "min", "")).estimates
    found = {row.name: (row.decade, row.regret.mean) for row in rows}
    assert found["middle"] == (1e-3, pytest.approx(3.0))
    assert found["upper"] == (0.1, pytest.approx(3.0))


def test_the_best_swept_setting_has_no_regret(tmp_path: Path) -> None:
    comparison = simulated(tmp_path, probed(), truth=peaked(best=1e-3))
    assert {row.regret.mean for row in comparison.estimates if row.decade == 1e-3} == {0.0}
    table = estimates_table(comparison.estimates, comparison.metric)
    assert table is not None and table.rows[0][-2] == "0.00 points: the best swept"


def test_a_decade_that_was_not_swept_is_not_trained(tmp_path: Path) -> None:
    comparison = simulated(tmp_path, probed(), narrowed=(1e-4,), conventional=(1e-8,))
    assert not any(row.is_trained for row in comparison.estimates if row.decade not in (1e-4, 1e-8))
    table = estimates_table(comparison.estimates, comparison.metric)
    assert table is not None
    assert table.rows[0][-2] == "not trained"


def test_a_decade_without_all_its_seeds_has_an_unknown_regret(tmp_path: Path) -> None:
    def truth(rate: float, epsilon: float | None, seed: int) -> Outcome:
        return "pending" if epsilon == 1e-3 and seed else peaked(best=1e-2)(rate, epsilon, seed)

    comparison = simulated(tmp_path, probed(), truth=truth)
    table = estimates_table(comparison.estimates, comparison.metric)
    assert table is not None
    assert table.rows[0][-2] == "not known"
    assert "ε 1e-3: none of 2 cells has a result for every seed" in (table.note or "")


def test_before_a_sweep_estimates_have_no_scores() -> None:
    table = estimates_table(estimate_rows(probed(), ADAM), None)
    assert table is not None
    assert table.columns == ("estimate", "formula", "ε", "decade")
    assert [row[1] for row in table.rows] == [formula for formula, _ in FORMULAS.values()]


def test_the_page_and_the_document_hold_all_of_it(tmp_path: Path) -> None:
    comparison = simulated(tmp_path, with_reliability())
    text = unpadded(page(comparison, []))
    bounds, trust = text.index("## Bounds\n"), text.index("## Reliability: soft\n")
    assert bounds < trust < text.index("## Bounds of each kind of layer") < text.index("## Point estimates of ε")
    assert "\n- with seed 1 the lower bound would be 1e-04, one decade higher\n" in text
    assert "\n| seed 1 | 1e-4 | 0.1 | 4 | +1.0, 0 |\n" in text
    assert "\n| convolution | 1 | 4,000 |" in text
    document = comparison.to_json()
    assert document["reliability"]["verdict"] == "soft"
    assert [row["kind"] for row in document["kinds"]] == ["convolution", "bias", "dense"]
    assert {row["name"] for row in document["estimates"]} == set(FORMULAS)


def test_every_row_fits_its_columns(tmp_path: Path) -> None:
    made: tuple[Table, ...] = tables(simulated(tmp_path, with_reliability()))
    assert all(len(row) == len(table.columns) for table in made for row in table.rows)
