"""Count v where it lies, and find exact order statistics without sorting.

A float32's bits, read as an integer, sort like the number itself. So a histogram is one pass of integer operations
(see `histogram` for the bins), and the r-th smallest entry is found by partitioning only the entries of the bin that
holds rank r. That is equal to a sort, bit for bit. A dense v of any layout is read where it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from epsgrid.errors import NoBoundsError
from epsgrid.numerics.histogram import LogHistogram, key_range
from epsgrid.numerics.magnitudes import TAIL_FRACTION, LayerStatistics, LayerStatus, high_rank, low_rank
from epsgrid.numerics.tables import Counter, chunks, flat


def count(v: torch.Tensor, scale: float = 1.0) -> LogHistogram:
    """Count the entries of a second moment over the log-spaced bins of `LogHistogram`, with v̂ = v · scale, scale > 0.

    Entries are ≥ 0, of type float32, bfloat16, float16 or float64, of any shape, layout and device; −0.0 is a zero, NaN
    and infinity are counted apart. Raises ValueError where one is negative, or type or scale is another one.
    """
    return Counter(()).count([v]).histogram(0, scale)


def order_statistics(v: torch.Tensor, ranks: Sequence[int], histogram: LogHistogram | None = None) -> list[float]:
    """Return exact order statistics of the finite non-zero entries of v, as a sort would; neither scaled nor rooted.

    `ranks` are indices into those entries in rising order, from 0; `histogram` is `count(v)`, to spare counting again.
    Raises ValueError where a rank does not exist, or as `count`.
    """
    histogram = count(v) if histogram is None else histogram
    for rank in ranks:
        if not 0 <= rank < histogram.nonzero:
            raise ValueError(f"rank {rank} does not exist among {histogram.nonzero} finite non-zero entries")
    located = [histogram.locate(rank) for rank in ranks]
    members = _members(v, histogram, {slot for slot, _ in located})
    keys = [np.partition(members[slot], rank)[rank] for slot, rank in located]
    return [float(key.view(np.float64 if v.dtype == torch.float64 else np.float32)) for key in keys]


def measure(name: str, v: torch.Tensor, scale: float = 1.0, tail_fraction: float = TAIL_FRACTION) -> LayerStatistics:
    """Measure one layer for the bounds: its histogram and its two exact order statistics.

    `v` and `scale` are as in `count`; `tail_fraction`, in (0, 0.5), is the share of the non-zero entries beyond each
    order statistic. Raises NoBoundsError where v cannot be a second moment.
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


def _members(v: torch.Tensor, histogram: LogHistogram, wanted: set[int]) -> dict[int, npt.NDArray[Any]]:
    """Return the entries in each of a few slots of `LogHistogram.locate`, as integers that sort like them."""
    wide = v.dtype == torch.float64
    ranges = {slot: key_range(slot, histogram.mantissa_bits, wide=wide) for slot in wanted}
    pieces: dict[int, list[npt.NDArray[Any]]] = {slot: [] for slot in wanted}
    for chunk in chunks(flat(v)):
        keys = chunk.view(torch.int64) if wide else chunk.to(torch.float32).view(torch.int32)
        for slot, (low, high) in ranges.items():
            if keys.is_cpu:  # numpy does one unsigned comparison for both ends, in a quarter of torch's time
                unsigned = keys.numpy().view(np.uint64 if wide else np.uint32)
                first, count = unsigned.dtype.type(low + 1), unsigned.dtype.type(high - low)
                pieces[slot].append(keys.numpy()[np.less(np.subtract(unsigned, first), count)])
            else:
                pieces[slot].append(keys[(keys > low) & (keys <= high)].cpu().numpy())
    members = {slot: np.concatenate(of_slot) for slot, of_slot in pieces.items()}
    for slot, found in members.items():
        if len(found) != (expected := int(histogram.nonzero_counts[slot])):
            here = f"bin {slot} has {len(found)} entries and {expected} by the histogram"
            raise ValueError(f"{here}: it is not that of this tensor")
    return members
