"""Add tables of counts over the ranks of a job, and find exact order statistics of entries that are spread over them.

Only tables travel, never entries. A histogram says which bin holds a rank; the entries of that bin, wherever they lie,
are binned again by their leading bits, and so on until one value is left. It is the radix refinement of
`numerics.counting`, with its tables added over the ranks: equal to a sort of all entries in one process, bit for bit.

Every function that takes a group is a collective: all its ranks call it, in the same order.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist

from epsgrid.numerics.histogram import FLOAT32_MANTISSA_BITS, MANTISSA_BITS, LogHistogram, bin_count

Group = dist.ProcessGroup | None

_APART = ("nan", "infinite", "below_range", "above_range")
_LEAST_FLOAT32 = 2.0**-149
_LARGEST_FLOAT32 = (2 - 2.0**-23) * 2.0**127
_RADIX_BITS = 11
_UNSEEN = torch.iinfo(torch.int64).max


@dataclass(frozen=True, eq=False)
class Query:
    """Which entry is wanted of a tensor that is spread over ranks.

    Attributes:
        values: the entries that this rank counts; may be none.
        wide: whether entries are float64; the same on every rank, also on those without entries.
        histogram: of the entries of all ranks, of any scale.
        rank: index into the finite non-zero entries in rising order, from 0.
    """

    values: torch.Tensor
    wide: bool
    histogram: LogHistogram
    rank: int


def order_statistics(queries: Sequence[Query], group: Group) -> list[float]:
    """Return an entry of v for each query, as a double; neither scaled nor rooted."""
    keys, ranks = [], []
    for query in queries:
        slot, rest = query.histogram.locate(query.rank)
        low, high = _keys_of_bin(slot, query.wide)
        own = _keys(query.values, query.wide)
        keys.append(own[(own > low) & (own <= high)].cpu().long())
        ranks.append(rest)
    return [_value(key, query.wide) for key, query in zip(_select(keys, ranks, group), queries, strict=True)]


def table_of(histogram: LogHistogram | None) -> torch.Tensor:
    """Return counts as int64 of shape (bins + 4,): those of the bins, then of the entries that have none.

    Tables may be added; None gives zeros.
    """
    table = np.zeros(bin_count(MANTISSA_BITS) + len(_APART), dtype=np.int64)
    if histogram is not None:
        table[: -len(_APART)] = histogram.counts
        table[-len(_APART) :] = [getattr(histogram, name) for name in _APART]
    return torch.from_numpy(table)


def summed_histogram(table: torch.Tensor, scale: float) -> LogHistogram:
    """Return the histogram of a table, or of a sum of tables, that `table_of` made."""
    counts = table.numpy()
    apart = dict(zip(_APART, counts[-len(_APART) :].tolist(), strict=True))
    return LogHistogram(MANTISSA_BITS, counts[: -len(_APART)], scale, **apart)


def all_reduced(tensor: torch.Tensor, operation: dist.ReduceOp.RedOpType, group: Group) -> torch.Tensor:
    """Return a CPU tensor reduced over the ranks, on the device that the group's backend wants, on the CPU again."""
    devices = [pair.split(":")[0] for pair in dist.get_backend_config(group).split(",")]
    there = tensor.to("cpu" if "cpu" in devices else devices[0], copy=True)
    dist.all_reduce(there, op=operation, group=group)
    return there.cpu()


def _select(keys: list[torch.Tensor], ranks: list[int], group: Group) -> list[int]:
    """Return for each list of keys, spread over the ranks of a job, the key of a rank in rising order.

    The leading bits in which a list's keys differ are binned, the counts added over the job, and only the keys of the
    digit that holds the rank are kept, until one value is left.
    """
    while keys:
        least, largest = _extent(keys, group)
        if least == largest:
            return least
        shifts = [max((high - low).bit_length() - _RADIX_BITS, 0) for low, high in zip(least, largest, strict=True)]
        digits = [(own - low) >> shift for own, low, shift in zip(keys, least, shifts, strict=True)]
        tables = torch.stack([torch.bincount(own, minlength=1 << _RADIX_BITS) for own in digits])
        ends = all_reduced(tables, dist.ReduceOp.SUM, group).cumsum(1)
        for place, rank in enumerate(ranks):
            digit = int(torch.searchsorted(ends[place], rank, right=True))
            ranks[place] -= int(ends[place, digit - 1]) if digit else 0
            keys[place] = keys[place][digits[place] == digit]
    return []


def _extent(keys: Sequence[torch.Tensor], group: Group) -> tuple[list[int], list[int]]:
    """Return the least and the largest key of each list over all ranks."""
    own = [(-int(each.min()), int(each.max())) if each.numel() else (-_UNSEEN, -1) for each in keys]
    extent = all_reduced(torch.tensor(own), dist.ReduceOp.MAX, group)
    return (-extent[:, 0]).tolist(), extent[:, 1].tolist()


def _keys(values: torch.Tensor, wide: bool) -> torch.Tensor:
    """Return integers that sort like entries ≥ 0: their bits."""
    flat = values.detach().reshape(-1)
    return flat.double().view(torch.int64) if wide else flat.float().view(torch.int32)


def _value(key: int, wide: bool) -> float:
    return float(torch.tensor(key, dtype=torch.int64 if wide else torch.int32).view(_float_type(wide)))


def _float_type(wide: bool) -> torch.dtype:
    return torch.float64 if wide else torch.float32


def _key(value: float, wide: bool) -> int:
    bits: int
    (bits,) = struct.unpack("<q", struct.pack("<d", value)) if wide else struct.unpack("<i", struct.pack("<f", value))
    return bits


def _keys_of_bin(slot: int, wide: bool) -> tuple[int, int]:
    """Return the keys of a bin as (low, high]; bins as `LogHistogram.locate` numbers them.

    Of float64, what lies below the least float32 or above the largest has places of its own, 0 and behind the last bin.
    """
    below, above = _key(math.nextafter(_LEAST_FLOAT32, 0), True), _key(_LARGEST_FLOAT32, True)
    last = bin_count(MANTISSA_BITS) - 1
    if wide and slot == 0:
        return 0, below
    if wide and slot > last:
        return above, _key(math.inf, True) - 1
    low, high = _key(_edge(slot - 1), wide), _key(_edge(slot), wide)
    return (max(low, below), min(high, above)) if wide else (low, high)


def _edge(slot: int) -> float:
    """Return the upper edge of a bin in units of v, exactly; that of the last is infinite."""
    edge: float
    (edge,) = struct.unpack("<f", struct.pack("<I", slot << (FLOAT32_MANTISSA_BITS - MANTISSA_BITS)))
    return edge
