"""The optimizer's conversion is recovered from its bounds."""

from __future__ import annotations

import numpy as np
import pytest

from epsgrid.numerics.bounds import LayerStatistics, LayerStatus, estimate_bounds
from epsgrid.numerics.placement import Placement
from epsgrid.report.conversion import adaptive_share, recovered_placement
from tests.report.simulate import measured, two_layers

PLACEMENTS = [
    Placement.outside(),
    Placement.inside(),
    Placement.in_place(0.999),
    Placement.in_place(0.9),
    Placement("before correction", "√v + ε", factor=0.57),
]


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("epsilon", [1e-16, 1e-8, 1.0])
def test_it_converts_as_the_placement_the_bounds_were_made_with(placement: Placement, epsilon: float) -> None:
    recovered = recovered_placement(estimate_bounds(two_layers(), placement), "words")
    assert recovered.exponent == placement.exponent
    assert recovered.magnitude_from_epsilon(epsilon) == pytest.approx(placement.magnitude_from_epsilon(epsilon))


@pytest.mark.parametrize("placement", PLACEMENTS[:4])
def test_a_single_magnitude_is_enough_for_the_known_rules(placement: Placement) -> None:
    layers = [measured("w", (3,), np.full(3, 1e-6, dtype=np.float32))]
    recovered = recovered_placement(estimate_bounds(layers, placement), "words")
    assert recovered.magnitude_from_epsilon(1e-9) == pytest.approx(placement.magnitude_from_epsilon(1e-9))


def test_the_adaptive_share_counts_entries_of_all_layers_zeros_included() -> None:
    v = np.array([0.0, 1e-8, 1e-4, 1e-2], dtype=np.float32)
    layers = [
        measured("a", (4,), v),
        measured("b", (2,), np.array([1e-2, 1e-2], dtype=np.float32)),
        LayerStatistics.unmeasured("c", (5,), LayerStatus.FROZEN),
    ]
    bounds = estimate_bounds(layers, Placement.outside())
    assert adaptive_share(bounds, 1e-3) == pytest.approx(4 / 6)
    assert adaptive_share(bounds, 0.0) == pytest.approx(5 / 6)
    assert adaptive_share(bounds, 1.0) == 0.0
