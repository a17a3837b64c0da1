"""The numbers of the figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from epsgrid.report.numbers.figures import (
    BINS_PER_DECADE,
    CurveNumbers,
    HistogramNumbers,
    curve_numbers,
    histogram_numbers,
)

from epsgrid.numerics.placement import Placement
from epsgrid.report.compare import compare
from tests.report.simulate import Outcome, layer, measured, peaked, simulate


def histograms(tmp_path: Path, **changes: object) -> HistogramNumbers:
    stored = simulate(tmp_path, **changes)  # type: ignore[arg-type]
    numbers = histogram_numbers(stored, compare(stored))
    assert numbers is not None
    return numbers


def curves(tmp_path: Path, **changes: object) -> CurveNumbers:
    stored = simulate(tmp_path, **changes)  # type: ignore[arg-type]
    numbers = curve_numbers(stored, compare(stored))
    assert numbers is not None
    return numbers


def test_densities_are_shares_per_decade(tmp_path: Path) -> None:
    """Against NumPy's own histogram of the same entries, on the same edges."""
    roots = 10 ** np.random.default_rng(0).normal(-3, 0.5, 50_000)
    v = np.concatenate([np.zeros(1000), roots**2]).astype(np.float32)
    numbers = histograms(tmp_path, layers=[measured("w", (51_000,), v)])
    expected, _ = np.histogram(np.log10(np.sqrt(v[v > 0].astype(float))), bins=numbers.edges)
    assert sum(numbers.layers[0].density) / BINS_PER_DECADE == pytest.approx(1.0, abs=1e-3)
    assert numbers.layers[0].density == pytest.approx(expected / 50_000 * BINS_PER_DECADE, abs=0.02)
    assert numbers.layers[0].zero_share == pytest.approx(1000 / 51_000)
    assert numbers.pooled == numbers.layers[0].density


def test_layers_are_pooled_by_their_entries(tmp_path: Path) -> None:
    layers = [layer("big", (9000,), -4.0, 0.1), layer("small", (1000,), -1.0, 0.1)]
    numbers = histograms(tmp_path, layers=layers)
    centres = np.array(numbers.edges[:-1])
    assert np.array(numbers.pooled)[centres < -2.5].sum() / BINS_PER_DECADE == pytest.approx(0.9)


def test_nothing_is_dense_where_there_are_no_entries(tmp_path: Path) -> None:
    zero = measured("zero", (5,), np.zeros(5, dtype=np.float32))
    numbers = histograms(tmp_path, layers=[layer("w", (100,), -3.0), zero])
    assert numbers.layers[1].density == ()
    assert (numbers.layers[1].zero_share, numbers.layers[1].status) == (1.0, "all zero")


def test_the_picture_holds_bounds_and_swept_epsilons(tmp_path: Path) -> None:
    numbers = histograms(tmp_path, conventional=(1e-12, 1e2))
    logs = np.log10([numbers.low, numbers.high, *(mark.magnitude for mark in numbers.marks)])
    assert logs.min() > numbers.edges[0] and logs.max() < numbers.edges[-1]


def test_a_few_denormals_do_not_stretch_the_picture(tmp_path: Path) -> None:
    v = np.full(100_000, 1e-6, dtype=np.float32)
    v[:10] = 1e-44
    numbers = histograms(tmp_path, layers=[measured("w", (100_000,), v)], sweep=False)
    assert numbers.edges[0] >= -5


def test_marks_stand_at_the_magnitude_their_epsilon_weighs(tmp_path: Path) -> None:
    placement = Placement.in_place(0.999)
    numbers = histograms(tmp_path, placement=placement, narrowed=(1e-8,), conventional=(1e-10, 1e-8))
    assert [mark.grids for mark in numbers.marks] == [("conventional",), ("narrowed", "conventional")]
    expected = [placement.magnitude_from_epsilon(epsilon) for epsilon in (1e-10, 1e-8)]
    assert [mark.magnitude for mark in numbers.marks] == pytest.approx(expected)


def test_the_default_is_marked_where_no_grid_has_it(tmp_path: Path) -> None:
    numbers = histograms(tmp_path, conventional=None)
    assert (numbers.marks[0].epsilon, numbers.marks[0].grids) == (1e-8, ())


def test_before_a_sweep_the_decades_to_come_are_marked(tmp_path: Path) -> None:
    numbers = histograms(tmp_path, sweep=False)
    assert [mark.epsilon for mark in numbers.marks] == [1e-4, 1e-3, 1e-2]


def test_the_layers_that_set_the_bounds_are_known(tmp_path: Path) -> None:
    numbers = histograms(tmp_path)
    assert [(row.sets_low, row.sets_high) for row in numbers.layers] == [(True, False), (False, True)]


def test_without_a_probe_there_is_no_histogram(tmp_path: Path) -> None:
    stored = simulate(tmp_path, probe=False)
    assert histogram_numbers(stored, compare(stored)) is None


def test_one_curve_per_learning_rate(tmp_path: Path) -> None:
    numbers = curves(tmp_path, rates=(1e-3, 1e-2))
    assert [curve.label for curve in numbers.curves] == ["lr 1e-3", "lr 1e-2"]
    assert [point.x for point in numbers.curves[0].points] == pytest.approx([10.0**k for k in range(-8, 0)])
    assert (numbers.band, numbers.default_epsilon) == ((1e-4, 1e-2), 1e-8)
    chosen = {point.x: point.best_of for point in numbers.curves[0].points if point.best_of}
    assert {x: names[:2] for x, names in chosen.items() if x in (1e-3, 1e-8)} == {
        1e-3: ("narrowed", "conventional"),
        1e-8: ("default",),
    }


def test_diverged_cells_have_points_without_a_score(tmp_path: Path) -> None:
    def truth(rate: float, epsilon: float | None, seed: int) -> Outcome:
        return "diverged" if epsilon == 1e-8 and seed < 3 else peaked()(rate, epsilon, seed)

    point = curves(tmp_path, truth=truth, rates=(1e-3,)).curves[0].points[0]
    assert (point.score, point.diverged, point.seeds) == (None, 3, 3)


def test_cells_without_a_result_have_no_point(tmp_path: Path) -> None:
    def truth(rate: float, epsilon: float | None, seed: int) -> Outcome:
        return "pending" if epsilon == 1e-8 else peaked()(rate, epsilon, seed)

    assert curves(tmp_path, truth=truth).curves[0].points[0].x == 1e-7


def test_the_reference_is_one_curve_over_learning_rates(tmp_path: Path) -> None:
    numbers = curves(tmp_path, reference=True, probe=False, optimizer="sgdm", rates=(1e-3, 1e-2))
    assert [[point.x for point in curve.points] for curve in numbers.curves] == [[1e-3, 1e-2]]
    assert (numbers.has_epsilon, numbers.band, numbers.default_epsilon) == (False, None, None)


def test_without_results_there_is_no_curve(tmp_path: Path) -> None:
    stored = simulate(tmp_path, lambda rate, epsilon, seed: "pending")
    assert curve_numbers(stored, compare(stored)) is None
