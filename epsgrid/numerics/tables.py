"""Count the entries of many tensors at once, again and again, without waiting for the device they lie on.

>>> import torch
>>> from epsgrid.numerics.histogram import magnitudes_of
>>> counted = Counter([0.02, 0.5]).count([torch.tensor([0.0, 1e-8, 4e-8]), torch.zeros(2)])
>>> counted.totals().tolist()                       # zeros, finite others, NaN or infinite
[[1, 2, 0], [2, 0, 0]]
>>> magnitudes_of(counted.quantile_bins().numpy(), scale=1.0).round(6).tolist()
[[9.9e-05, 0.000199], [nan, nan]]

On a CPU, where numba is installed, a single compiled call counts all tensors. Elsewhere, in plain torch, which takes
some five times as long, the bits of a float32, taken as an
integer with sign, sort as the number does where it is positive. So the column of an entry is

    ⌈(bits + 2³¹) / 2^s⌉ = ⌈bits / 2^s⌉ + 2^(m + 8)                   (see `histogram` for m, s and the bins)

which puts −0.0 in column 0, negative entries behind it, zeros in column 2^(m + 8) and the bins behind those. NaN and
infinity are first replaced by two negative numbers, and so have columns of their own. Two more columns are for float64s
outside float32's range. All of it can be captured in a CUDA graph.
"""

from __future__ import annotations

import importlib.util
import math
import time
import warnings
from collections.abc import Iterator, Sequence
from functools import cache
from types import ModuleType

import numpy as np
import numpy.typing as npt
import torch

from epsgrid.numerics.histogram import FLOAT32_MANTISSA_BITS, LEAST_FLOAT32, MANTISSA_BITS, LogHistogram, bin_count
from epsgrid.numerics.precision import power

_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
"""The types whose entries can be counted; compiled code counts the first two, and knows each by its place here."""

# A chunk's temporaries stay in a CPU's second-level cache; elsewhere a chunk only bounds the memory they take.
_CPU_CHUNK = 1 << 16
_DEVICE_CHUNK = 1 << 22

_LARGEST_FLOAT32 = (2 - 2.0**-23) * 2.0**127
_FOR_NAN = -(2.0**127)
_FOR_INFINITY = -(2.0**126)
_NEGATIVE = -1.0

Folded = tuple[int, npt.NDArray[np.int64], tuple[int, int, int, int]]
"""The first occupied bin, the counts from there to the last one, and the numbers of entries that are NaN, infinite, and
below and above float32's range."""


_SECONDS_TO_LOAD = 1.0
"""Loading the compiled counting takes this long; until a process has spent as long on it, plain torch counts."""
_spent = 0.0


def compiled() -> bool:
    """Load the compiled counting at once, rather than when it is worth it; return whether that was possible."""
    global _spent
    _spent = math.inf
    return _kernel() is not None


def _kernel() -> ModuleType | None:
    """Return the compiled counting; None until it is worth loading, and where it cannot be loaded."""
    return _load() if _spent > _SECONDS_TO_LOAD else None


@cache
def _load() -> ModuleType | None:
    if importlib.util.find_spec("numba") is None:  # the extra `fast`
        return None
    try:
        from epsgrid.numerics import _compiled
    except Exception as error:
        warnings.warn(
            f"numba cannot compile the counting of gradient magnitudes ({type(error).__name__}: {error}); "
            "plain torch counts instead, exactly as well but several times slower",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    return _compiled


class NegativeEntryError(ValueError):
    """An entry of a tensor that should be a second moment lies below zero; `layer` is the tensor's place, from 0."""

    def __init__(self, layer: int, entry: float | None = None) -> None:
        found = "negative entries" if entry is None else f"the negative entry {power(entry, 6)}"
        super().__init__(
            f"a second moment is a mean of squares, yet it has {found}; "
            "check which tensor the optimizer's second_moment returns"
        )
        self.layer = layer


def flat(v: torch.Tensor) -> torch.Tensor:
    """Return the entries side by side as they lie in memory: a view of any dense tensor, else a copy.

    Raises ValueError where entries of this type cannot be counted.
    """
    if v.dtype not in _DTYPES:
        valid = ", ".join(str(dtype).removeprefix("torch.") for dtype in _DTYPES)
        raise ValueError(f"cannot count entries of type {v.dtype}; expected one of: {valid}")
    v = v.detach()
    return v.permute(sorted(range(v.dim()), key=v.stride, reverse=True)).reshape(-1).contiguous()


def chunks(entries: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield the entries that `flat` returned piece by piece."""
    size = _CPU_CHUNK if entries.is_cpu else _DEVICE_CHUNK
    for start in range(0, entries.numel(), size):
        yield entries[start : start + size]


def _columns_of(entries: torch.Tensor, mantissa_bits: int) -> torch.Tensor:
    """Return the column of every entry, int64."""
    finite = entries.to(torch.promote_types(entries.dtype, torch.float32)).nan_to_num(
        _FOR_NAN, _FOR_INFINITY, _NEGATIVE
    )
    single = finite.to(torch.float32)
    bits = single.view(torch.int32).long()
    if entries.dtype == torch.float64:  # bin edges are float32s, closed above: take the least float32 ≥ the entry
        bits += single.double() < finite
    shift = FLOAT32_MANTISSA_BITS - mantissa_bits
    found = bits.add_((1 << 31) + (1 << shift) - 1).bitwise_right_shift_(shift)
    if entries.dtype == torch.float64:
        last = (1 << (mantissa_bits + 8)) + bin_count(mantissa_bits) - 1
        found.masked_fill_((entries > 0) & (entries < LEAST_FLOAT32), last + 1)
        found.masked_fill_((entries > _LARGEST_FLOAT32) & (entries < torch.inf), last + 2)
        found.masked_fill_(entries < 0, 1)  # a small one would have become −0.0
    return found


class _TorchRows:
    """Tables of the tensors at some `places` of those counted, on any one device, in plain torch.

    The columns are −0.0, negative entries (an error), zeros at `_zeros`, the bins behind it up to `_last`, and two for
    float64s below and above float32's range. `_nan` and `_infinite` lie among the negative ones: those of about −2¹²⁷
    and −2¹²⁶, which nobody has ever seen, are taken for NaN and infinity.
    """

    def __init__(
        self, places: list[int], device: torch.device, fractions: npt.NDArray[np.float64], mantissa_bits: int
    ) -> None:
        self.places = places
        self._mantissa_bits = mantissa_bits
        self._zeros = 1 << (mantissa_bits + 8)
        self._last = self._zeros + bin_count(mantissa_bits) - 1
        self._nan, self._infinite = _columns_of(torch.tensor([torch.nan, torch.inf]), mantissa_bits).tolist()
        self._table = torch.zeros((len(places), self._last + 3), dtype=torch.int64, device=device)
        chunk = _CPU_CHUNK if device.type == "cpu" else _DEVICE_CHUNK
        self._ones = torch.ones(chunk, dtype=torch.int64, device=device)
        self._fractions = torch.from_numpy(fractions).to(device)

    def count(self, values: Sequence[torch.Tensor]) -> None:
        """Count every entry of its tensors in place of the counts before; on a CPU negative entries raise an error."""
        began = time.perf_counter()
        for row, place in zip(self._table.zero_(), self.places, strict=True):
            for chunk in chunks(flat(values[place])):
                row.scatter_add_(0, _columns_of(chunk, self._mantissa_bits), self._ones[: chunk.numel()])
        if self._table.is_cpu:
            global _spent
            _spent += time.perf_counter() - began
            self._refuse_negative(values)

    def _refuse_negative(self, values: Sequence[torch.Tensor]) -> None:
        table = self._table
        numbers = table[:, 1 : self._zeros].sum(dim=1) - table[:, self._nan] - table[:, self._infinite]
        for row in numbers.nonzero().flatten().tolist():
            entries = flat(values[self.places[row]])
            raise NegativeEntryError(self.places[row], entries[entries < 0][0].item())

    def quantile_bins(self) -> torch.Tensor:
        table = self._table
        ordered = torch.cat((table[:, -2:-1], table[:, self._zeros + 1 : self._last + 1], table[:, -1:]), dim=1)
        ends = ordered.cumsum(dim=1)
        n = ends[:, -1:]
        ranks = torch.minimum((self._fractions * n).long(), n - 1)
        return torch.searchsorted(ends, ranks, right=True).int().masked_fill_(n == 0, -1)

    def totals(self) -> torch.Tensor:
        table = self._table
        zeros = table[:, self._zeros] + table[:, 0]
        others, rest = table[:, self._zeros + 1 :].sum(dim=1), table[:, 1 : self._zeros].sum(dim=1)
        return torch.stack([zeros, others, rest], dim=1)

    def histogram(self, layer: int, scale: float) -> LogHistogram:
        row = self._table[self.places.index(layer)].cpu().numpy()
        nan, infinite, below, above = (int(row[column]) for column in (self._nan, self._infinite, -2, -1))
        if row[1 : self._zeros].sum() > nan + infinite:
            raise NegativeEntryError(layer)
        counts = row[self._zeros : self._last + 1].copy()
        counts[0] += row[0]
        return LogHistogram(self._mantissa_bits, counts, scale, nan, infinite, below, above)


class _CompiledRows:
    """Tables of tensors on a CPU, filled and read by one compiled call; see `_compiled` for the layout of a row."""

    def __init__(
        self, places: list[int], kernel: ModuleType, fractions: npt.NDArray[np.float64], mantissa_bits: int
    ) -> None:
        width, layers = kernel.row_width(mantissa_bits), len(places)
        self.places = places
        self._kernel, self._mantissa_bits = kernel, mantissa_bits
        self._tensors = np.zeros((layers, 3), dtype=np.int64)
        self._rows = np.zeros((layers, width), dtype=np.int32)
        self._quantiles = np.zeros((layers, fractions.size), dtype=np.int32)
        self._totals = np.zeros((layers, 3), dtype=np.int64)
        self._private = np.zeros((kernel.PRIVATE_TABLES, kernel.private_width(mantissa_bits)), dtype=np.int32)
        self._sums = np.zeros(width // kernel.BLOCK, dtype=np.int64)
        self._fractions = fractions

    def count(self, values: Sequence[torch.Tensor]) -> None:
        """Count every entry of its tensors in place of the counts before; negative entries raise an error."""
        chosen = [values[place] for place in self.places]
        dense = [v if v.is_contiguous() else flat(v) for v in chosen]
        self._tensors[:] = [(v.data_ptr(), v.numel(), _DTYPES.index(v.dtype)) for v in dense]
        for v, (address, entries, _) in zip(dense, self._tensors, strict=True):
            if entries and not address:
                raise ValueError(f"cannot count a {type(v).__name__} without memory of its own: pass plain tensors")
        given = (self._tensors, self._mantissa_bits, self._private, self._rows, self._sums, self._fractions)
        found, entry = self._kernel.count_tensors(*given, self._quantiles, self._totals)
        if found >= 0:
            raise NegativeEntryError(self.places[found], flat(chosen[found])[entry].item())

    def quantile_bins(self) -> torch.Tensor:
        return torch.from_numpy(self._quantiles.copy())

    def totals(self) -> torch.Tensor:
        return torch.from_numpy(self._totals.copy())

    def histogram(self, layer: int, scale: float) -> LogHistogram:
        row, bins = self._rows[self.places.index(layer)], bin_count(self._mantissa_bits)
        infinite, nan = row[bins : bins + 2].tolist()
        return LogHistogram(self._mantissa_bits, row[:bins], scale, nan, infinite)


_INT32_LIMIT = 1 << 31
"""Tensors with at least this many entries are counted in plain torch."""

_Rows = _TorchRows | _CompiledRows


class Counter:
    """Counts the entries of tensors over the log-spaced bins of `LogHistogram`, at m from 0 to 10 mantissa bits.

    `fractions` of the finite non-zero entries, each in [0, 1], are the percentiles of `quantile_bins`. One object
    serves one thread at a time. To count inside a CUDA graph, count the same tensors once before it is captured.
    """

    def __init__(self, fractions: Sequence[float], mantissa_bits: int = MANTISSA_BITS) -> None:
        self._fractions = np.array(fractions, dtype=np.float64)
        self._mantissa_bits = mantissa_bits
        self._layers = 0
        self._hosts: list[torch.device | None] = []
        self._groups: list[_Rows] = []

    def count(self, values: Sequence[torch.Tensor]) -> Counter:
        """Count every entry of every tensor once, and return this counter, whose other methods then give the counts.

        Args:
            values: entries ≥ 0 of type float32, bfloat16, float16 or float64, of any shape, layout and device, all of
                which may differ; −0.0 is a zero. Dense tensors of any layout are read where they are, others copied.

        Raises:
            NegativeEntryError: a tensor on a CPU has a negative entry; for those elsewhere `histogram` raises it.
            ValueError: entries of some other type.
        """
        # The device that counts in plain torch; None where compiled code does.
        hosts = [
            None
            if v.is_cpu and v.dtype in _DTYPES[:2] and v.numel() < _INT32_LIMIT and _kernel() is not None
            else v.device
            for v in values
        ]
        if hosts != self._hosts:
            places: dict[torch.device | None, list[int]] = {}
            for place, host in enumerate(hosts):
                places.setdefault(host, []).append(place)
            self._groups = [self._rows(host, members) for host, members in places.items()]
            self._hosts = hosts
        for rows in self._groups:
            rows.count(values)
        self._layers = len(values)
        return self

    def _rows(self, host: torch.device | None, places: list[int]) -> _Rows:
        if host is not None:
            return _TorchRows(places, host, self._fractions, self._mantissa_bits)
        kernel = _kernel()
        assert kernel is not None
        return _CompiledRows(places, kernel, self._fractions, self._mantissa_bits)

    def quantile_bins(self) -> torch.Tensor:
        """Return the slot of the entry at each fraction, (L, Q) int32, for `magnitudes_of`; a fresh tensor.

        The entry is that of `LogHistogram.quantile`. The slots lie where the tensors do, and nothing waits for them; on
        the CPU, and waited for, where tensors lie on several devices.
        """
        return self._gather([rows.quantile_bins() for rows in self._groups], self._fractions.size, torch.int32)

    def totals(self) -> torch.Tensor:
        """Return the numbers of zeros, of other finite entries, and of the rest, (L, 3) int64.

        On another device than a CPU negative entries are among the rest; `histogram` raises an error for them.
        """
        return self._gather([rows.totals() for rows in self._groups], 3, torch.int64)

    def histogram(self, layer: int, scale: float = 1.0) -> LogHistogram:
        """Return the histogram of one tensor with v̂ = v · scale; waits for its device.

        Raises:
            NegativeEntryError: the tensor has negative entries.
        """
        for rows in self._groups:
            if layer in rows.places:
                return rows.histogram(layer, scale)
        raise IndexError(f"layer {layer} does not exist among {self._layers} tensors counted")

    def folded(self, layer: int, mantissa_bits: int) -> Folded:
        """Return the counts of one tensor over coarser bins, from the first bin that is not empty to the last.

        Raises NegativeEntryError where the tensor has negative entries.
        """
        h = self.histogram(layer).fold(mantissa_bits)
        occupied = h.counts.nonzero()[0]
        first, end = (int(occupied[0]), int(occupied[-1]) + 1) if occupied.size else (0, 0)
        return first, h.counts[first:end].copy(), (h.nan, h.infinite, h.below_range, h.above_range)

    def _gather(self, parts: list[torch.Tensor], columns: int, dtype: torch.dtype) -> torch.Tensor:
        """Return the rows of all groups in the order of the tensors."""
        if len(parts) == 1:
            return parts[0]
        whole = torch.empty((self._layers, columns), dtype=dtype)
        for rows, part in zip(self._groups, parts, strict=True):
            whole[rows.places] = part.cpu()
        return whole
