"""The numbers of adaptable shares against ε."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from epsgrid.report.numbers.fractions import FractionNumbers, fraction_numbers

from epsgrid.numerics.bounds import estimate_bounds
from epsgrid.numerics.placement import Placement
from epsgrid.report.compare import compare
from epsgrid.report.load import load_experiment
from tests.report.simulate import layer, measured, probe_record, simulate

ROOTS = {
    "dense": 10 ** np.random.default_rng(0).normal(-3, 0.6, 20_000),
    "bias": 10 ** np.random.default_rng(1).normal(-1, 0.2, 2_000),
}


def fractions(tmp_path: Path, **changes: object) -> FractionNumbers:
    stored = simulate(tmp_path, **changes)  # type: ignore[arg-type]
    numbers = fraction_numbers(stored, compare(stored))
    assert numbers is not None
    return numbers


def probed(tmp_path: Path, placement: Placement, zeros: int = 0) -> FractionNumbers:
    """Of two kinds of layers, of known entries."""
    stored = simulate(tmp_path, rates=(1e-3,), seeds=(0,), placement=placement)
    layers = []
    for kind, roots in ROOTS.items():
        v = np.concatenate([np.zeros(zeros), roots**2]).astype(np.float32)
        layers.append(replace(measured(f"0.{kind}", (v.size,), v), kind=kind))
    probe_record(estimate_bounds(layers, placement), placement).write(stored.folder.bounds_json)
    stored = load_experiment(stored.folder)
    numbers = fraction_numbers(stored, compare(stored))
    assert numbers is not None
    return numbers


@pytest.mark.parametrize("placement", [Placement.outside(), Placement.inside()])
def test_shares_are_counted_entries(tmp_path: Path, placement: Placement) -> None:
    """Against counting the entries themselves, one by one; 500 zeros in each layer adapt at no ε."""
    numbers = probed(tmp_path, placement, zeros=500)
    magnitudes = np.array([placement.magnitude_from_epsilon(epsilon) for epsilon in numbers.epsilons])
    everything = np.concatenate(list(ROOTS.values()))
    expected = (everything[None, :] > magnitudes[:, None]).sum(axis=1) / (len(everything) + 1000)
    assert numbers.total.shares == pytest.approx(expected, abs=0.004)
    by_kind = {kind.title: kind.shares for kind in numbers.kinds}
    for kind, roots in ROOTS.items():
        alone = (roots[None, :] > magnitudes[:, None]).sum(axis=1) / (len(roots) + 500)
        assert by_kind[kind] == pytest.approx(alone, abs=0.01)


def test_the_fall_is_where_quantiles_are(tmp_path: Path) -> None:
    everything = np.concatenate(list(ROOTS.values()))
    numbers = probed(tmp_path, Placement.outside(), zeros=500)
    assert numbers.fall == pytest.approx(np.quantile(everything, [0.1, 0.9]), rel=0.03)


def test_shares_fall_from_side_to_side(tmp_path: Path) -> None:
    numbers = fractions(tmp_path)
    assert list(numbers.total.shares) == sorted(numbers.total.shares, reverse=True)
    assert numbers.total.shares[0] == 1.0 and numbers.total.shares[-1] == 0.0
    assert np.diff(np.log10(numbers.epsilons)) == pytest.approx(0.1)


def test_marks_are_the_swept_epsilons_on_the_curve(tmp_path: Path) -> None:
    numbers = fractions(tmp_path)
    assert [mark.epsilon for mark in numbers.marks] == pytest.approx([10.0**k for k in range(-8, 0)])
    assert ["narrowed" in mark.grids for mark in numbers.marks] == [False] * 4 + [True] * 3 + [False]
    on_curve = np.interp(np.log10([m.epsilon for m in numbers.marks]), np.log10(numbers.epsilons), numbers.total.shares)
    assert [mark.share for mark in numbers.marks] == pytest.approx(on_curve, abs=0.01)
    assert numbers.epsilons[0] < numbers.marks[0].epsilon and numbers.marks[-1].epsilon < numbers.epsilons[-1]


def test_one_kind_of_layer_has_one_curve(tmp_path: Path) -> None:
    assert fractions(tmp_path, layers=[layer("w", (500,), -3.0)]).kinds == ()


def test_before_a_sweep_there_are_no_marks(tmp_path: Path) -> None:
    assert fractions(tmp_path, sweep=False).marks == ()


def test_without_a_probe_there_is_nothing(tmp_path: Path) -> None:
    stored = simulate(tmp_path, probe=False)
    assert fraction_numbers(stored, compare(stored)) is None
