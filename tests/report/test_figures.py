"""The numbers of the figures of a sweep and of its probe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

from epsgrid.numerics.bounds import estimate_bounds
from epsgrid.numerics.placement import Placement
from epsgrid.report.figures.fractions import _FractionNumbers, fraction_numbers
from epsgrid.report.figures.histograms import _BINS_PER_DECADE, _HistogramNumbers, histogram_numbers
from epsgrid.report.figures.map import map_numbers
from epsgrid.report.figures.metric import SweepNumbers, describe_cell, sweep_numbers
from epsgrid.selection.load import load_experiment
from tests.report.simulate import Outcome, compare, layer, measured, probe_record, simulate

_T = TypeVar("_T")


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


def test_layers_are_pooled_by_their_entries_and_one_of_zeros_has_no_density(tmp_path: Path) -> None:
    zero = measured("zero", (5,), np.zeros(5, dtype=np.float32))
    layers = [layer("big", (9000,), -4.0, 0.1), layer("small", (1000,), -1.0, 0.1), zero]
    numbers = histograms(tmp_path, layers=layers)
    centres = np.array(numbers.edges[:-1])
    assert np.array(numbers.pooled)[centres < -2.5].sum() / _BINS_PER_DECADE == pytest.approx(0.9)
    assert numbers.layers[2].density == ()


def test_the_picture_holds_bounds_and_swept_epsilons(tmp_path: Path) -> None:
    numbers = histograms(tmp_path, conventional=(1e-12, 1e2))
    logs = np.log10([numbers.low, numbers.high, *(mark.magnitude for mark in numbers.marks)])
    assert logs.min() > numbers.edges[0] and logs.max() < numbers.edges[-1]
    assert [(row.sets_low, row.sets_high) for row in numbers.layers] == [(True, False), (False, True)]


def test_marks_stand_at_the_magnitude_their_epsilon_weighs(tmp_path: Path) -> None:
    placement = Placement.in_place(0.999)
    numbers = histograms(tmp_path / "a", placement=placement, narrowed=(1e-8,), conventional=(1e-10, 1e-8))
    assert [mark.grid for mark in numbers.marks] == ["conventional", "narrowed"]
    expected = [placement.magnitude_from_epsilon(epsilon) for epsilon in (1e-10, 1e-8)]
    assert [mark.magnitude for mark in numbers.marks] == pytest.approx(expected)
    only_narrowed = histograms(tmp_path / "b", conventional=None)
    assert (only_narrowed.marks[0].epsilon, only_narrowed.marks[0].grid) == (1e-8, "default")
    unswept = histograms(tmp_path / "c", sweep=False)
    assert [(mark.epsilon, mark.grid) for mark in unswept.marks] == [(10.0**k, "narrowed") for k in (-4, -3, -2)]


def test_without_a_probe_there_is_no_figure_of_it(tmp_path: Path) -> None:
    stored = simulate(tmp_path, probe=False)
    assert histogram_numbers(stored, compare(stored)) is None
    assert fraction_numbers(stored, compare(stored)) is None


ROOTS = {
    "dense": 10 ** np.random.default_rng(0).normal(-3, 0.6, 20_000),
    "bias": 10 ** np.random.default_rng(1).normal(-1, 0.2, 2_000),
}


def probed(tmp_path: Path, placement: Placement) -> _FractionNumbers:
    """Of two kinds of layers, of known entries; 500 zeros in each."""
    stored = simulate(tmp_path, rates=(1e-3,), seeds=(0,), placement=placement)
    layers = []
    for kind, roots in ROOTS.items():
        v = np.concatenate([np.zeros(500), roots**2]).astype(np.float32)
        layers.append(replace(measured(f"0.{kind}", (v.size,), v), kind=kind))
    probe_record(estimate_bounds(layers, placement), placement).write(stored.folder.bounds_json)
    stored = load_experiment(stored.folder)
    numbers = fraction_numbers(stored, compare(stored))
    assert numbers is not None
    return numbers


@pytest.mark.parametrize("placement", [Placement.outside(), Placement.inside()])
def test_fractions_are_counted_entries(tmp_path: Path, placement: Placement) -> None:
    """Against counting the entries themselves, one by one; zeros adapt at no ε."""
    numbers = probed(tmp_path, placement)
    magnitudes = np.array([placement.magnitude_from_epsilon(epsilon) for epsilon in numbers.epsilons])
    everything = np.concatenate(list(ROOTS.values()))
    expected = (everything[None, :] > magnitudes[:, None]).sum(axis=1) / (len(everything) + 1000)
    assert numbers.total.shares == pytest.approx(expected, abs=0.004)
    by_kind = {kind.title: kind.shares for kind in numbers.kinds}
    for kind, roots in ROOTS.items():
        alone = (roots[None, :] > magnitudes[:, None]).sum(axis=1) / (len(roots) + 500)
        assert by_kind[kind] == pytest.approx(alone, abs=0.01)


def test_fractions_fall_from_side_to_side_and_hold_the_swept_epsilons(tmp_path: Path) -> None:
    numbers = of(fraction_numbers, tmp_path / "a")
    shares = numbers.total.shares
    assert list(shares) == sorted(shares, reverse=True) and (shares[0], shares[-1]) == (1.0, 0.0)
    assert np.diff(np.log10(numbers.epsilons)) == pytest.approx(0.1)
    swept, at_mark, narrowed = zip(*numbers.marks, strict=True)
    assert swept == pytest.approx([10.0**k for k in range(-8, 0)])
    assert narrowed == (False,) * 4 + (True,) * 3 + (False,)
    assert at_mark == pytest.approx(np.interp(np.log10(swept), np.log10(numbers.epsilons), shares), abs=0.01)
    assert numbers.epsilons[0] < swept[0] and swept[-1] < numbers.epsilons[-1]
    one_kind = of(fraction_numbers, tmp_path / "b", layers=[layer("w", (500,), -3.0)], sweep=False)
    assert (one_kind.kinds, one_kind.marks) == ((), ())


def diverging(rate: float, epsilon: float | None, seed: int) -> Outcome:
    if epsilon == 1e-8 and rate == 1e-2:
        return "diverged"
    if epsilon == 1e-7 and rate == 1e-2:
        return "diverged" if seed == 0 else "failed" if seed == 1 else (0.5, 0.4)
    return (0.9, 0.8) if (rate, epsilon) == (1e-3, 1e-3) else (0.6 + seed / 100, 0.5)


def test_a_point_for_each_cell_with_a_result(tmp_path: Path) -> None:
    numbers = of(sweep_numbers, tmp_path, truth=diverging)
    assert (numbers.rates, numbers.decades, numbers.default_epsilon) == ((1e-3, 1e-2), (1e-4, 1e-2), 1e-8)
    assert numbers.epsilons == pytest.approx([10.0**k for k in range(-8, 0)])
    assert {label: len(points) for label, points in numbers.curves.items()} == {"lr 1e-3": 8, "lr 1e-2": 8}
    cells = {(cell.learning_rate, cell.epsilon): cell for cell in numbers.cells}
    assert numbers.chosen == (("narrowed", cells[1e-3, 1e-3]), ("conventional", cells[1e-3, 1e-3]))
    shown = (cells[1e-3, 1e-8], cells[1e-2, 1e-8], cells[1e-2, 1e-7])
    words = [describe_cell(cell, cell.score, numbers.metric) for cell in shown]
    assert words == [
        "lr 1e-3, ε 1e-8: 61.00 ± 1.00 %",
        "lr 1e-2, ε 1e-8: 3 of 3 seeds diverged",
        "lr 1e-2, ε 1e-7: 50.00 %; 1 of 3 seeds diverged; 1 seed without a result",
    ]


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
    assert isinstance(sweep_numbers(stored, compare(stored)), SweepNumbers) is has_curve
    assert isinstance(map_numbers(stored, compare(stored)), SweepNumbers) is (not changes)
