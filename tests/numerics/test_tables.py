from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from epsgrid.numerics import _compiled, tables
from epsgrid.numerics.precision import power
from epsgrid.numerics.tables import Counter, NegativeEntryError, _TorchRows
from tests.numerics import reference
from tests.numerics.strategies import DEVICES, LAYOUTS, TYPES, any_moments, nonfinite

FRACTIONS = (0.0, 0.01, 0.02, 0.25, 0.5, 0.98, 0.999, 1.0)


def sample(entries: int, seed: int = 0, shift: float = 0.0) -> torch.Tensor:
    """Magnitudes over many decades, a tenth of them zeros."""
    generator = torch.Generator().manual_seed(seed)
    v = (6 * torch.randn(entries, generator=generator) + shift).exp2()
    return v * (torch.rand(entries, generator=generator) > 0.1)


def as_numpy(v: torch.Tensor) -> np.ndarray:
    return v.detach().cpu().double().numpy().ravel()


def expected_slots(v: np.ndarray, mantissa_bits: int) -> list[int]:
    """By a sort and a search."""
    ordered = np.sort(v[np.isfinite(v) & (v != 0)])
    if not ordered.size:
        return [-1] * len(FRACTIONS)
    edges = reference.edges(mantissa_bits)
    slots = []
    for fraction in FRACTIONS:
        entry = ordered[min(int(fraction * ordered.size), ordered.size - 1)]
        if entry < 2.0**-149:
            slots.append(0)
        elif entry > float(np.finfo(np.float32).max):
            slots.append(len(edges))
        else:
            slots.append(int(np.searchsorted(edges, entry, side="left")))
    return slots


def check(counted: Counter, values: Sequence[torch.Tensor], mantissa_bits: int = 5) -> None:
    """Compare all that was counted with plain numpy."""
    bins, totals = counted.quantile_bins(), counted.totals()
    assert (bins.dtype, tuple(bins.shape)) == (torch.int32, (len(values), len(FRACTIONS)))
    assert (totals.dtype, tuple(totals.shape)) == (torch.int64, (len(values), 3))
    for layer, tensor in enumerate(values):
        v = as_numpy(tensor)
        finite = v[np.isfinite(v)]
        zeros = int((finite == 0).sum())
        assert totals[layer].tolist() == [zeros, finite.size - zeros, v.size - finite.size]
        assert bins[layer].tolist() == expected_slots(v, mantissa_bits)
        histogram = counted.histogram(layer, 2.5)
        np.testing.assert_array_equal(histogram.counts, reference.binned(v, mantissa_bits))
        assert (histogram.nan, histogram.infinite) == (np.isnan(v).sum(), np.isinf(v).sum())
        assert histogram.below_range == ((v > 0) & (v < 2.0**-149)).sum()
        assert histogram.above_range == ((v > np.finfo(np.float32).max) & (v < np.inf)).sum()
        assert (histogram.total, histogram.scale) == (v.size, 2.5)


@pytest.mark.parametrize("mantissa_bits", [0, 1, 5, 10])
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_every_type_is_counted_as_numpy_does(dtype: torch.dtype, mantissa_bits: int, way: str) -> None:
    values = [sample(n, seed=n).to(dtype) for n in (1, 2, 3, 5, 257, 4095, 4096, 4099)]
    check(Counter(FRACTIONS, mantissa_bits).count(values), values, mantissa_bits)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_every_number_of_16_bits_is_counted_as_numpy_does(dtype: torch.dtype, way: str) -> None:
    """Zeros, denormals, infinity, NaN of either sign; twice over in one table, and once each in four."""
    everything = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32).to(torch.int16).view(dtype)
    allowed = everything[~(everything < 0)]
    values = [allowed, *allowed.split(3000), allowed[:0x400]]
    check(Counter(FRACTIONS).count(values), values)


doubles = st.lists(st.one_of(st.floats(0, allow_infinity=True), st.floats(0, 1e-37), nonfinite), max_size=60)


@given(st.lists(any_moments, max_size=3), doubles)
def test_any_entries_are_counted_as_numpy_does(arrays: list[np.ndarray], entries: list[float]) -> None:
    values = [*map(torch.from_numpy, arrays), torch.tensor(entries, dtype=torch.float64)]
    assert tables.compiled()
    check(Counter(FRACTIONS).count(values), values)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "_kernel", lambda: None)
        check(Counter(FRACTIONS).count(values), values)


@pytest.mark.parametrize("mantissa_bits", [1, 5])
def test_a_float64_beside_a_bin_edge_stays_on_its_side(mantissa_bits: int) -> None:
    edges = reference.edges(mantissa_bits)[1:-1]
    values = [torch.from_numpy(v) for v in (edges, np.nextafter(edges, 0), np.nextafter(edges, np.inf))]
    check(Counter(FRACTIONS, mantissa_bits).count(values), values, mantissa_bits)


def special() -> list[torch.Tensor]:
    payloads = np.array([0x7F800001, 0x7FFFFFFF, 0xFF800001, 0xFFFFFFFF, 0x7FC00000], dtype=np.uint32)
    return [
        torch.zeros(5000),
        -torch.zeros(5000),
        torch.full((9000,), 0.25),
        torch.full((9000,), 2.0**-149),
        torch.tensor([2.0**-149, 2.0**-127, 2.0**-126, torch.finfo(torch.float32).max, torch.inf, torch.inf]),
        torch.from_numpy(np.tile(payloads.view(np.float32), 1001)),
        torch.full((5001,), torch.inf),
        torch.cat([torch.full((5000,), torch.nan), -torch.zeros(3), torch.full((2,), 3.0), torch.zeros(2)]),
        torch.tensor([]),
        torch.tensor(3.0),
        torch.tensor(torch.nan, dtype=torch.float64),
        torch.full((4321,), 1e-300, dtype=torch.float64),
        torch.tensor([1e300, 1e39, 1.0, 1e-46, 0.0, -0.0], dtype=torch.float64),
    ]


@pytest.mark.parametrize("mantissa_bits", [0, 1, 5])
def test_what_is_special_has_its_place(mantissa_bits: int, way: str) -> None:
    check(Counter(FRACTIONS, mantissa_bits).count(special()), special(), mantissa_bits)


def test_a_counter_forgets_what_it_counted_before(way: str) -> None:
    """Its tables are reused: nothing may be left where the entries of an earlier call were."""
    counter = Counter(FRACTIONS)
    rng = np.random.default_rng(0)
    for call in range(12):
        values = [sample(6000, seed=call, shift=rng.uniform(-100, 100)), special()[call], sample(100, seed=call)]
        check(counter.count(values), values)
    for entries in ([3, 5000], [9], [], [4096] * 5):  # other tensors than before, of all types
        values = [sample(n, seed=n).to(dtype) for n, dtype in zip(entries, TYPES * 2, strict=False)]
        check(counter.count(values), values)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_the_layout_in_memory_makes_no_difference(layout: str, dtype: torch.dtype, way: str) -> None:
    values = [LAYOUTS[layout](sample(150_000).to(dtype)), sample(9)]
    check(Counter(FRACTIONS).count(values), values)


def test_more_entries_than_32_bits_can_count_are_counted_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answers keep the order of the tensors all the same."""
    monkeypatch.setattr(tables, "_INT32_LIMIT", 1000)
    values = [sample(999, seed=1), sample(1000, seed=2), sample(5, seed=3), sample(3000, seed=4)]
    counter = Counter(FRACTIONS)
    check(counter.count(values), values)
    assert [rows.places for rows in counter._groups] == [[0, 2], [1, 3]]
    values[3][7] = -1
    with pytest.raises(NegativeEntryError, match="negative entry -1") as caught:
        counter.count(values)
    assert caught.value.layer == 3


@pytest.mark.parametrize("device", DEVICES)
def test_tensors_on_several_devices_are_counted_together(device: str) -> None:
    values = [sample(999, seed=1), sample(5000, seed=2).to(device), sample(5, seed=3)]
    counted = Counter(FRACTIONS).count(values)
    check(counted, values)
    assert counted.totals().device.type == "cpu"


def test_nothing_is_read_back_from_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tensor on the device "meta" has no entries at all: whatever asked for one would fail."""
    values = [torch.empty(70_000, device="meta"), torch.empty(3, 5, dtype=torch.float64, device="meta").T]
    counted = Counter(FRACTIONS).count(values)
    assert counted.quantile_bins().is_meta and counted.totals().is_meta
    with pytest.raises(NotImplementedError, match="meta"):
        counted.histogram(0, 1.0)


@pytest.mark.parametrize(
    ("dtype", "entry"),
    [*((dtype, -0.5) for dtype in TYPES), *((torch.float64, each) for each in (-1e-300, -1e300, -torch.inf))],
    ids=str,
)
def test_a_negative_entry_is_refused_and_named(dtype: torch.dtype, entry: float, way: str) -> None:
    counter = Counter(FRACTIONS)
    values = [torch.ones(3, dtype=dtype), torch.tensor([[1.0, -0.0, torch.nan], [entry, 2, -3]], dtype=dtype).T]
    words = re.escape(f"has the negative entry {power(entry, 6)}; check")
    with pytest.raises(NegativeEntryError, match=words) as caught:
        counter.count(values)
    assert caught.value.layer == 1
    values[1] = torch.ones(3, dtype=dtype)
    check(counter.count(values), values)


def test_a_device_cannot_raise_but_tells_of_negative_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_kernel", lambda: None)
    monkeypatch.setattr(_TorchRows, "_refuse_negative", lambda *_: None)
    counted = Counter(FRACTIONS).count([torch.ones(2), torch.tensor([1.0, -1.0, -torch.inf, torch.nan])])
    assert counted.totals().tolist() == [[0, 2, 0], [0, 1, 3]]
    with pytest.raises(NegativeEntryError, match="has negative entries; check which tensor") as caught:
        counted.histogram(1, 1.0)
    assert caught.value.layer == 1
    assert counted.histogram(0, 1.0).total == 2


def test_a_tensor_without_memory_is_refused() -> None:
    class Shell(torch.Tensor):
        def data_ptr(self) -> int:
            return 0

    with pytest.raises(ValueError, match="cannot count a Shell without memory of its own: pass plain tensors"):
        Counter(FRACTIONS).count([torch.ones(3).as_subclass(Shell)])


def test_where_nothing_can_be_kept_each_process_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    def njit(signature: str, nogil: bool, cache: bool = False) -> Any:
        if cache:
            raise OSError("disk full")
        return lambda function: (function, signature, nogil)

    monkeypatch.setattr(_compiled, "_nb", SimpleNamespace(njit=njit))
    compiled: Any = _compiled._compile("int64(int64)", abs)
    assert compiled == (abs, "int64(int64)", True)


def run(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_numba_is_imported_when_counting_has_taken_as_long_as_importing_it() -> None:
    program = """
import sys, torch
from epsgrid.numerics import tables
counter, v = tables.Counter([0.5]), [torch.arange(1.0, 1000.0)]
first = counter.count(v).quantile_bins()
assert "numba" not in sys.modules
tables._SECONDS_TO_LOAD = tables._spent
counter.count(v)
assert "numba" not in sys.modules, "it is loaded when the next count begins"
assert torch.equal(counter.count(v).quantile_bins(), first)
assert "numba" in sys.modules
"""
    run(program)


@pytest.mark.parametrize("is_broken", [False, True])
def test_without_numba_plain_torch_counts_and_where_it_is_broken_says_so(is_broken: bool) -> None:
    program = f"""
import os, sys, warnings
if {is_broken}:
    os.environ["NUMBA_DISABLE_JIT"] = "1"
else:
    sys.modules["numba"] = None
import torch
from epsgrid.numerics.tables import Counter, compiled
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    assert not compiled()
    counted = Counter([0.5]).count([torch.tensor([0.0, 4.0, 9.0])])
print(*[warning.message for warning in caught])
print(counted.totals().tolist())
"""
    said = run(program)
    assert said.count("numba cannot compile the counting of gradient magnitudes (ImportError") == is_broken
    assert said.count("plain torch counts instead") == is_broken
    assert "[[1, 2, 0]]" in said
