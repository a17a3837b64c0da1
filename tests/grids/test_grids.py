from __future__ import annotations

from decimal import Decimal

import pytest

from epsgrid import grids, plugins
from epsgrid.numerics.bounds import EpsilonBounds
from tests.grids.samples import bounds_between


@pytest.fixture
def bounds() -> EpsilonBounds:
    return bounds_between(1e-7, 1e-5)


@pytest.mark.parametrize("name", plugins.names("grids"))
def test_every_grid_keeps_the_contract(name: str, bounds: EpsilonBounds) -> None:
    grid = grids.load(name)
    values = grid.epsilons(bounds)
    assert list(values) == sorted(set(values))
    assert all(isinstance(value, float) and value > 0 for value in values)
    if not grid.NEEDS_BOUNDS:
        assert grid.epsilons(None) == values


def test_the_conventional_grid_is_thirteen_decades() -> None:
    values = grids.load("conventional").epsilons(None)
    assert values == tuple(float(f"1e{exponent}") for exponent in range(-10, 3))
    assert [Decimal(repr(value)) for value in values] == [Decimal(10) ** exponent for exponent in range(-10, 3)]


def test_the_narrowed_grid_is_the_decades_between_the_bounds(bounds: EpsilonBounds) -> None:
    assert grids.load("narrowed").epsilons(bounds) == (1e-7, 1e-6, 1e-5)
    assert grids.load("narrowed").epsilons(bounds_between(1e-7, 1e-7)) == (1e-7,)
