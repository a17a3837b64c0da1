from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epsgrid.numerics.placement import Placement

PLACEMENTS = [Placement.outside(), Placement.inside(), Placement.in_place(0.999), Placement.in_place(0.0)]


@pytest.mark.parametrize(
    ("placement", "epsilon"),
    [(Placement.outside(), 1e-3), (Placement.inside(), 1e-6), (Placement.in_place(0.999), 1e-9)],
    ids=lambda value: getattr(value, "where", None),
)
def test_a_magnitude_becomes_the_epsilon_of_its_place(placement: Placement, epsilon: float) -> None:
    assert placement.epsilon_from_magnitude(1e-3) == pytest.approx(epsilon, rel=1e-12)


@pytest.mark.parametrize(("epsilon", "floor"), [(1e-8, 3.2e-3), (1e-12, 3.2e-5), (1e-16, 3.2e-7)])
def test_the_floor_of_adabelief_is_the_known_one(epsilon: float, floor: float) -> None:
    assert Placement.in_place(0.999).magnitude_from_epsilon(epsilon) == pytest.approx(floor, rel=0.02)


@pytest.mark.parametrize("steps", [1, 2, 391, 5000])
def test_the_in_place_floor_is_what_the_update_accumulates(steps: int) -> None:
    epsilon, beta2, v = 1e-8, 0.999, 0.0
    for _ in range(steps):
        v = beta2 * v + epsilon
    corrected = math.sqrt(v / (1 - beta2**steps))
    assert Placement.in_place(beta2).magnitude_from_epsilon(epsilon) == pytest.approx(corrected, rel=1e-9)


@pytest.mark.parametrize("placement", PLACEMENTS, ids=lambda placement: placement.symbol)
@given(st.floats(1e-30, 1e10))
def test_conversion_is_undone_by_its_inverse(placement: Placement, magnitude: float) -> None:
    epsilon = placement.epsilon_from_magnitude(magnitude)
    assert placement.magnitude_from_epsilon(epsilon) == pytest.approx(magnitude, rel=1e-12)


def test_placements_explain_themselves() -> None:
    assert [placement.description for placement in PLACEMENTS[:3]] == [
        "outside the root: √v̂ + ε",
        "inside the root: √(v̂ + ε)",
        "added to v in place: √v̂, v ← v + ε",
    ]
    assert [placement.conversion for placement in PLACEMENTS[:3]] == ["ε = b", "ε = b²", "ε = 0.001 · b²"]


def test_placements_are_equal_by_value() -> None:
    assert Placement.in_place(0.99) == Placement.in_place(0.99) != Placement.in_place(0.999)


@pytest.mark.parametrize("beta2", [-0.1, 1.0, math.nan])
def test_beta2_out_of_range_is_refused(beta2: float) -> None:
    with pytest.raises(ValueError, match=r"beta2 must lie in \[0, 1\), got"):
        Placement.in_place(beta2)


@pytest.mark.parametrize("factor", [0.0, -1.0, math.inf, math.nan])
def test_a_factor_that_cannot_be_undone_is_refused(factor: float) -> None:
    with pytest.raises(ValueError, match="factor must be positive and finite"):
        Placement("here", "√v", factor=factor)
