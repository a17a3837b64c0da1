"""Tables of counts that compiled code fills and reads: those of tensors on a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

import numpy as np
import numpy.typing as npt
import torch

from epsgrid.numerics._entries import check_type, flat
from epsgrid.numerics.histogram import LogHistogram, bin_count
from epsgrid.numerics.rows import NegativeEntryError, trimmed


def kinds(kernel: ModuleType) -> dict[torch.dtype, int]:
    """Return by which number compiled code knows each type of entries."""
    return {
        torch.float32: kernel.FLOAT32,
        torch.bfloat16: kernel.BFLOAT16,
        torch.float16: kernel.FLOAT16,
        torch.float64: kernel.FLOAT64,
    }


class CompiledRows:
    """Tables of tensors on a CPU, filled and read by one compiled call; see `_compiled` for the layout of a row."""

    def __init__(self, kernel: ModuleType, layers: int, fractions: npt.NDArray[np.float64], mantissa_bits: int) -> None:
        width = kernel.row_width(mantissa_bits)
        self._kernel, self._mantissa_bits = kernel, mantissa_bits
        self._kinds = kinds(kernel)
        self._described: list[tuple[int, int, int]] = []
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
        """Count; see `Rows`."""
        dense = [v if v.is_contiguous() else flat(v) for v in values]
        self._describe(dense)
        found = self._kernel.count_tensors(self._sheet)
        if found >= 0:
            raise NegativeEntryError(found, flat(values[found])[self._sheet[self._kernel.ENTRY]].item())

    def _describe(self, dense: Sequence[torch.Tensor]) -> None:
        try:
            described = [(v.data_ptr(), v.numel(), self._kinds[v.dtype]) for v in dense]
        except KeyError:
            for v in dense:
                check_type(v)
            raise
        if described != self._described:
            for v, (address, entries, _) in zip(dense, described, strict=True):
                if entries and not address:
                    raise ValueError(f"cannot count a {type(v).__name__} without memory of its own: pass plain tensors")
            self._tensors[:] = described
            self._described = described

    def quantile_bins(self) -> torch.Tensor:
        """Return the slot of the entry at each fraction: (L, Q), int32."""
        return torch.from_numpy(self._quantiles.copy())

    def totals(self) -> torch.Tensor:
        """Return the numbers of zeros, of finite other entries, and of NaN and infinities: (L, 3)."""
        return torch.from_numpy(self._totals.copy())

    def histogram(self, layer: int, scale: float) -> LogHistogram:
        """Return the histogram of a row; `scale` as of `LogHistogram`."""
        row, bins = self._rows[layer], bin_count(self._mantissa_bits)
        above, below, infinite, nan = (int(number) for number in row[bins : bins + 4])
        return LogHistogram(self._mantissa_bits, row[:bins], scale, nan, infinite, below, above)

    def folded(self, layer: int, mantissa_bits: int) -> tuple[int, npt.NDArray[np.int64], tuple[int, int, int, int]]:
        """Return the counts of a row over wider bins; see `tables.Counted.folded`."""
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
        return *trimmed(first + 1, counts), (nan, infinite, below, above)
