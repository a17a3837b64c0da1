"""Count the entries of many tensors at once, again and again, without waiting for the device they lie on.

`counting` counts one tensor and gives a histogram. A `Counter` counts all layers of a model after every step: it keeps
its tables, on a CPU it makes a single compiled call for all tensors (see `compiled`), on any other device it only
queues work, and what is read from the tables, percentiles and totals, is worked out where they lie.

>>> import torch
>>> counter = Counter([0.02, 0.5])
>>> counted = counter.count([torch.tensor([0.0, 1e-8, 4e-8]), torch.zeros(2)])
>>> counted.totals().tolist()                       # zeros, finite others, NaN or infinite
[[1, 2, 0], [2, 0, 0]]
>>> magnitudes_of(counted.quantile_bins().numpy(), scale=1.0).round(6).tolist()
[[9.9e-05, 0.000199], [nan, nan]]
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from functools import cache
from types import ModuleType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from epsgrid.numerics._entries import Columns, check_type, chunk_size, chunks, columns_of, flat
from epsgrid.numerics.histogram import FLOAT32_MANTISSA_BITS, MANTISSA_BITS, LogHistogram, bin_count
from epsgrid.numerics.recounting import Answers, Call, Recount

_INT32_LIMIT = 1 << 31
"""Tensors with so many entries are counted in plain torch, in tables of twice the width."""


class NegativeEntryError(ValueError):
    """An entry of what should be a second moment lies below zero.

    Attributes:
        layer: which of the tensors it is in, from 0.
    """

    def __init__(self, layer: int, entry: float | None = None) -> None:
        found = "negative entries" if entry is None else f"the negative entry {entry:.6g}"
        super().__init__(
            f"a second moment is a mean of squares, yet it has {found}; "
            "check which tensor the optimizer's second_moment returns"
        )
        self.layer = layer


def compiled() -> bool:
    """Load the compiled counting at once, rather than when it is worth it; say whether it could be.

    Until then tensors on a CPU are counted in plain torch, with the same result. It is loaded as soon as a process has
    spent as long on that as loading takes: who looks once an epoch, or at a few batches, never waits for it.
    """
    _patience.is_over = True
    return _kernel() is not None


class Counter:
    """Counts the entries of tensors over the log-spaced bins of `LogHistogram`.

    One object serves one thread at a time. At m = 5 it keeps a table of 33 kB for each tensor on a CPU, of 65 kB for
    each elsewhere, and for the counting itself a quarter of a megabyte on a CPU, 16 MB elsewhere. To count inside a
    CUDA graph, count the same tensors once before it is captured: that makes the tables.

    Args:
        fractions: of the finite non-zero entries, each in [0, 1]: the percentiles that `Counted.quantile_bins` gives.
        mantissa_bits: m, 0 to 10; 5 keeps quantiles within 0.8 % of the exact ones.

    Raises:
        ValueError: a fraction or `mantissa_bits` is out of range.
    """

    def __init__(self, fractions: Sequence[float], mantissa_bits: int = MANTISSA_BITS) -> None:
        for fraction in fractions:
            if not 0 <= fraction <= 1:
                raise ValueError(f"fractions must lie in [0, 1], got {fraction!r}")
        bin_count(mantissa_bits)
        self._fractions = np.array(fractions, dtype=np.float64)
        self._mantissa_bits = mantissa_bits
        self._hosts: list[_Host | None] = []
        self._groups: list[tuple[list[int], _Rows]] = []

    def count(self, values: Sequence[torch.Tensor]) -> Counted:
        """Count every entry of every tensor once.

        Args:
            values: entries ≥ 0 of type float32, bfloat16, float16 or float64, of any shape, layout and device, all of
                which may differ; −0.0 is a zero. Dense tensors of any layout are read where they are, others copied.
                Tables are kept from call to call while the tensors stay on their devices.

        Returns:
            The counts, valid until this counter counts again.

        Raises:
            NegativeEntryError: a tensor on a CPU has a negative entry; `Counted` tells of those elsewhere.
            ValueError: entries of some other type.
        """
        hosts = [_host(v) for v in values]
        if hosts != self._hosts:
            self._groups = self._arrange(hosts)
            self._hosts = hosts
        for places, rows in self._groups:
            try:
                rows.count(values if len(places) == len(values) else [values[place] for place in places])
            except NegativeEntryError as error:
                error.layer = places[error.layer]
                raise
        return Counted(self._groups, len(values), self._fractions.size)

    def recount(self, values: Sequence[torch.Tensor], numbers: Sequence[torch.Tensor]) -> Recount | None:
        """Return what counts the same tensors again with less work in Python.

        Args:
            values: what `count` was called with last.
            numbers: a scalar for each tensor, float32 or float64, on the CPU, to be noted whenever it is counted.

        Returns:
            None where compiled code does not count them all, and in the memory that is theirs.
        """
        if len(self._groups) != 1:
            return None
        (_, rows), *_ = self._groups
        if not isinstance(rows, _CompiledRows) or not rows.reads(values):
            return None
        return rows.recount(values, numbers, Counted(self._groups, len(values), self._fractions.size))

    def _arrange(self, hosts: Sequence[_Host | None]) -> list[tuple[list[int], _Rows]]:
        """Return tables for the tensors that are counted together, and which tensors these are."""
        places: dict[_Host | None, list[int]] = {}
        for place, host in enumerate(hosts):
            places.setdefault(host, []).append(place)
        return [(members, self._rows(host, len(members))) for host, members in places.items()]

    def _rows(self, host: _Host | None, layers: int) -> _Rows:
        if host is not None:
            return _TorchRows(*host, layers, self._fractions, self._mantissa_bits)
        kernel = _kernel()
        assert kernel is not None
        return _CompiledRows(kernel, layers, self._fractions, self._mantissa_bits)


class Counted:
    """The counts of a call of `Counter.count`, until the next one; L tensors, Q fractions."""

    def __init__(self, groups: Sequence[tuple[list[int], _Rows]], layers: int, fractions: int) -> None:
        self._groups, self._layers, self._fractions = groups, layers, fractions

    def quantile_bins(self) -> torch.Tensor:
        """Return the slot of the entry at each fraction, (L, Q) int32, for `magnitudes_of`; a fresh tensor.

        Of n finite non-zero entries in rising order it is the one at index min(int(fraction · n), n − 1), as in
        `LogHistogram.quantile`. The slot is its bin, 0 for one below float32's range and the number of bins for one
        above it; -1 where n is 0.

        It lies where the tensors do, and nothing waits for it; on the CPU, and waited for, where they lie on several
        devices.
        """
        return self._gather([rows.quantile_bins() for _, rows in self._groups], self._fractions, torch.int32)

    def totals(self) -> torch.Tensor:
        """Return the numbers of zeros, of other finite entries, and of the rest, (L, 3) int64; a fresh tensor.

        The rest are NaN and infinities; on another device than a CPU negative entries too, which are an error that
        `histogram` raises. The tensor lies where that of `quantile_bins` does.
        """
        return self._gather([rows.totals() for _, rows in self._groups], 3, torch.int64)

    def histogram(self, layer: int, scale: float = 1.0) -> LogHistogram:
        """Return the histogram of one tensor; waits for its device.

        Args:
            layer: which tensor, from 0.
            scale: v̂ = v · scale, > 0; enters the histogram as a number.

        Raises:
            NegativeEntryError: the tensor has negative entries.
            ValueError: `scale` is out of range.
        """
        for places, rows in self._groups:
            if layer in places:
                try:
                    return rows.histogram(places.index(layer), scale)
                except NegativeEntryError:
                    raise NegativeEntryError(layer) from None
        raise IndexError(f"layer {layer} does not exist among {self._layers} tensors counted")

    def folded(self, layer: int, mantissa_bits: int) -> tuple[int, npt.NDArray[np.int64], tuple[int, int, int, int]]:
        """Return the counts of one tensor over coarser bins, from the first bin that is not empty to the last.

        Args:
            layer: which tensor, from 0.
            mantissa_bits: m of the coarser bins, at most that of the counter.

        Returns:
            The first of these bins, the counts of all of them, and how many entries are NaN, infinite, below and above
            float32's range: those of `histogram(layer).fold(mantissa_bits)`, in less time.

        Raises:
            NegativeEntryError: the tensor has negative entries.
        """
        for places, rows in self._groups:
            if layer in places and isinstance(rows, _CompiledRows):
                return rows.folded(places.index(layer), mantissa_bits)
        histogram = self.histogram(layer).fold(mantissa_bits)
        apart = (histogram.nan, histogram.infinite, histogram.below_range, histogram.above_range)
        return *_trimmed(0, histogram.counts), apart

    def _gather(self, parts: list[torch.Tensor], columns: int, dtype: torch.dtype) -> torch.Tensor:
        """Return the rows of all groups in the order of the tensors."""
        if len(parts) == 1:
            return parts[0]
        whole = torch.empty((self._layers, columns), dtype=dtype)
        for (places, _), part in zip(self._groups, parts, strict=True):
            whole[places] = part.cpu()
        return whole


def _trimmed(first: int, counts: npt.NDArray[np.int64]) -> tuple[int, npt.NDArray[np.int64]]:
    """Return counts without their empty ends, and the bin they now begin with; `first` is that of the first count."""
    occupied = counts.nonzero()[0]
    if not occupied.size:
        return 0, counts[:0]
    return first + int(occupied[0]), counts[occupied[0] : occupied[-1] + 1]


def entries_in_bin(v: torch.Tensor, histogram: LogHistogram, number: int) -> torch.Tensor | None:
    """Return the entries in one bin, in the order they lie in memory, where compiled code can find them.

    Args:
        v: what was counted.
        histogram: its counts.
        number: of the bin.

    Returns:
        As many entries as the histogram says; None for entries that do not lie on a CPU, and for the first and the last
        bin and what is outside them, where entries of several kinds come together.

    Raises:
        ValueError: the histogram is not that of `v`.
    """
    kernel = _kernel()
    if kernel is None or _host(v) is not None or not 0 < number < len(histogram.counts) - 1:
        return None
    entries = flat(v)
    found = torch.empty(int(histogram.counts[number]), dtype=v.dtype)
    kind, fineness, room = _kinds(kernel)[v.dtype], histogram.mantissa_bits, found.numel()
    here = kernel.collector()(entries.data_ptr(), entries.numel(), kind, fineness, number, found.data_ptr(), room)
    if here != room:
        raise ValueError(f"bin {number} has {here} entries and {room} by the histogram: it is not that of this tensor")
    return found


def magnitudes_of(
    bins: npt.NDArray[np.integer[Any]], scale: npt.ArrayLike = 1.0, mantissa_bits: int = MANTISSA_BITS
) -> npt.NDArray[np.float64]:
    """Return the magnitudes that stand for slots, in √v̂ units: the same numbers as `LogHistogram.quantile`.

    Args:
        bins: slots of `Counted.quantile_bins`, of any shape.
        scale: v̂ = v · scale, > 0; a number, or an array that broadcasts against `bins`, such as (L, 1).
        mantissa_bits: m of the counter.

    Returns:
        The midpoint of each bin, the ends of float32's range for slots outside it, NaN for -1.
    """
    last = bin_count(mantissa_bits) - 1
    scale = np.asarray(scale, dtype=np.float64)
    upper, lower = (np.sqrt(_edge(np.clip(bins - down, 0, last), mantissa_bits) * scale) for down in (0, 1))
    found = (upper + lower) / 2
    found = np.where(bins == 0, np.sqrt(2.0**-149 * scale), found)
    found = np.where(bins > last, upper, found)
    return np.where(bins < 0, np.nan, found)


def _edge(bins: npt.NDArray[np.integer[Any]], mantissa_bits: int) -> npt.NDArray[np.float64]:
    """Return the upper edges of bins in units of v: the float32s whose bits are multiples of 2^s."""
    bits = bins.astype(np.uint32) << (FLOAT32_MANTISSA_BITS - mantissa_bits)
    edges = bits.view(np.float32).astype(np.float64)
    return np.where(np.isinf(edges), 2.0**128, edges)


class _Rows(Protocol):
    """The tables of tensors that are counted together."""

    def count(self, values: Sequence[torch.Tensor]) -> None: ...
    def quantile_bins(self) -> torch.Tensor: ...
    def totals(self) -> torch.Tensor: ...
    def histogram(self, layer: int, scale: float) -> LogHistogram: ...


_Host = tuple[torch.device, torch.dtype]


def _host(v: torch.Tensor) -> _Host | None:
    """Return the device that counts a tensor in plain torch and the type of its table; None where compiled code does.

    Tensors of the same answer are counted together.
    """
    if v.is_cpu and v.numel() < _INT32_LIMIT and _kernel() is not None:
        return None
    return v.device, torch.int32 if v.numel() < _INT32_LIMIT else torch.int64


class _Patience:
    """Whether enough was counted in plain torch, on a CPU, that the compiled counting is worth loading.

    Waiting until as much was lost as loading costs is never worse than twice the best that could have been done.
    """

    _SECONDS = 1.0
    """What loading takes, about."""

    def __init__(self) -> None:
        self.is_over = False
        self._spent = 0.0

    def spend(self, seconds: float) -> None:
        self._spent += seconds
        self.is_over = self.is_over or self._spent > self._SECONDS


_patience = _Patience()


def _kernel() -> ModuleType | None:
    """Return the compiled counting; None until it is worth loading, and where it cannot be loaded."""
    return _load() if _patience.is_over else None


@cache
def _load() -> ModuleType | None:
    """Import the compiled counting, which compiles it; None, with a warning, where that cannot be done."""
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


def _kinds(kernel: ModuleType) -> dict[torch.dtype, int]:
    return {
        torch.float32: kernel.FLOAT32,
        torch.bfloat16: kernel.BFLOAT16,
        torch.float16: kernel.FLOAT16,
        torch.float64: kernel.FLOAT64,
    }


class _CompiledRows:
    """Tables of tensors on a CPU, filled and read by one compiled call; see `_compiled` for the layout of a row."""

    def __init__(self, kernel: ModuleType, layers: int, fractions: npt.NDArray[np.float64], mantissa_bits: int) -> None:
        width = kernel.row_width(mantissa_bits)
        self._kernel, self._mantissa_bits = kernel, mantissa_bits
        self._kinds = _kinds(kernel)
        self.described: list[tuple[int, int, int]] = []
        self._tensors = np.zeros((layers, 3), dtype=np.int64)
        self._private = np.zeros((kernel.PRIVATE_TABLES, kernel.private_width(mantissa_bits)), dtype=np.int32)
        self._rows = np.zeros((layers, width), dtype=np.int32)
        self._spans = np.zeros((layers, 2), dtype=np.int64)
        self._sums = np.zeros(width // kernel.BLOCK, dtype=np.int64)
        self._fractions = fractions
        self._quantiles = np.zeros((layers, fractions.size), dtype=np.int32)
        self._totals = np.zeros((layers, 3), dtype=np.int64)
        places = {
            kernel.TENSORS: self._tensors,
            kernel.PRIVATE: self._private,
            kernel.ROWS: self._rows,
            kernel.SPANS: self._spans,
            kernel.SUMS: self._sums,
            kernel.FRACTION: self._fractions,
            kernel.QUANTILES: self._quantiles,
            kernel.TOTALS: self._totals,
        }
        self._sheet = np.zeros(kernel.SHEET, dtype=np.int64)
        self._sheet[[kernel.LAYERS, kernel.MANTISSA_BITS, kernel.FRACTIONS]] = layers, mantissa_bits, fractions.size
        for place, array in places.items():
            self._sheet[place] = array.ctypes.data

    def count(self, values: Sequence[torch.Tensor]) -> None:
        dense = [v if v.is_contiguous() else flat(v) for v in values]
        self._describe(dense)
        found = self._kernel.count_tensors(self._sheet)
        if found >= 0:
            raise NegativeEntryError(found, flat(values[found])[self._sheet[self._kernel.ENTRY]].item())

    def reads(self, values: Sequence[torch.Tensor]) -> bool:
        """Tell whether the tensors described last are these, and not copies of some of them."""
        return [v.data_ptr() for v in values] == [address for address, _, _ in self.described]

    def recount(self, values: Sequence[torch.Tensor], numbers: Sequence[torch.Tensor], counted: Counted) -> Recount:
        """Return what counts the tensors described last again, in the same tables."""
        kernel, sheet, answers = self._kernel, self._sheet.copy(), Answers.room(len(values), self._fractions.size)
        places = [(number.data_ptr(), self._kinds[number.dtype]) for number in numbers]
        noted = np.array(places, dtype=np.int64).reshape(-1, 2)
        arrays: dict[int, npt.NDArray[Any]] = {
            kernel.NUMBERS: noted,
            kernel.QUANTILES: answers.bins,
            kernel.TOTALS: answers.totals,
            kernel.NOTED: answers.numbers,
        }
        for place, array in arrays.items():
            sheet[place] = array.ctypes.data
        sheet[kernel.ADVANCE] = 1
        call = Call(kernel.count_tensors, sheet, kernel.PLACE, noted, answers)
        return Recount(self, values, numbers, counted, call)

    def show(self, bins: npt.NDArray[np.int32], totals: npt.NDArray[np.int64]) -> None:
        """Let `Counted` tell these percentiles and totals, of the counts that stand in the rows."""
        self._quantiles[:], self._totals[:] = bins, totals

    def _describe(self, dense: Sequence[torch.Tensor]) -> None:
        try:
            described = [(v.data_ptr(), v.numel(), self._kinds[v.dtype]) for v in dense]
        except KeyError:
            for v in dense:
                check_type(v)
            raise
        if described != self.described:
            for v, (address, entries, _) in zip(dense, described, strict=True):
                if entries and not address:
                    raise ValueError(f"cannot count a {type(v).__name__} without memory of its own: pass plain tensors")
            self._tensors[:] = described
            self.described = described

    def quantile_bins(self) -> torch.Tensor:
        return torch.from_numpy(self._quantiles.copy())

    def totals(self) -> torch.Tensor:
        return torch.from_numpy(self._totals.copy())

    def histogram(self, layer: int, scale: float) -> LogHistogram:
        row, bins = self._rows[layer], bin_count(self._mantissa_bits)
        above, below, infinite, nan = (int(number) for number in row[bins : bins + 4])
        return LogHistogram(self._mantissa_bits, row[:bins], scale, nan, infinite, below, above)

    def folded(self, layer: int, mantissa_bits: int) -> tuple[int, npt.NDArray[np.int64], tuple[int, int, int, int]]:
        row, bins = self._rows[layer], bin_count(self._mantissa_bits)
        above, below, infinite, nan = row[bins : bins + 4].tolist()
        size = 1 << (self._mantissa_bits - mantissa_bits)  # fine bins, from 1, in a coarse one
        start, end = (min(self._kernel.BLOCK * block, bins) - 1 for block in self._spans[layer].tolist())
        if row[1 : self._kernel.BLOCK].any():  # the first block is no part of the span
            start, end = 0, max(end, self._kernel.BLOCK - 1)
        first, last = start // size, -(-end // size)
        counts = row[1 + first * size : 1 + last * size].reshape(-1, size).sum(axis=1, dtype=np.int64)
        if row[0]:
            counts = np.concatenate([row[:1].astype(np.int64), np.zeros(first, np.int64), counts])
            first = -1
        return *_trimmed(first + 1, counts), (nan, infinite, below, above)


class _TorchRows:
    """Tables of tensors on any one device, in plain torch; see `_entries` for the columns."""

    def __init__(
        self,
        device: torch.device,
        dtype: torch.dtype,
        layers: int,
        fractions: npt.NDArray[np.float64],
        mantissa_bits: int,
    ) -> None:
        self._mantissa_bits = mantissa_bits
        self._columns = Columns(mantissa_bits)
        self._table = torch.zeros((layers, self._columns.count), dtype=dtype, device=device)
        self._rows = self._table.unbind()
        self._ones = torch.ones(chunk_size(device), dtype=dtype, device=device)
        self._fractions = torch.from_numpy(fractions).to(device)

    def count(self, values: Sequence[torch.Tensor]) -> None:
        began = time.perf_counter()
        self._table.zero_()
        for row, v in zip(self._rows, values, strict=True):
            for chunk in chunks(flat(v)):
                row.scatter_add_(0, columns_of(chunk, self._mantissa_bits), self._ones[: chunk.numel()])
        if self._table.is_cpu:
            _patience.spend(time.perf_counter() - began)
            self._refuse_negative(values)

    def _refuse_negative(self, values: Sequence[torch.Tensor]) -> None:
        table, at = self._table, self._columns
        numbers = table[:, 1 : at.zeros].sum(dim=1) - table[:, at.nan] - table[:, at.infinite]
        for layer in numbers.nonzero().flatten().tolist():
            entries = flat(values[layer])
            raise NegativeEntryError(layer, entries[entries < 0][0].item())

    def quantile_bins(self) -> torch.Tensor:
        table, at = self._table, self._columns
        parts = (table[:, at.below, None], table[:, at.zeros + 1 : at.last + 1], table[:, at.above, None])
        ends = torch.cat(parts, dim=1).cumsum(dim=1)
        n = ends[:, -1:]
        ranks = torch.minimum((self._fractions * n).long(), n - 1)
        return torch.searchsorted(ends, ranks, right=True).int().masked_fill_(n == 0, -1)

    def totals(self) -> torch.Tensor:
        table, at = self._table, self._columns
        zeros = table[:, at.zeros] + table[:, at.negative_zeros]
        return torch.stack([zeros, table[:, at.zeros + 1 :].sum(dim=1), table[:, 1 : at.zeros].sum(dim=1)], dim=1)

    def histogram(self, layer: int, scale: float) -> LogHistogram:
        row, at = self._rows[layer].cpu().numpy().astype(np.int64), self._columns
        nan, infinite, below, above = (int(row[column]) for column in (at.nan, at.infinite, at.below, at.above))
        if row[1 : at.zeros].sum() > nan + infinite:
            raise NegativeEntryError(layer)
        counts = row[at.zeros : at.last + 1]
        counts[0] += row[at.negative_zeros]
        return LogHistogram(self._mantissa_bits, counts, scale, nan, infinite, below, above)
