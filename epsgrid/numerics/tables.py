"""Count the entries of many tensors at once, again and again, without waiting for the device they lie on.

`counting` counts one tensor and gives a histogram. A `Counter` counts all layers of a model after every step: it keeps
its tables, on a CPU it makes a single compiled call for all tensors (see `jit`), on any other device it only queues
work, and percentiles and totals are computed where the tables lie.

>>> import torch
>>> from epsgrid.numerics.histogram import magnitudes_of
>>> counter = Counter([0.02, 0.5])
>>> counted = counter.count([torch.tensor([0.0, 1e-8, 4e-8]), torch.zeros(2)])
>>> counted.totals().tolist()                       # zeros, finite others, NaN or infinite
[[1, 2, 0], [2, 0, 0]]
>>> magnitudes_of(counted.quantile_bins().numpy(), scale=1.0).round(6).tolist()
[[9.9e-05, 0.000199], [nan, nan]]
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from epsgrid.numerics import jit
from epsgrid.numerics.histogram import MANTISSA_BITS, LogHistogram, bin_count
from epsgrid.numerics.rows import DTYPES, CompiledRows, Folded, TorchRows

_INT32_LIMIT = 1 << 31
"""Tensors with at least this many entries are counted in plain torch, in tables of twice the width."""

_Host = tuple[torch.device, torch.dtype] | None
_Rows = TorchRows | CompiledRows


def _host_of(v: torch.Tensor) -> _Host:
    """Return the device that counts a tensor in plain torch and the type of its table; None where compiled code does.

    Tensors with the same answer are counted together.
    """
    if v.is_cpu and v.dtype in DTYPES[:2] and v.numel() < _INT32_LIMIT and jit.kernel() is not None:
        return None
    return v.device, torch.int32 if v.numel() < _INT32_LIMIT else torch.int64


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
        self._hosts: list[_Host] = []
        self._groups: list[_Rows] = []

    def count(self, values: Sequence[torch.Tensor]) -> Counted:
        """Count every entry of every tensor once.

        Args:
            values: entries ≥ 0 of type float32, bfloat16, float16 or float64, of any shape, layout and device, all of
                which may differ; −0.0 is a zero. Dense tensors of any layout are read where they are, others copied.
                Tables are kept from call to call while the tensors stay on their devices.

        Returns:
            The counts, valid until this counter counts again.

        Raises:
            NegativeEntryError: a tensor on a CPU has a negative entry; for those elsewhere `Counted` raises it.
            ValueError: entries of some other type.
        """
        hosts = [_host_of(v) for v in values]
        if hosts != self._hosts:
            places: dict[_Host, list[int]] = {}
            for place, host in enumerate(hosts):
                places.setdefault(host, []).append(place)
            self._groups = [self._rows(host, members) for host, members in places.items()]
            self._hosts = hosts
        for rows in self._groups:
            rows.count(values)
        return Counted(self._groups, len(values), self._fractions.size)

    def _rows(self, host: _Host, places: list[int]) -> _Rows:
        if host is not None:
            return TorchRows(places, *host, self._fractions, self._mantissa_bits)
        kernel = jit.kernel()
        assert kernel is not None
        return CompiledRows(places, kernel, self._fractions, self._mantissa_bits)


class Counted:
    """The counts of a call of `Counter.count`, until the next one; L tensors, Q fractions."""

    def __init__(self, groups: Sequence[_Rows], layers: int, fractions: int) -> None:
        self._groups, self._layers, self._fractions = groups, layers, fractions

    def quantile_bins(self) -> torch.Tensor:
        """Return the slot of the entry at each fraction, (L, Q) int32, for `magnitudes_of`; a fresh tensor.

        Of n finite non-zero entries in rising order it is the one at index min(int(fraction · n), n − 1), as in
        `LogHistogram.quantile`. The slot is its bin, 0 for one below float32's range and the number of bins for one
        above it; -1 where n is 0.

        It lies where the tensors do, and nothing waits for it; on the CPU, and waited for, where they lie on several
        devices.
        """
        return self._gather([rows.quantile_bins() for rows in self._groups], self._fractions, torch.int32)

    def totals(self) -> torch.Tensor:
        """Return the numbers of zeros, of other finite entries, and of the rest, (L, 3) int64; a fresh tensor.

        The rest are NaN and infinities; on another device than a CPU negative entries too, which are an error that
        `histogram` raises. The tensor lies where that of `quantile_bins` does.
        """
        return self._gather([rows.totals() for rows in self._groups], 3, torch.int64)

    def histogram(self, layer: int, scale: float = 1.0) -> LogHistogram:
        """Return the histogram of one tensor; waits for its device.

        Args:
            layer: which tensor, from 0.
            scale: v̂ = v · scale, > 0; enters the histogram as a number.

        Raises:
            NegativeEntryError: the tensor has negative entries.
            ValueError: `scale` is out of range.
        """
        return self._rows_of(layer).histogram(layer, scale)

    def folded(self, layer: int, mantissa_bits: int) -> Folded:
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
        return self._rows_of(layer).folded(layer, mantissa_bits)

    def _rows_of(self, layer: int) -> _Rows:
        """Return the tables that count a tensor."""
        for rows in self._groups:
            if layer in rows.places:
                return rows
        raise IndexError(f"layer {layer} does not exist among {self._layers} tensors counted")

    def _gather(self, parts: list[torch.Tensor], columns: int, dtype: torch.dtype) -> torch.Tensor:
        """Return the rows of all groups in the order of the tensors."""
        if len(parts) == 1:
            return parts[0]
        whole = torch.empty((self._layers, columns), dtype=dtype)
        for rows, part in zip(self._groups, parts, strict=True):
            whole[rows.places] = part.cpu()
        return whole
