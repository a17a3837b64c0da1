"""Where an entry is counted, in plain torch on any device: the columns of a table of counts.

The bits of a float32, taken as an integer with sign, sort as the number does where it is positive. So the column is

    ⌈(bits + 2³¹) / 2^s⌉ = ⌈bits / 2^s⌉ + 2^(m + 8)                   (see `histogram` for m, s and the bins)

which puts −0.0 in column 0, negative entries behind it, zeros in column 2^(m + 8) and the bins behind those. NaN and
infinity are first replaced by two negative numbers, and so have columns of their own: that takes four operations for an
entry, where telling it apart by comparisons would take a dozen. Two more columns are for float64s outside float32's
range.

Nothing here waits for a device, and all of it can be captured in a CUDA graph.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from epsgrid.numerics.histogram import FLOAT32_MANTISSA_BITS, bin_count

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)

# A chunk's temporaries stay in a CPU's second-level cache; elsewhere a chunk only bounds the memory they take.
CPU_CHUNK = 1 << 16
DEVICE_CHUNK = 1 << 22

_LEAST_FLOAT32 = 2.0**-149
_LARGEST_FLOAT32 = (2 - 2.0**-23) * 2.0**127
_FOR_NAN = -(2.0**127)
_FOR_INFINITY = -(2.0**126)
_NEGATIVE = -1.0


class Columns:
    """The columns of a table with m mantissa bits; negative entries, an error, have all that are not named here.

    Attributes:
        count: how many there are.
        negative_zeros: −0.0.
        zeros: 0.0; the bins follow, each at `zeros` plus its number.
        last: the last bin.
        below: float64s between 0 and the least float32.
        above: finite float64s above the largest float32.
        nan: NaN, and negative entries of about −2¹²⁷, which nobody has ever seen.
        infinite: infinity, and negative entries of about −2¹²⁶.
    """

    def __init__(self, mantissa_bits: int) -> None:
        bins = bin_count(mantissa_bits)
        self.negative_zeros = 0
        self.zeros = 1 << (mantissa_bits + 8)
        self.last = self.zeros + bins - 1
        self.below, self.above = self.last + 1, self.last + 2
        self.count = self.last + 3
        self.nan, self.infinite = columns_of(torch.tensor([torch.nan, torch.inf]), mantissa_bits).tolist()


def check_type(v: torch.Tensor) -> None:
    """Raise ValueError unless entries of this type can be counted."""
    if v.dtype not in DTYPES:
        valid = ", ".join(str(dtype).removeprefix("torch.") for dtype in DTYPES)
        raise ValueError(f"cannot count entries of type {v.dtype}; expected one of: {valid}")


def flat(v: torch.Tensor) -> torch.Tensor:
    """Return the entries side by side in the order they lie in memory: a view of any dense tensor, else a copy.

    Raises:
        ValueError: entries of this type cannot be counted.
    """
    check_type(v)
    v = v.detach()
    return v.permute(sorted(range(v.dim()), key=v.stride, reverse=True)).reshape(-1).contiguous()


def chunk_size(device: torch.device) -> int:
    """Return how many entries to handle at a time."""
    return CPU_CHUNK if device.type == "cpu" else DEVICE_CHUNK


def chunks(entries: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield what `flat` returned piece by piece."""
    size = chunk_size(entries.device)
    for start in range(0, entries.numel(), size):
        yield entries[start : start + size]


def columns_of(entries: torch.Tensor, mantissa_bits: int) -> torch.Tensor:
    """Return the column of every entry, int64."""
    finite = entries.to(torch.promote_types(entries.dtype, torch.float32)).nan_to_num(
        _FOR_NAN, _FOR_INFINITY, _NEGATIVE
    )
    if finite.dtype == torch.float64:
        return _columns_of_float64(finite, entries, mantissa_bits)
    return _leading(finite.view(torch.int32).long(), mantissa_bits)


def _leading(bits: torch.Tensor, mantissa_bits: int) -> torch.Tensor:
    """Turn bits, in place, into ⌈(bits + 2³¹) / 2^s⌉."""
    shift = FLOAT32_MANTISSA_BITS - mantissa_bits
    return bits.add_((1 << 31) + (1 << shift) - 1).bitwise_right_shift_(shift)


def _columns_of_float64(finite: torch.Tensor, entries: torch.Tensor, mantissa_bits: int) -> torch.Tensor:
    """Do the same with the least float32s ≥ the entries: bin edges are float32s, and bins are closed above."""
    single = finite.to(torch.float32)
    found = _leading(single.view(torch.int32) + (single.double() < finite).long(), mantissa_bits)
    last = (1 << (mantissa_bits + 8)) + bin_count(mantissa_bits) - 1
    found.masked_fill_((entries > 0) & (entries < _LEAST_FLOAT32), last + 1)
    found.masked_fill_((entries > _LARGEST_FLOAT32) & (entries < torch.inf), last + 2)
    return found.masked_fill_(entries < 0, 1)  # a small one would have become −0.0
