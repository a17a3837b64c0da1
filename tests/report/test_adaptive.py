"""The share of entries that still adapt."""

from __future__ import annotations

import numpy as np
import pytest

from epsgrid.numerics.bounds import estimate_bounds
from epsgrid.numerics.magnitudes import LayerStatistics, LayerStatus
from epsgrid.numerics.placement import Placement
from epsgrid.report.compare import adaptive_share
from tests.report.simulate import measured


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
