"""Tables of counts that plain torch fills and reads: those of tensors on any one device."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from epsgrid.numerics import jit
from epsgrid.numerics._entries import Columns, chunk_size, chunks, columns_of, flat
from epsgrid.numerics.histogram import LogHistogram
from epsgrid.numerics.rows import NegativeEntryError


class TorchRows:
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
        """Count; see `Rows`."""
        began = time.perf_counter()
        self._table.zero_()
        for row, v in zip(self._rows, values, strict=True):
            for chunk in chunks(flat(v)):
                row.scatter_add_(0, columns_of(chunk, self._mantissa_bits), self._ones[: chunk.numel()])
        if self._table.is_cpu:
            jit.patience.spend(time.perf_counter() - began)
            self._refuse_negative(values)

    def _refuse_negative(self, values: Sequence[torch.Tensor]) -> None:
        table, at = self._table, self._columns
        numbers = table[:, 1 : at.zeros].sum(dim=1) - table[:, at.nan] - table[:, at.infinite]
        for layer in numbers.nonzero().flatten().tolist():
            entries = flat(values[layer])
            raise NegativeEntryError(layer, entries[entries < 0][0].item())

    def quantile_bins(self) -> torch.Tensor:
        """Return the slot of the entry at each fraction: (L, Q), int32."""
        table, at = self._table, self._columns
        parts = (table[:, at.below, None], table[:, at.zeros + 1 : at.last + 1], table[:, at.above, None])
        ends = torch.cat(parts, dim=1).cumsum(dim=1)
        n = ends[:, -1:]
        ranks = torch.minimum((self._fractions * n).long(), n - 1)
        return torch.searchsorted(ends, ranks, right=True).int().masked_fill_(n == 0, -1)

    def totals(self) -> torch.Tensor:
        """Return the numbers of zeros, of finite other entries, and of NaN and infinities: (L, 3)."""
        table, at = self._table, self._columns
        zeros = table[:, at.zeros] + table[:, at.negative_zeros]
        return torch.stack([zeros, table[:, at.zeros + 1 :].sum(dim=1), table[:, 1 : at.zeros].sum(dim=1)], dim=1)

    def histogram(self, layer: int, scale: float) -> LogHistogram:
        """Return the histogram of a row; `scale` as of `LogHistogram`."""
        row, at = self._rows[layer].cpu().numpy().astype(np.int64), self._columns
        nan, infinite, below, above = (int(row[column]) for column in (at.nan, at.infinite, at.below, at.above))
        if row[1 : at.zeros].sum() > nan + infinite:
            raise NegativeEntryError(layer)
        counts = row[at.zeros : at.last + 1]
        counts[0] += row[at.negative_zeros]
        return LogHistogram(self._mantissa_bits, counts, scale, nan, infinite, below, above)
