"""Count v where it lies, and find exact order statistics without sorting: the part of the numerics that needs torch.

A float32's bits, read as an integer, sort like the number itself. So a histogram is one pass of integer operations
(see `histogram` for the bins), and the r-th smallest entry is found by looking only at the bin that holds rank r:
those few entries are binned again by their remaining bits, until one value is left. That is equal to a sort, bit for
bit, and takes time linear in the number of entries whatever their ties.

Entries are taken in the order in which they lie in memory, so a dense v of any layout is read where it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch

from epsgrid.errors import NoBoundsError
from epsgrid.numerics.histogram import FLOAT32_MANTISSA_BITS, MANTISSA_BITS, LogHistogram, bin_count
from epsgrid.numerics.magnitudes import TAIL_FRACTION, LayerStatistics, LayerStatus, high_rank, low_rank

# A chunk's temporaries stay in a CPU's second-level cache; on a GPU a chunk only bounds the memory they take.
_CPU_CHUNK = 1 << 16
_CUDA_CHUNK = 1 << 24

_MAGNITUDE_MASK = 0x7FFFFFFF
_LEAST_FLOAT32 = 2.0**-149
_LARGEST_FLOAT32 = (2 - 2.0**-23) * 2.0**127
_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)

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
    flat = _flat(v)
    bins = bin_count(mantissa_bits)
    table = torch.zeros(_slot_count(mantissa_bits), dtype=torch.int64, device=flat.device)
    for chunk in _chunks(flat):
        table += torch.bincount(_slots(chunk, mantissa_bits), minlength=table.numel())
    counts = table.cpu()
    # The last bin has received the infinities too, if any: nothing lies between them and the largest float32.
    infinite = int(torch.isinf(flat).sum()) if counts[bins - 1] else 0
    counts[bins - 1] -= infinite
    return LogHistogram(
        mantissa_bits,
        counts[:bins].numpy(),
        scale,
        nan=int(counts[bins:-2].sum()),
        infinite=infinite,
        below_range=int(counts[-2]),
        above_range=int(counts[-1]),
    )


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
    flat = _flat(v)
    located = [_locate(histogram, rank) for rank in ranks]
    members = _members(flat, histogram.mantissa_bits, {slot for slot, _ in located})
    return [_select(members[slot], rank) for slot, rank in located]


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
    status = _status(histogram)
    low = high = None
    if status is LayerStatus.MEASURED:
        n = histogram.nonzero
        ranks = (low_rank(n, tail_fraction), high_rank(n, tail_fraction))
        low, high = (math.sqrt(value * scale) for value in order_statistics(v, ranks, histogram))
    return LayerStatistics(name, tuple(v.shape), v.numel(), histogram.nonzero, low, high, histogram, status)


def _status(histogram: LogHistogram) -> LayerStatus:
    if not histogram.total:
        return LayerStatus.EMPTY
    if histogram.nonfinite:
        return LayerStatus.NON_FINITE
    return LayerStatus.MEASURED if histogram.nonzero else LayerStatus.ALL_ZERO


def _flat(v: torch.Tensor) -> torch.Tensor:
    """Return the entries as one axis in the order they lie in memory: a view of any dense tensor, else a copy."""
    if v.dtype not in _DTYPES:
        valid = ", ".join(str(dtype).removeprefix("torch.") for dtype in _DTYPES)
        raise ValueError(f"cannot count entries of type {v.dtype}; expected one of: {valid}")
    v = v.detach()
    return v.permute(sorted(range(v.dim()), key=v.stride, reverse=True)).reshape(-1)


def _chunks(flat: torch.Tensor) -> Iterator[torch.Tensor]:
    size = _CPU_CHUNK if flat.device.type == "cpu" else _CUDA_CHUNK
    for start in range(0, flat.numel(), size):
        yield flat[start : start + size]


def _slot_count(mantissa_bits: int) -> int:
    """Number of `_slots`: bins and NaN, as many as there are leading bits, then below and above float32's range."""
    return (1 << (mantissa_bits + 8)) + 3


def _slots(chunk: torch.Tensor, mantissa_bits: int) -> torch.Tensor:
    """Return each entry's slot in the table of `count`, int32: its bin, or for what has no bin a slot behind them.

    Infinities share the last bin; NaN fall behind it, for that is where their bits are.
    """
    bits = _float32_bits_rounded_up(chunk)
    slots = ((bits - 1) >> (FLOAT32_MANTISSA_BITS - mantissa_bits)) + 1  # ⌈bits / 2^s⌉ without overflow
    if chunk.dtype == torch.float64:
        last = _slot_count(mantissa_bits) - 1
        slots.masked_fill_((chunk > 0) & (chunk < _LEAST_FLOAT32), last - 1)
        slots.masked_fill_((chunk > _LARGEST_FLOAT32) & (chunk < torch.inf), last)
    return slots


def _float32_bits_rounded_up(chunk: torch.Tensor) -> torch.Tensor:
    """Return the bits of the least float32s ≥ the entries, without sign.

    Bin edges are float32s and bins are closed above, so a float64 lies in the same bin as the float32 above it.
    """
    single = chunk.to(torch.float32)
    bits = single.view(torch.int32)
    if bits.amin() < 0:
        _refuse_negative(chunk)
        bits = bits & _MAGNITUDE_MASK
    if chunk.dtype == torch.float64:
        bits = bits + (single.double() < chunk)
    return bits


def _refuse_negative(chunk: torch.Tensor) -> None:
    """Raise if an entry is below zero; −0.0 and a NaN with its sign set are not."""
    negative = chunk[chunk < 0]
    if negative.numel():
        raise ValueError(
            f"a second moment is a mean of squares, yet it has the negative entry {negative[0].item():.6g}; "
            "check which tensor the optimizer's second_moment returns"
        )


def _locate(histogram: LogHistogram, rank: int) -> tuple[int, int]:
    """Return the slot that holds a rank among the finite non-zero entries, and the rank within it."""
    group, rest = histogram.locate(rank)
    last = _slot_count(histogram.mantissa_bits) - 1
    return {0: last - 1, len(histogram.counts): last}.get(group, group), rest


def _members(flat: torch.Tensor, mantissa_bits: int, wanted: set[int]) -> dict[int, torch.Tensor]:
    """Return the entries in each of a few slots, as integers that sort like them."""
    found: dict[int, list[torch.Tensor]] = {slot: [] for slot in wanted}
    for chunk in _chunks(flat):
        keys, slots = _keys(chunk), _slots(chunk, mantissa_bits)
        for slot in wanted:
            found[slot].append(_where_equal(keys, slots, slot))
    return {slot: torch.cat(pieces) for slot, pieces in found.items()}


def _keys(values: torch.Tensor) -> torch.Tensor:
    """Return integers that sort like values ≥ 0; without a copy of float32 and float64."""
    return values.view(torch.int64) if values.dtype == torch.float64 else values.to(torch.float32).view(torch.int32)


def _where_equal(keys: torch.Tensor, slots: torch.Tensor, slot: int) -> torch.Tensor:
    """Return the keys in a slot; on a CPU by numpy, whose comparison and selection take a seventh of torch's time."""
    if keys.device.type == "cpu":
        return torch.from_numpy(keys.numpy()[slots.numpy() == slot])
    return keys[slots == slot]


def _select(keys: torch.Tensor, rank: int) -> float:
    """Return the value whose key has a rank among positive keys, by binning the leading bits in which they differ."""
    least, largest = (int(bound) for bound in keys.aminmax())
    while least < largest:
        digits = (keys - least) >> max((largest - least).bit_length() - _RADIX_BITS, 0)
        ends = torch.bincount(digits).cumsum(0).cpu()
        digit = int(torch.searchsorted(ends, rank, right=True))
        rank -= int(ends[digit - 1]) if digit else 0
        keys = keys[digits == digit]
        least, largest = (int(bound) for bound in keys.aminmax())
    return float(torch.tensor(least, dtype=keys.dtype).view(_value_type(keys)))


def _value_type(keys: torch.Tensor) -> torch.dtype:
    return torch.float64 if keys.dtype == torch.int64 else torch.float32
