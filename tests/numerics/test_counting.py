from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from epsgrid.errors import NoBoundsError
from epsgrid.numerics import counting, jit, rows
from epsgrid.numerics.counting import count, measure, order_statistics
from epsgrid.numerics.magnitudes import LayerStatus
from tests.numerics import reference
from tests.numerics.strategies import any_moments, nonfinite

TYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")),
]


@pytest.fixture(params=["compiled", "torch"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Count by compiled code, then in plain torch, which is what counts on other devices."""
    if request.param == "torch":
        monkeypatch.setattr(jit, "kernel", lambda: None)
    else:
        assert jit.compiled()
    return str(request.param)


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
@pytest.mark.parametrize("mantissa_bits", [0, 1, 5, 8])
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_counts_equal_binning_by_arithmetic(dtype: torch.dtype, mantissa_bits: int, device: str) -> None:
    v = sample().to(device, dtype)
    histogram = count(v, mantissa_bits=mantissa_bits)
    np.testing.assert_array_equal(histogram.counts, reference.binned(as_numpy(v), mantissa_bits))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_order_statistics_equal_a_sort(dtype: torch.dtype, device: str, way: str) -> None:
    v = sample().to(device, dtype)
    ordered = exact(v)
    ranks = [0, 1, 17, len(ordered) // 50, len(ordered) // 2, len(ordered) - 2, len(ordered) - 1, 0]
    assert order_statistics(v, ranks) == [ordered[rank] for rank in ranks]


@given(any_moments, st.data())
def test_every_order_statistic_of_any_float32_equals_a_sort(v: np.ndarray, data: st.DataObject) -> None:
    tensor = torch.from_numpy(v)
    ordered = exact(tensor)
    np.testing.assert_array_equal(count(tensor).counts, reference.binned(v, 5))
    assert order_statistics(tensor, range(len(ordered)), count(tensor, scale=3.0)) == ordered


@given(st.lists(st.one_of(st.floats(0, allow_infinity=True), nonfinite), max_size=60))
def test_any_float64_is_counted_once_and_sorted(values: list[float]) -> None:
    v = np.array(values, dtype=np.float64)
    tensor = torch.from_numpy(v)
    histogram = count(tensor)
    np.testing.assert_array_equal(histogram.counts, reference.binned(v, 5))
    assert histogram.total == v.size
    assert histogram.below_range == ((v > 0) & (v < 2.0**-149)).sum()
    assert histogram.above_range == ((v > np.finfo(np.float32).max) & (v < np.inf)).sum()
    ordered = exact(tensor)
    assert order_statistics(tensor, range(len(ordered))) == ordered


@pytest.mark.parametrize("mantissa_bits", [0, 1, 5, 10])
def test_order_statistics_of_other_bins_equal_a_sort_too(mantissa_bits: int, way: str) -> None:
    v = sample(10_000).double() * 1e30
    v[:5] = torch.tensor([1e-300, 1e-46, 1e39, 1e300, torch.inf])
    ordered = exact(v)
    ranks = [0, 1, 2, len(ordered) // 3, len(ordered) - 3, len(ordered) - 2, len(ordered) - 1]
    histogram = count(v, mantissa_bits=mantissa_bits)
    assert order_statistics(v, ranks, histogram) == [ordered[rank] for rank in ranks]


def test_order_statistics_at_the_end_of_float32_leave_infinity_out(way: str) -> None:
    v = torch.tensor([torch.inf, 3.4e38, 1.0, 3.39e38, torch.inf, 2.0**-149, 0.0])
    assert order_statistics(v, range(4)) == exact(v)


def test_a_histogram_of_another_tensor_is_refused() -> None:
    """Compiled code writes what it finds into memory: there must be no more of it than there is room for."""
    v = torch.full((5000,), 0.25)
    fewer = count(torch.cat([v[:100], torch.ones(4900)]))
    with pytest.raises(ValueError, match=r"has 5000 entries and 100 by the histogram: it is not that of this tensor"):
        order_statistics(v, [0], fewer)


@given(st.lists(st.integers(1, 2**31 - 1), min_size=1, max_size=60), st.data())
def test_selecting_by_radix_equals_a_sort(keys: list[int], data: st.DataObject) -> None:
    rank = data.draw(st.integers(0, len(keys) - 1))
    for dtype in (torch.int32, torch.int64):
        assert counting._select_by_radix(torch.tensor(keys, dtype=dtype), rank) == sorted(keys)[rank]


def layouts() -> list[tuple[str, Callable[[torch.Tensor], torch.Tensor]]]:
    return [
        ("transposed", lambda v: v.view(300, 500).T),
        ("channels last", lambda v: v.view(10, 30, 20, 25).to(memory_format=torch.channels_last)),
        ("every third", lambda v: v[1::3]),
        ("block", lambda v: v.view(300, 500)[7:200, 3:400]),
        ("expanded", lambda v: v[:1000].unsqueeze(1).expand(1000, 7)),
        ("scalar", lambda v: v[5]),
        ("parameter", lambda v: torch.nn.Parameter(v.view(300, 500))),
    ]


@pytest.mark.parametrize("layout", [layout for _, layout in layouts()], ids=[name for name, _ in layouts()])
def test_the_layout_in_memory_makes_no_difference(layout: Callable[[torch.Tensor], torch.Tensor]) -> None:
    v = layout(sample() + 2.0**-20)
    plain = torch.tensor(v.tolist(), dtype=v.dtype)
    assert count(v) == count(plain)
    ranks = [0, v.numel() // 2, v.numel() - 1]
    assert order_statistics(v, ranks) == [exact(plain)[rank] for rank in ranks]


def test_dense_layouts_are_not_copied() -> None:
    v = torch.rand(4, 3, 5, 5).to(memory_format=torch.channels_last)
    assert rows.flat(v).data_ptr() == v.data_ptr()
    assert rows.flat(v.permute(3, 0, 2, 1)).data_ptr() == v.data_ptr()


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_chunks_make_no_difference(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jit, "kernel", lambda: None)
    v = sample(999)
    whole, middle = count(v), order_statistics(v, [400])
    monkeypatch.setattr(rows, "CPU_CHUNK", chunk)
    assert count(v) == whole
    assert order_statistics(v, [400]) == middle


@pytest.mark.parametrize("rank", [-1, 2])
def test_a_rank_that_does_not_exist_is_refused(rank: int) -> None:
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
