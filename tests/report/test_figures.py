"""The numbers of the figures of a sweep and of its probe."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

from epsgrid.numerics.placement import Placement
from epsgrid.report.figures.curve import _CurveNumbers, curve_numbers
from epsgrid.report.figures.histograms import _BINS_PER_DECADE, _HistogramNumbers, histogram_numbers
from epsgrid.report.figures.map import _MapNumbers, map_numbers, shades
from tests.report.simulate import Outcome, compare, layer, measured, peaked, simulate

_T = TypeVar("_T")
THREE_RATES = (1e-4, 1e-3, 1e-2)


def of(numbers: Callable[..., _T | None], tmp_path: Path, **changes: Any) -> _T:
    stored = simulate(tmp_path, **changes)
    found = numbers(stored, compare(stored))
    assert found is not None
    return found


def histograms(tmp_path: Path, **changes: Any) -> _HistogramNumbers:
    return of(histogram_numbers, tmp_path, **changes)


def test_densities_are_shares_per_decade(tmp_path: Path) -> None:
    """Against NumPy's own histogram of the same entries, on the same edges."""
    roots = 10 ** np.random.default_rng(0).normal(-3, 0.5, 50_000)
    v = np.concatenate([np.zeros(1000), roots**2]).astype(np.float32)
    numbers = histograms(tmp_path, layers=[measured("w", (51_000,), v)])
    expected, _ = np.histogram(np.log10(np.sqrt(v[v > 0].astype(float))), bins=numbers.edges)
    assert sum(numbers.layers[0].density) / _BINS_PER_DECADE == pytest.approx(1.0, abs=1e-3)
    assert numbers.layers[0].density == pytest.approx(expected / 50_000 * _BINS_PER_DECADE, abs=0.02)
    assert numbers.pooled == numbers.layers[0].density


@pytest.mark.parametrize("placement", [Placement.outside(), Placement.inside()])
def test_the_share_that_adapts_is_that_of_counted_entries(tmp_path: Path, placement: Placement) -> None:
    """Against counting the entries themselves, one by one; zeros adapt at no ε."""
    roots = 10 ** np.random.default_rng(0).normal(-3, 0.6, 20_000)
    v = np.concatenate([np.zeros(500), roots**2]).astype(np.float32)
    numbers = histograms(tmp_path, layers=[measured("w", (v.size,), v)], placement=placement)
    expected = [(np.sqrt(v.astype(float)) > 10**edge).mean() for edge in numbers.edges]
    assert numbers.adapting == pytest.approx(expected, abs=0.004)


def test_layers_are_pooled_by_their_entries_and_one_of_zeros_has_no_density(tmp_path: Path) -> None:
    zero = measured("zero", (5,), np.zeros(5, dtype=np.float32))
    layers = [layer("big", (9000,), -4.0, 0.1), layer("small", (1000,), -1.0, 0.1), zero]
    numbers = histograms(tmp_path, layers=layers)
    centres = np.array(numbers.edges[:-1])
    assert np.array(numbers.pooled)[centres < -2.5].sum() / _BINS_PER_DECADE == pytest.approx(0.9)
    assert (numbers.layers[2].density, numbers.layers[2].ends) == ((), (None, None))


def test_the_picture_holds_bounds_and_swept_epsilons_at_the_magnitudes_they_weigh(tmp_path: Path) -> None:
    placement = Placement.in_place(0.999)
    numbers = histograms(tmp_path / "a", placement=placement, narrowed=(1e-8,), conventional=(1e-12, 1e-8, 1e2))
    logs = np.log10([numbers.low, numbers.high, *numbers.swept])
    assert logs.min() > numbers.edges[0] and logs.max() < numbers.edges[-1]
    assert [row.sets for row in numbers.layers] == ["low", "high"]
    expected = [placement.magnitude_from_epsilon(epsilon) for epsilon in (1e-12, 1e-8, 1e2)]
    assert numbers.swept == pytest.approx(expected)
    assert numbers.default == (1e-8, numbers.swept[1])
    unswept = histograms(tmp_path / "b", sweep=False)
    assert (unswept.swept, unswept.default) == (pytest.approx([1e-4, 1e-3, 1e-2]), None)


def falling(rate: float, epsilon: float | None, seed: int) -> Outcome:
    """As good as the best up to 1e-5, worse at 1e-3, diverged at 1e-1; the default pends on one seed."""
    if epsilon == 1e-1 or rate == 1e-2:
        return "diverged"
    score = (0.9 if (epsilon or 0.0) < 1e-4 else 0.7) - (0.05 if rate == 1e-4 else 0.0) + seed / 500
    return score, score - 0.01


def test_every_epsilon_stands_at_its_best_learning_rate(tmp_path: Path) -> None:
    """Spreads against NumPy; the margin is that of the answers."""
    rates, epsilons = (1e-4, 3e-4, 1e-3, 1e-2), (1e-8, 1e-5, 1e-3, 1e-1)
    changes = {"rates": rates, "narrowed": (1e-5, 1e-3), "conventional": epsilons}
    numbers = of(curve_numbers, tmp_path, truth=falling, **changes)
    assert [(point.x, point.standing) for point in numbers.points] == [
        (1e-8, "as good"),
        (1e-5, "as good"),
        (1e-3, "worse"),
        (1e-1, "diverged"),
    ]
    tests = np.array([falling(1e-3, 1e-8, seed)[1] for seed in (0, 1, 2)], dtype=float)
    spread = numbers.points[0].spread
    assert spread is not None and (spread.mean, spread.sd) == pytest.approx((tests.mean(), tests.std(ddof=1)))
    assert (numbers.points[3].spread, numbers.best, numbers.margin) == (None, pytest.approx(tests.mean()), 0.01)
    assert (numbers.decades, numbers.default_epsilon, numbers.what) == ((1e-4, 1e-2), 1e-8, "ε of adam")


def test_what_is_not_finished_stands_at_its_best_so_far(tmp_path: Path) -> None:
    def truth(rate: float, epsilon: float | None, seed: int) -> Outcome:
        return "pending" if seed or epsilon != 1e-3 else peaked()(rate, epsilon, seed)

    numbers = of(curve_numbers, tmp_path, truth=truth)
    (shown,) = (point for point in numbers.points if point.spread)
    assert shown.spread is not None
    assert (shown.x, shown.standing, shown.spread.n) == (1e-3, "not finished", 1)
    assert shown.spread.mean == pytest.approx(peaked()(1e-3, 1e-3, 0)[1])


def test_without_an_epsilon_the_curve_goes_by_learning_rate(tmp_path: Path) -> None:
    numbers = of(curve_numbers, tmp_path, reference=True, probe=False, optimizer="sgdm", rates=THREE_RATES)
    assert [(point.x, point.standing) for point in numbers.points] == [(rate, "") for rate in THREE_RATES]
    assert (numbers.margin, numbers.decades, numbers.default_epsilon) == (None, None, None)
    assert numbers.what == "learning rate of sgdm"


def test_the_map_frames_the_best_rate_of_each_epsilon(tmp_path: Path) -> None:
    numbers = of(map_numbers, tmp_path, rates=THREE_RATES)
    assert (numbers.rates, numbers.decades, len(numbers.cells)) == (THREE_RATES, (1e-4, 1e-2), 24)
    assert numbers.epsilons == pytest.approx([10.0**k for k in range(-8, 0)])
    assert {(cell.learning_rate, cell.epsilon) for cell in numbers.best} == {(1e-3, e) for e in numbers.epsilons}


@pytest.mark.parametrize("metric", [("accuracy", "max", "%"), ("error", "min", "%")])
def test_shades_tell_apart_what_is_near_the_best(tmp_path: Path, metric: tuple[str, str, str]) -> None:
    """A setting that does not learn must not turn all others into one shade."""

    def collapsing(rate: float, epsilon: float | None, seed: int) -> Outcome:
        score = {1e-8: 0.95, 1e-5: 0.94, 1e-3: 0.8}.get(epsilon or 0.0, 0.1)
        return (score, score) if metric[1] == "max" else (1 - score, 1 - score)

    changes: dict[str, Any] = {"narrowed": (1e-3,), "conventional": (1e-8, 1e-5, 1e-3, 1e-1), "metric": metric}
    numbers = of(map_numbers, tmp_path, truth=collapsing, **changes)
    margin = numbers.margin or 0.0
    found = sorted(shades(numbers).values(), reverse=True)
    expected = [1 - np.log1p(distance / margin) / np.log1p(0.85 / margin) for distance in (0, 0.01, 0.15, 0.85)]
    assert margin > 0 and sorted(set(np.round(found, 9)), reverse=True) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("changes", "has_curve"),
    [
        ({}, True),
        ({"rates": (1e-3,)}, True),
        ({"conventional": None, "narrowed": (1e-8,), "probe": False}, True),
        ({"reference": True, "probe": False}, True),
        ({"truth": lambda rate, epsilon, seed: "pending"}, False),
        ({"sweep": False}, False),
    ],
)
def test_there_is_no_map_of_one_row_or_column_or_nothing(
    tmp_path: Path, changes: dict[str, object], has_curve: bool
) -> None:
    stored = simulate(tmp_path, **changes)  # type: ignore[arg-type]
    comparison = compare(stored)
    assert isinstance(curve_numbers(stored, comparison), _CurveNumbers) is has_curve
    assert isinstance(map_numbers(stored, comparison), _MapNumbers) is (not changes)
    assert (histogram_numbers(stored, comparison) is None) is (changes.get("probe") is False)
