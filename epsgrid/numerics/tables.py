"""Count the entries of many tensors at once, again and again, without waiting for the device they lie on.

`counting` counts one tensor and gives a histogram. A `Counter` counts all layers of a model after every step: it keeps
its tables, on a CPU it makes a single compiled call for all tensors (see `jit`), on any other device it only
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

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from epsgrid.numerics import jit
from epsgrid.numerics._entries import flat
from epsgrid.numerics.compiled_rows import CompiledRows, kinds
from epsgrid.numerics.histogram import FLOAT32_MANTISSA_BITS, MANTISSA_BITS, LogHistogram, bin_count
from epsgrid.numerics.rows import NegativeEntryError, Rows, trimmed
from epsgrid.numerics.torch_rows import TorchRows

_INT32_LIMIT = 1 << 31
"""Tensors with so many entries are counted in plain torch, in tables of twice the width."""


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
        self._groups: list[tuple[list[int], Rows]] = []

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

    def _arrange(self, hosts: Sequence[_Host | None]) -> list[tuple[list[int], Rows]]:
        """Return tables for the tensors that are counted together, and which tensors these are."""
        places: dict[_Host | None, list[int]] = {}
        for place, host in enumerate(hosts):
            places.setdefault(host, []).append(place)
        return [(members, self._rows(host, len(members))) for host, members in places.items()]

    def _rows(self, host: _Host | None, layers: int) -> Rows:
        if host is not None:
            return TorchRows(*host, layers, self._fractions, self._mantissa_bits)
        kernel = jit.kernel()
        assert kernel is not None
        return CompiledRows(kernel, layers, self._fractions, self._mantissa_bits)


class Counted:
    """The counts of a call of `Counter.count`, until the next one; L tensors, Q fractions."""

    def __init__(self, groups: Sequence[tuple[list[int], Rows]], layers: int, fractions: int) -> None:
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
            if layer in places and isinstance(rows, CompiledRows):
                return rows.folded(places.index(layer), mantissa_bits)
        histogram = self.histogram(layer).fold(mantissa_bits)
        apart = (histogram.nan, histogram.infinite, histogram.below_range, histogram.above_range)
        return *trimmed(0, histogram.counts), apart

    def _gather(self, parts: list[torch.Tensor], columns: int, dtype: torch.dtype) -> torch.Tensor:
        """Return the rows of all groups in the order of the tensors."""
        if len(parts) == 1:
            return parts[0]
        whole = torch.empty((self._layers, columns), dtype=dtype)
        for (places, _), part in zip(self._groups, parts, strict=True):
            whole[places] = part.cpu()
        return whole


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
    kernel = jit.kernel()
    if kernel is None or _host(v) is not None or not 0 < number < len(histogram.counts) - 1:
        return None
    entries = flat(v)
    found = torch.empty(int(histogram.counts[number]), dtype=v.dtype)
    kind, fineness, room = kinds(kernel)[v.dtype], histogram.mantissa_bits, found.numel()
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


_Host = tuple[torch.device, torch.dtype]


def _host(v: torch.Tensor) -> _Host | None:
    """Return the device that counts a tensor in plain torch and the type of its table; None where compiled code does.

    Tensors of the same answer are counted together.
    """
    if v.is_cpu and v.numel() < _INT32_LIMIT and jit.kernel() is not None:
        return None
    return v.device, torch.int32 if v.numel() < _INT32_LIMIT else torch.int64
