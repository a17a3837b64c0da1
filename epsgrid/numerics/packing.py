"""Percentiles and histograms as short JSON that reads back exactly.

Hundreds of snapshots of dozens of layers are stored, so each layer is a bare list, what its parts share is said once,
and a percentile is the number of its bin: it is that bin's midpoint, so nothing is lost.
"""

from __future__ import annotations

import functools
import math
import struct
from typing import Any

from epsgrid.numerics.histogram import FLOAT32_MANTISSA_BITS, MANTISSA_BITS, VERSION, LogHistogram, bin_count

_SHIFT = FLOAT32_MANTISSA_BITS - MANTISSA_BITS
_LARGEST_FLOAT32 = (2 - 2.0**-23) * 2.0**127
_APART = ("nan", "infinite", "below_range", "above_range")


def pack_quantile(quantile: float, scale: float) -> int | float:
    """Return the bin whose midpoint a percentile is, or the percentile itself where it is none."""
    v = quantile**2 / scale
    if v > _LARGEST_FLOAT32:
        return quantile
    (bits,) = struct.unpack("<I", struct.pack("<f", v))
    bin_ = (bits + (1 << _SHIFT) - 1) >> _SHIFT
    return bin_ if bin_ and _midpoint(bin_, scale) == quantile else quantile


def unpack_quantile(value: Any, scale: float) -> float:
    """Return the percentile that `pack_quantile` packed; raises ValueError where there is no such bin."""
    if isinstance(value, float):
        return value
    if not 1 <= whole(value) < bin_count(MANTISSA_BITS):
        raise ValueError(f"bin {value} does not exist at {MANTISSA_BITS} mantissa bits")
    return _midpoint(value, scale)


def _midpoint(bin_: int, scale: float) -> float:
    """Return the magnitude that stands for a bin's entries, to the last bit that of `LogHistogram.quantile`."""
    return (math.sqrt(_edge(bin_) * scale) + math.sqrt(_edge(bin_ - 1) * scale)) / 2


@functools.cache
def _edge(bin_: int) -> float:
    """Return the upper edge of a bin at m = 5, in units of v."""
    if bin_ == bin_count(MANTISSA_BITS) - 1:
        return 2.0**128
    (edge,) = struct.unpack("<f", struct.pack("<I", bin_ << _SHIFT))
    return float(edge)


def pack_histogram(histogram: LogHistogram) -> list[Any]:
    """Return `[mantissa bits, four counts of what has no bin, runs]`; what all share is left out."""
    document = histogram.to_json()
    return [document["mantissa_bits"], *(document[name] for name in _APART), document["runs"]]


def unpack_histogram(document: Any, scale: float) -> LogHistogram:
    """Return the histogram that `pack_histogram` packed; raises as `LogHistogram.from_json`, or for another shape."""
    mantissa_bits, *apart, runs = document
    fields = {"version": VERSION, "mantissa_bits": mantissa_bits, "scale": scale, "runs": runs}
    return LogHistogram.from_json({**fields, **dict(zip(_APART, apart, strict=True))})


def whole(value: Any) -> int:
    """Return a JSON value that is a count; raises ValueError where it is none."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"expected a count, got {value!r}")
    return value


def number(value: Any) -> float:
    """Return a JSON value that is a number; raises ValueError where it is none."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError(f"expected a number, got {value!r}")
    return float(value)
