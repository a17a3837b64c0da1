"""Add tables of counts over the ranks of a job, and find exact order statistics of entries that are spread over them.

Only tables travel, never entries. A histogram says which bin holds a rank; the entries of that bin, wherever they lie,
are binned again by their leading bits, and so on until one value is left. It is the radix refinement of
`numerics.counting`, with its tables added over the ranks: equal to a sort of all entries in one process, bit for bit.

Every function that takes a group is a collective: all its ranks call it, in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist

from epsgrid.numerics.histogram import MANTISSA_BITS, LogHistogram, bin_count, key_range

Group = dist.ProcessGroup | None

_APART = ("nan", "infinite", "below_range", "above_range")
_RADIX_BITS = 11
_UNSEEN = torch.iinfo(torch.int64).max


@dataclass(frozen=True, eq=False)
class Query:
    """Asks for one entry of a tensor that is spread over ranks.

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
        low, high = key_range(slot, MANTISSA_BITS, wide=query.wide)
        entries = query.values.detach().reshape(-1)
        # The bits of entries ≥ 0, read as integers, sort as the entries do.
        own = entries.double().view(torch.int64) if query.wide else entries.float().view(torch.int32)
        keys.append(own[(own > low) & (own <= high)].cpu().long())
        ranks.append(rest)
    found = zip(_select(keys, ranks, group), queries, strict=True)
    return [
        float(np.int64(key).view(np.float64) if query.wide else np.int32(key).view(np.float32)) for key, query in found
    ]


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
    """Return a CPU tensor reduced over the ranks, on the device that the group's backend needs, on the CPU again."""
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
        own = [(-int(each.min()), int(each.max())) if each.numel() else (-_UNSEEN, -1) for each in keys]
        extent = all_reduced(torch.tensor(own), dist.ReduceOp.MAX, group)
        least, largest = (-extent[:, 0]).tolist(), extent[:, 1].tolist()
        if least == largest:
            return [int(key) for key in least]
        shifts = [max((high - low).bit_length() - _RADIX_BITS, 0) for low, high in zip(least, largest, strict=True)]
        digits = [(each - low) >> shift for each, low, shift in zip(keys, least, shifts, strict=True)]
        tables = torch.stack([torch.bincount(each, minlength=1 << _RADIX_BITS) for each in digits])
        ends = all_reduced(tables, dist.ReduceOp.SUM, group).cumsum(1)
        for place, rank in enumerate(ranks):
            digit = int(torch.searchsorted(ends[place], rank, right=True))
            ranks[place] -= int(ends[place, digit - 1]) if digit else 0
            keys[place] = keys[place][digits[place] == digit]
    return []
