"""Count v where it lies, and find exact order statistics without sorting: the part of the numerics that needs torch.

A float32's bits, read as an integer, sort like the number itself. So a histogram is one pass of integer operations
(see `histogram` for the bins), and the r-th smallest entry is found by looking only at the bin that holds rank r:
those few entries are binned again by their remaining bits, until one value is left. That is equal to a sort, bit for
bit, and takes time linear in the number of entries whatever their ties.

Entries are taken in the order in which they lie in memory, so a dense v of any layout is read where it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from epsgrid.errors import NoBoundsError
from epsgrid.numerics._entries import Columns, chunks, columns_of, flat
from epsgrid.numerics.histogram import MANTISSA_BITS, LogHistogram
from epsgrid.numerics.magnitudes import TAIL_FRACTION, LayerStatistics, LayerStatus, high_rank, low_rank
from epsgrid.numerics.tables import Counter, entries_in_bin

_RADIX_BITS = 11


def count(v: torch.Tensor, scale: float = 1.0, mantissa_bits: int = MANTISSA_BITS) -> LogHistogram:
    """Count the entries of a second moment over the log-spaced bins of `LogHistogram`.

    Args:
        v: entries ≥ 0 of type float32, bfloat16, float16 or float64, of any shape, layout and device; −0.0 is a zero,
            NaN and infinity are counted apart. May be empty.
        scale: v̂ = v · scale, > 0; enters the histogram as a number, v is not multiplied.
        mantissa_bits: m, 0 to 10; 5 keeps quantiles within 0.8 % of the exact ones.

    Returns:
        The histogram; its `total` is `v.numel()`.

    Raises:
        ValueError: an entry is negative, the type is another one, or `scale` or `mantissa_bits` is out of range.
    """
    return Counter((), mantissa_bits).count([v]).histogram(0, scale)


def order_statistics(v: torch.Tensor, ranks: Sequence[int], histogram: LogHistogram | None = None) -> list[float]:
    """Return exact order statistics of the finite non-zero entries of v, as a sort would.

    Args:
        v: as in `count`.
        ranks: indices into those entries in rising order, from 0.
        histogram: what `count(v)` returned, to spare counting again; of any scale.

    Returns:
        One entry of v for each rank, as a double; neither scaled nor rooted.

    Raises:
        ValueError: a rank is negative or not below the number of such entries; or as in `count`.
    """
    histogram = count(v) if histogram is None else histogram
    for rank in ranks:
        if not 0 <= rank < histogram.nonzero:
            raise ValueError(f"rank {rank} does not exist among {histogram.nonzero} finite non-zero entries")
    located = [histogram.locate(rank) for rank in ranks]
    members = _members(v, histogram, {group for group, _ in located})
    return [_select(members[group], rank) for group, rank in located]


def measure(name: str, v: torch.Tensor, scale: float = 1.0, tail_fraction: float = TAIL_FRACTION) -> LayerStatistics:
    """Measure one layer for the bounds: its histogram and its two exact order statistics.

    Args:
        name: the parameter's name.
        v: its second moment, as in `count`.
        scale: v̂ = v · scale.
        tail_fraction: share of the non-zero entries beyond each order statistic, in (0, 0.5).

    Returns:
        The statistics. Their status is EMPTY without entries, NON_FINITE with a NaN or infinity anywhere, ALL_ZERO
        without a non-zero entry; low and high are then None.

    Raises:
        NoBoundsError: v cannot be a second moment: it has a negative entry or a type that is not counted.
    """
    try:
        histogram = count(v, scale)
    except ValueError as error:
        raise NoBoundsError(f"layer {name!r}: {error}") from error
    status = LayerStatus.of(histogram)
    low = high = None
    if status is LayerStatus.MEASURED:
        n = histogram.nonzero
        ranks = (low_rank(n, tail_fraction), high_rank(n, tail_fraction))
        low, high = (math.sqrt(value * scale) for value in order_statistics(v, ranks, histogram))
    return LayerStatistics(name, tuple(v.shape), v.numel(), histogram.nonzero, low, high, histogram, status)


def _members(v: torch.Tensor, histogram: LogHistogram, wanted: set[int]) -> dict[int, torch.Tensor]:
    """Return the entries in each of a few bins, as integers that sort like them; bins as `LogHistogram.locate` says."""
    members = {group: entries_in_bin(v, histogram, group) for group in wanted}
    found = {group: _keys(entries) for group, entries in members.items() if entries is not None}
    left = wanted - set(found)
    return {**found, **_members_in_torch(flat(v), histogram, left)} if left else found


def _members_in_torch(entries: torch.Tensor, histogram: LogHistogram, wanted: set[int]) -> dict[int, torch.Tensor]:
    columns = Columns(histogram.mantissa_bits)
    outside = {0: columns.below, len(histogram.counts): columns.above}
    found: dict[int, list[torch.Tensor]] = {group: [] for group in wanted}
    for chunk in chunks(entries):
        keys, places = _keys(chunk), columns_of(chunk, histogram.mantissa_bits)
        for group, pieces in found.items():
            pieces.append(keys[places == outside.get(group, columns.zeros + group)])
    return {group: torch.cat(pieces) for group, pieces in found.items()}


def _keys(values: torch.Tensor) -> torch.Tensor:
    """Return integers that sort like values ≥ 0; without a copy of float32 and float64."""
    return values.view(torch.int64) if values.dtype == torch.float64 else values.to(torch.float32).view(torch.int32)


def _select(keys: torch.Tensor, rank: int) -> float:
    """Return the value whose key has a rank among positive keys."""
    key = int(np.partition(keys.numpy(), rank)[rank]) if keys.is_cpu else _select_by_radix(keys, rank)
    return float(torch.tensor(key, dtype=keys.dtype).view(_value_type(keys)))


def _select_by_radix(keys: torch.Tensor, rank: int) -> int:
    """Do it by binning the leading bits in which the keys differ, on any device."""
    least, largest = (int(bound) for bound in keys.aminmax())
    while least < largest:
        digits = (keys - least) >> max((largest - least).bit_length() - _RADIX_BITS, 0)
        ends = torch.bincount(digits).cumsum(0).cpu()
        digit = int(torch.searchsorted(ends, rank, right=True))
        rank -= int(ends[digit - 1]) if digit else 0
        keys = keys[digits == digit]
        least, largest = (int(bound) for bound in keys.aminmax())
    return least


def _value_type(keys: torch.Tensor) -> torch.dtype:
    return torch.float64 if keys.dtype == torch.int64 else torch.float32
