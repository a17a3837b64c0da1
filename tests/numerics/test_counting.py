from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from epsgrid.errors import NoBoundsError
from epsgrid.numerics.counting import count, measure, order_statistics
from epsgrid.numerics.magnitudes import LayerStatus
from tests.numerics import reference
from tests.numerics.strategies import DEVICES, TYPES, any_moments, nonfinite


def sample(entries: int = 150_000, seed: int = 0) -> torch.Tensor:
    """Magnitudes over many decades, a tenth of them zeros, with ties."""
    generator = torch.Generator().manual_seed(seed)
    v = (6 * torch.randn(entries, generator=generator)).exp2() * torch.randn(entries, generator=generator).square()
    v[: entries // 10] = 0
    v[entries // 10 : entries // 5] = v[-1]
    return v[torch.randperm(entries, generator=generator)]


def as_numpy(v: torch.Tensor) -> np.ndarray:
    return v.detach().cpu().double().numpy()


def exact(v: torch.Tensor) -> list[float]:
    values = as_numpy(v).ravel()
    return np.sort(values[np.isfinite(values) & (values != 0)]).tolist()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_order_statistics_equal_a_sort(dtype: torch.dtype, device: str, way: str) -> None:
    v = sample().to(device, dtype)
    ordered = exact(v)
    ranks = [0, 1, 17, len(ordered) // 50, len(ordered) // 2, len(ordered) - 2, len(ordered) - 1, 0]
    assert order_statistics(v, ranks) == [ordered[rank] for rank in ranks]


@given(any_moments)
def test_every_order_statistic_of_any_float32_equals_a_sort(v: np.ndarray) -> None:
    tensor = torch.from_numpy(v)
    ordered = exact(tensor)
    assert order_statistics(tensor, range(len(ordered)), count(tensor, scale=3.0)) == ordered


@given(st.lists(st.one_of(st.floats(0, allow_infinity=True), nonfinite), max_size=60))
def test_every_order_statistic_of_any_float64_equals_a_sort(values: list[float]) -> None:
    tensor = torch.tensor(values, dtype=torch.float64)
    ordered = exact(tensor)
    assert order_statistics(tensor, range(len(ordered))) == ordered


def test_a_histogram_of_another_tensor_is_refused() -> None:
    v = torch.full((5000,), 0.25)
    fewer = count(torch.cat([v[:100], torch.ones(4900)]))
    with pytest.raises(ValueError, match=r"has 5000 entries and 100 by the histogram: it is not that of this tensor"):
        order_statistics(v, [0], fewer)


def test_a_rank_that_does_not_exist_is_refused() -> None:
    for rank in (-1, 2):
        with pytest.raises(ValueError, match=f"rank {rank} does not exist among 2 finite non-zero entries"):
            order_statistics(torch.tensor([0.0, 1.0, 2.0, torch.inf]), [rank])


@pytest.mark.parametrize("entries", [1, 10, 49, 50, 51, 5000])
def test_a_layer_is_measured_by_the_published_indices(entries: int) -> None:
    v = sample(5000)[:entries] + 1e-6
    layer = measure("weight", v.view(1, -1), scale=1.5)
    ordered = reference.magnitudes(as_numpy(v), 1.5)
    assert (layer.low, layer.high) == (ordered[int(0.02 * entries)], ordered[int(0.98 * entries)])
    assert (layer.name, layer.shape, layer.entries, layer.nonzero) == ("weight", (1, entries), entries, entries)
    assert layer.histogram == count(v, 1.5)
    assert layer.status is LayerStatus.MEASURED


@pytest.mark.parametrize(
    ("values", "status"),
    [
        ([], LayerStatus.EMPTY),
        ([0.0, -0.0], LayerStatus.ALL_ZERO),
        ([1.0, torch.nan], LayerStatus.NON_FINITE),
        ([0.0, torch.inf], LayerStatus.NON_FINITE),
    ],
)
def test_a_layer_without_order_statistics_says_why(values: list[float], status: LayerStatus) -> None:
    layer = measure("bias", torch.tensor(values))
    assert (layer.status, layer.low, layer.high) == (status, None, None)
    assert layer.histogram is not None and layer.histogram.total == len(values)


@pytest.mark.parametrize("v", [torch.tensor([-1.0]), torch.tensor([1])], ids=["negative", "integer"])
def test_what_is_no_second_moment_is_refused_by_name(v: torch.Tensor) -> None:
    with pytest.raises(NoBoundsError, match=r"layer 'conv\.weight': (a second moment|cannot count)"):
        measure("conv.weight", v)
