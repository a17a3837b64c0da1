"""The adaptable fraction: exact, whatever the type and however close an entry lies to ε."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from epsgrid.errors import ObservationError
from epsgrid.numerics.magnitudes import LayerStatus
from epsgrid.numerics.placement import Placement
from epsgrid.observing.layers import Layer
from epsgrid.observing.reading import Reading
from epsgrid.observing.shares import adaptable_fraction

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


def reading(
    v: torch.Tensor, name: str = "w", scale: float = 1.0, placement: Placement | None = None, eps: float | None = 1e-3
) -> Reading:
    layer = Layer(name, torch.nn.Parameter(torch.zeros(v.shape)), {} if eps is None else {"eps": eps})
    return Reading(layer, LayerStatus.MEASURED, v, scale, 1.0, placement or Placement.outside())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1.0, 1 / (1 - 0.999**7)])
def test_shares_equal_a_count_in_numpy(dtype: torch.dtype, scale: float) -> None:
    draws = torch.randn(5000, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    v = (10 ** (2 * draws)).to(dtype)
    v[:7], v[7], v[8] = 0, torch.nan, torch.inf
    wide = v.double().numpy()
    finite = wide[np.isfinite(wide)]
    for epsilon in (0.0, 1e-3, 0.1, 1.0, 10.0, 1e9, 1e200):
        with np.errstate(over="ignore"):
            expected = np.count_nonzero(np.sqrt(finite * scale) > epsilon) / len(finite)
        found = adaptable_fraction([reading(v, scale=scale)], epsilon)
        assert found.total == found.layers["w"] == expected


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_entry_next_to_epsilon_is_on_its_own_side(dtype: torch.dtype) -> None:
    """ε = 0.1 lies between two numbers of each type, and nearer to one: rounding it would move that one over."""
    at = torch.tensor(0.1**2, dtype=torch.float64).to(dtype)
    v = torch.stack([at, *(torch.nextafter(at, torch.tensor(towards, dtype=dtype)) for towards in (0.0, 1.0))])
    expected = np.count_nonzero(v.double().numpy() > 0.1**2) / 3
    assert adaptable_fraction([reading(v)], 0.1).total == expected


def test_epsilon_is_in_the_optimizers_own_units() -> None:
    v = torch.tensor([1e-6, 4e-6, 9e-6, 0.0])
    assert adaptable_fraction([reading(v, placement=Placement.outside())], 1.5e-3).total == 0.5
    assert adaptable_fraction([reading(v, placement=Placement.inside())], 1.5e-3**2).total == 0.5
    assert adaptable_fraction([reading(v, placement=Placement.in_place(0.99))], 0.01 * 1.5e-3**2).total == 0.5


def test_each_layer_is_compared_with_its_own_epsilon_unless_one_is_given() -> None:
    readings = [
        reading(torch.tensor([1.0, 4.0]), "a", eps=1.5),
        reading(torch.tensor([1.0, 4.0, 9.0, 16.0]), "b", eps=3.5),
    ]
    found = adaptable_fraction(readings)
    assert found.layers == {"a": 0.5, "b": 0.25}
    assert found.total == 2 / 6
    assert adaptable_fraction(readings, 0.5).layers == {"a": 1.0, "b": 1.0}


def test_layers_without_a_finite_entry_are_left_out() -> None:
    readings = [
        reading(torch.tensor([torch.nan]), "nan"),
        reading(torch.zeros(0), "empty"),
        Reading(Layer("idle", torch.nn.Parameter(torch.ones(3)), {}), LayerStatus.NO_GRADIENT),
    ]
    assert adaptable_fraction(readings).layers == {}
    assert adaptable_fraction(readings).total == 0
    assert adaptable_fraction([*readings, reading(torch.zeros(2), "zero")]).layers == {"zero": 0.0}


def test_a_group_without_epsilon_needs_one_to_be_said() -> None:
    with pytest.raises(ObservationError, match="the parameter group of layer 'w' has no \"eps\"; say epsilon="):
        adaptable_fraction([reading(torch.ones(2), eps=None)])
    assert adaptable_fraction([reading(torch.ones(2), eps=None)], 0.5).total == 1


@pytest.mark.parametrize("epsilon", [-1e-9, float("nan")])
def test_a_negative_epsilon_is_refused(epsilon: float) -> None:
    with pytest.raises(ObservationError, match="epsilon must be at least 0, got "):
        adaptable_fraction([reading(torch.ones(2))], epsilon)
