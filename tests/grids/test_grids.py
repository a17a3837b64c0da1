from __future__ import annotations

import math
from decimal import Decimal

import pytest

from epsgrid import grids, plugins
from epsgrid.numerics.bounds import EpsilonBounds, estimate_bounds
from epsgrid.numerics.magnitudes import LayerStatistics, LayerStatus
from epsgrid.numerics.placement import Placement
from tests.grids.samples import bounds_between

OUTSIDE = Placement.outside()


@pytest.fixture
def bounds() -> EpsilonBounds:
    return bounds_between(1e-7, 1e-5)


@pytest.mark.parametrize("name", plugins.names("grids"))
@pytest.mark.parametrize("placement", [OUTSIDE, Placement.inside(), Placement.in_place(0.98, outer=1.0)])
def test_every_grid_keeps_the_contract(name: str, placement: Placement, bounds: EpsilonBounds) -> None:
    grid = grids.load(name)
    values = grid.epsilons(bounds, placement)
    assert list(values) == sorted(set(values))
    assert all(isinstance(value, float) and value > 0 for value in values)
    if not grid.NEEDS_BOUNDS:
        assert grid.epsilons(None, placement) == values


def test_the_conventional_grid_is_thirteen_decades() -> None:
    values = grids.load("conventional").epsilons(None, OUTSIDE)
    assert values == tuple(float(f"1e{exponent}") for exponent in range(-10, 3))
    assert [Decimal(repr(value)) for value in values] == [Decimal(10) ** exponent for exponent in range(-10, 3)]


def test_the_narrowed_grid_is_the_decades_between_the_bounds(bounds: EpsilonBounds) -> None:
    assert grids.load("narrowed").epsilons(bounds, OUTSIDE) == (1e-7, 1e-6, 1e-5)
    assert grids.load("narrowed").epsilons(bounds_between(1e-7, 1e-7), OUTSIDE) == (1e-7,)


@pytest.mark.parametrize("beta2", [0.9, 0.98, 0.999, 0.9999])
@pytest.mark.parametrize("outer", [0.0, 1.0])
def test_an_epsilon_in_place_takes_the_conventional_grid_in_decades_of_magnitude(beta2: float, outer: float) -> None:
    """ε = b²·(1 − β₂) to a power of ten; where ε is outside as well it counts alone for b far above 1."""
    placement = Placement.in_place(beta2, outer)
    values = grids.load("conventional").epsilons(None, placement)
    factor = math.log10(1 - beta2)
    expected = [float(f"1e{round(2 * decade + factor)}") for decade in range(-10, 2)]
    assert (list(values[:-1]), len(values)) == (expected, 13)
    assert [placement.decade_of(value) for value in values] == list(range(-10, 3))


def test_an_epsilon_under_the_root_is_narrowed_in_decades_of_magnitude() -> None:
    """Both grids share their values, and the bounds are the first and the last of the narrowed one."""
    layer = LayerStatistics("a", (100,), 100, 100, 2e-7, 4e-4, None, LayerStatus.MEASURED)
    for placement in (Placement.inside(), Placement.in_place(0.999), Placement.in_place(0.98, 1.0)):
        bounds = estimate_bounds([layer], placement)
        values = grids.load("narrowed").epsilons(bounds, placement)
        assert set(values) < set(grids.load("conventional").epsilons(None, placement))
        assert [placement.decade_of(value) for value in values] == [-7, -6, -5, -4, -3]
        assert (values[0], values[-1]) == (bounds.low.decade, bounds.high.decade)
