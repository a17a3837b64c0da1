"""Counts of √v̂ over log-spaced bins: small, exact to count, exact to add.

A positive float32, read as an integer, is roughly its own logarithm: the exponent, then the mantissa. Keeping the m
leading mantissa bits therefore gives log-spaced bins without a logarithm. v is counted, not its root: √ is monotone,
so the edges are rooted instead of the entries.

Bins are closed above. With s = 23 − m, an entry with the bits i falls in bin ⌈i / 2^s⌉, so that bin 0 holds exactly
the zeros and bin k ≥ 1 holds the entries with (k − 1)·2^s < i ≤ k·2^s. Within an octave bins are equally wide, so at
m = 5 the midpoint of a bin is off by at most 1/128 < 0.8 % in √v̂, for all v ≥ 2⁻¹²⁶; below, among the denormals, bins
are equally wide in v and the relative error grows.

bfloat16 and float16 are contained in float32; float64s outside its range are counted apart.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from epsgrid.errors import CorruptRecordError, StoreError
from epsgrid.numerics import notebook
from epsgrid.numerics.precision import power

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MANTISSA_BITS = 5
_MAX_MANTISSA_BITS = 10
FLOAT32_MANTISSA_BITS = 23
LEAST_FLOAT32 = 2.0**-149
VERSION = 1

_BINS_PER_DECADE = 10
HIDDEN_TAIL = 0.001
"""Share of the smallest entries that a picture may hide at its left: a few denormals would stretch it by decades."""

_APART = ("nan", "infinite", "below_range", "above_range")


def bin_count(mantissa_bits: int) -> int:
    """Return the number of bins, 8161 at m = 5: zeros, then 2^m bins for each of float32's 255 finite exponents.

    Raises ValueError where m is not one of 0 to 10.
    """
    if mantissa_bits not in range(_MAX_MANTISSA_BITS + 1):
        raise ValueError(f"mantissa_bits must lie in 0..{_MAX_MANTISSA_BITS}, got {mantissa_bits!r}")
    return (255 << mantissa_bits) + 1


@functools.cache
def _bin_edges(mantissa_bits: int) -> npt.NDArray[np.float64]:
    """Return the upper edges of all bins in units of v, rising from 0, shape (255·2^m + 1,), read-only.

    They are the float32s whose bits are multiples of 2^s, and 2¹²⁸ for the last.
    """
    bits = np.arange(bin_count(mantissa_bits), dtype=np.int64) << (FLOAT32_MANTISSA_BITS - mantissa_bits)
    edges = bits.astype(np.uint32).view(np.float32).astype(np.float64)
    edges[-1] = 2.0**128
    edges.setflags(write=False)
    return edges


def key_range(slot: int, mantissa_bits: int, *, wide: bool) -> tuple[int, int]:
    """Return the bits, read as integers, of the entries in a slot, as (low, high]: they sort as the entries do.

    Slot 0 has the entries below float32's range and `bin_count` those above it; `wide` asks for the bits of float64s.
    """
    edges, largest = _bin_edges(mantissa_bits), float(np.finfo(np.float32).max)
    below = math.nextafter(LEAST_FLOAT32, 0) if wide else 0.0
    if slot == 0:
        low, high = 0.0, below
    elif slot == len(edges):
        low, high = largest, float(np.finfo(np.float64).max) if wide else largest
    else:
        low, high = max(float(edges[slot - 1]), below), min(float(edges[slot]), largest)
    floats, integers = (np.float64, np.int64) if wide else (np.float32, np.int32)
    first, last = np.array([low, high], dtype=floats).view(integers).tolist()
    return first, last


def magnitudes_of(
    slots: npt.NDArray[np.integer[Any]], scale: npt.ArrayLike = 1.0, mantissa_bits: int = MANTISSA_BITS
) -> npt.NDArray[np.float64]:
    """Return the magnitudes that stand for slots, in √v̂ units: the same numbers as `LogHistogram.quantile`.

    Slots are bins from 1 on (their midpoints), 0 and `bin_count` for entries below and above float32's range (its
    ends), -1 for none (NaN). `scale`, with v̂ = v · scale, is a number or broadcasts against `slots`, such as (L, 1).
    """
    edges, last = _bin_edges(mantissa_bits), bin_count(mantissa_bits) - 1
    scale = np.asarray(scale, dtype=np.float64)
    upper, lower = (np.sqrt(edges[np.clip(slots - down, 0, last)] * scale) for down in (0, 1))
    found = np.where(slots > last, upper, (upper + lower) / 2)
    return np.where(slots < 0, np.nan, np.where(slots == 0, np.sqrt(LEAST_FLOAT32 * scale), found))


def bins_of(magnitudes: npt.NDArray[np.float64], scale: float) -> npt.NDArray[np.int64]:
    """Return the bins at m = 5 whose midpoints some positive magnitudes of √v̂ are; 0 for those that are no midpoint."""
    shift = FLOAT32_MANTISSA_BITS - MANTISSA_BITS
    with np.errstate(over="ignore", under="ignore"):
        bits = (magnitudes**2 / scale).astype(np.float32).view(np.uint32).astype(np.int64)
    bins = (bits + (1 << shift) - 1) >> shift
    is_midpoint = (bins > 0) & (bins < bin_count(MANTISSA_BITS)) & (magnitudes_of(bins, scale) == magnitudes)
    return np.where(is_midpoint, bins, 0)


@dataclass(frozen=True, eq=False)
class LogHistogram:
    """Counts of a tensor's entries over log-spaced bins; every entry is counted exactly once.

    Attributes:
        mantissa_bits: m, mantissa bits that a bin keeps, 0 to 10.
        counts: int64, read-only, shape (255·2^m + 1,): zeros first, then the finite entries within float32's range.
        scale: v̂ = v · scale, > 0; the bias correction, which is one number per step.
        nan, infinite: entries that are.
        below_range, above_range: float64 entries above 0 and below the least float32, and above the largest.
    """

    mantissa_bits: int
    counts: npt.NDArray[np.int64]
    scale: float = 1.0
    nan: int = 0
    infinite: int = 0
    below_range: int = 0
    above_range: int = 0

    def __post_init__(self) -> None:
        bins = bin_count(self.mantissa_bits)
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"scale must be positive and finite, got {self.scale!r}")
        counts = np.array(self.counts, dtype=np.int64)
        if counts.shape != (bins,) or min(counts.min(), *(getattr(self, name) for name in _APART)) < 0:
            raise ValueError(f"counts must be {bins} numbers ≥ 0 at mantissa_bits={self.mantissa_bits}")
        counts.setflags(write=False)
        object.__setattr__(self, "counts", counts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LogHistogram) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash((self.scale, self.counts.tobytes()))

    @property
    def zeros(self) -> int:
        """Number of entries that are exactly zero."""
        return int(self.counts[0])

    @property
    def nonfinite(self) -> int:
        """Number of entries that are NaN or infinite."""
        return self.nan + self.infinite

    @property
    def nonzero(self) -> int:
        """Number of finite entries other than zero."""
        return int(self.nonzero_counts.sum())

    @property
    def finite(self) -> int:
        """Number of finite entries, zeros included."""
        return self.zeros + self.nonzero

    @property
    def total(self) -> int:
        """Number of entries of all kinds."""
        return self.finite + self.nonfinite

    @property
    def median(self) -> float | None:
        """The entry in the middle of the finite non-zero ones, in √v̂ units; None without any."""
        return self.quantile(0.5)

    @functools.cached_property
    def nonzero_counts(self) -> npt.NDArray[np.int64]:
        """Counts of the finite non-zero entries by slot: below float32's range, bins 1 to the last, above the range."""
        return np.concatenate([[self.below_range], self.counts[1:], [self.above_range]])

    def moving(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """Return the magnitudes of the finite entries above zero, rising, in √v̂ units, and how many have each."""
        counts = self.nonzero_counts
        slots = np.flatnonzero(counts)
        return magnitudes_of(slots, self.scale, self.mantissa_bits), counts[slots]

    def edges(self) -> npt.NDArray[np.float64]:
        """Return the bin edges in √v̂ units, (255·2^m + 1,): bin k lies above `edges()[k - 1]`, up to `edges()[k]`."""
        return np.sqrt(_bin_edges(self.mantissa_bits) * self.scale)

    def quantile(self, fraction: float) -> float | None:
        """Return the entry at a fraction of the finite non-zero entries, rising, in √v̂ units; None without any.

        It is the one at index min(int(fraction · n), n − 1) of n, as in the published rule; its bin's midpoint stands
        for it, the end of float32's range for one outside. Raises ValueError where `fraction` lies outside [0, 1].
        """
        if not 0 <= fraction <= 1:
            raise ValueError(f"fraction must lie in [0, 1], got {fraction!r}")
        n = self.nonzero
        if not n:
            return None
        slot, _ = self.locate(min(int(fraction * n), n - 1))
        return float(magnitudes_of(np.array(slot), self.scale, self.mantissa_bits))

    def locate(self, rank: int) -> tuple[int, int]:
        """Return the slot of the entry of a rank from 0 on among the finite non-zero ones, and its rank there."""
        ends = np.cumsum(self.nonzero_counts)
        slot = int(np.searchsorted(ends, rank, side="right"))
        return slot, rank - int(ends[slot] - self.nonzero_counts[slot])

    def entries_above(self, magnitudes: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return how many finite entries have √v̂ above each of some magnitudes ≥ 0 of any shape.

        The entries of a bin are taken to be spread evenly between its edges, so the numbers are exact at bin edges and
        elsewhere off by at most the entries of the bin that holds the magnitude.
        """
        magnitudes, edges = np.asarray(magnitudes, dtype=np.float64), self.edges()
        above = self.counts.sum() - np.interp(magnitudes, edges, np.cumsum(self.counts))
        above += self.below_range * (magnitudes < math.sqrt(LEAST_FLOAT32 * self.scale))
        return np.asarray(above + self.above_range * (magnitudes < edges[-1]))

    def fold(self, mantissa_bits: int) -> LogHistogram:
        """Return the histogram over coarser bins: exactly what counting with them would have given."""
        # ⌈i / 2^(s+d)⌉ = ⌈⌈i / 2^s⌉ / 2^d⌉: the nonzero bins group by 2^d, from bin 1 on.
        grouped = self.counts[1:].reshape(-1, 1 << (self.mantissa_bits - mantissa_bits)).sum(axis=1)
        return replace(self, mantissa_bits=mantissa_bits, counts=np.concatenate([self.counts[:1], grouped]))

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the share of the non-zero entries per decade of √v̂ with matplotlib, and return the axes."""
        return notebook.plot(*density([self]), ax)

    def _repr_html_(self) -> str:
        ends = (self.quantile(fraction) for fraction in (0.02, 0.5, 0.98))
        counts = (f"{count:,}" for count in (self.total, self.zeros, self.nonfinite))
        row = (*counts, *("–" if value is None else power(value) for value in ends))
        columns = ("entries", "zero", "not finite", "√v̂ at 2 %", "at 50 %", "at 98 %")
        return notebook.table(columns, [row]) + notebook.bars(*density([self]))

    def runs(self) -> list[list[int]]:
        """Return the occupied bins in runs of neighbours: `[first bin, count, count, …]`."""
        occupied = np.flatnonzero(self.counts)
        starts = np.flatnonzero(np.diff(occupied, prepend=-2) > 1)
        return [[int(run[0]), *self.counts[run].tolist()] for run in np.split(occupied, starts) if run.size]

    @classmethod
    def from_runs(cls, mantissa_bits: int, scale: float, apart: Sequence[int], runs: Any) -> LogHistogram:
        """Return the histogram with the runs that `runs()` returned; CorruptRecordError if there is none.

        `apart` has the counts of NaN, of infinities, and of what lies below and above float32's range.
        """
        try:
            counts = np.zeros(bin_count(mantissa_bits), dtype=np.int64)
            free_from = 0
            for first, *values in runs:
                end = whole(first) + len(values)
                if not (values and free_from <= first and end <= counts.size):
                    where = f"bins {free_from}..{counts.size - 1}"
                    raise ValueError(f"run of {len(values)} counts at bin {first} does not fit {where}")
                counts[first:end] = [whole(value) for value in values]
                free_from = end
            counted = {name: whole(value) for name, value in zip(_APART, apart, strict=True)}
            return cls(mantissa_bits, counts, float(scale), **counted)
        except (TypeError, ValueError) as error:
            raise CorruptRecordError(f"damaged histogram: {error}") from error

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        apart = {name: getattr(self, name) for name in _APART}
        fields = {"version": VERSION, "mantissa_bits": self.mantissa_bits, "scale": self.scale}
        return {**fields, **apart, "runs": self.runs()}

    @classmethod
    def from_json(cls, document: Any) -> LogHistogram:
        """Return the histogram that `to_json` wrote; StoreError or CorruptRecordError if it is too new, or damaged."""
        fields = fields_of(document, "histogram", VERSION)
        if wrong := set(fields) ^ {"mantissa_bits", "scale", "runs", *_APART}:
            raise CorruptRecordError(f"histogram with wrong fields: {', '.join(sorted(wrong))}")
        apart = [fields[name] for name in _APART]
        return cls.from_runs(fields["mantissa_bits"], fields["scale"], apart, fields["runs"])


def density(histograms: Iterable[LogHistogram]) -> tuple[notebook.Numbers, notebook.Numbers]:
    """Return rising edges in √v̂ units, and the share of the non-zero entries per decade between them; empty without."""
    held = [each for each in histograms if each.nonzero]
    if not held:
        return np.zeros(0), np.zeros(0)
    first = min(math.log10(each.quantile(HIDDEN_TAIL) or 1) for each in held)
    last = max(math.log10(each.quantile(1.0) or 1) for each in held)
    first, last = math.floor(first * _BINS_PER_DECADE), math.floor(last * _BINS_PER_DECADE) + 1
    edges = 10.0 ** (np.arange(first, last + 1) / _BINS_PER_DECADE)
    above = np.sum([each.entries_above(edges) for each in held], axis=0)
    return edges, -np.diff(above) / sum(each.nonzero for each in held) * _BINS_PER_DECADE


def fields_of(document: Any, what: str, newest: int) -> dict[str, Any]:
    """Return the fields of a versioned document without its version.

    Raises StoreError where its version is above `newest`, CorruptRecordError where it has none.
    """
    version = document.get("version") if isinstance(document, Mapping) else None
    if not isinstance(version, int) or version < 1:
        raise CorruptRecordError(f"expected a {what} with a version, got {str(document)[:80]!r}")
    if version > newest:
        raise StoreError(
            f"{what} of version {version}, written by a newer epsgrid; this one reads up to version {newest}: "
            "please upgrade"
        )
    return {name: value for name, value in document.items() if name != "version"}


def whole(value: Any) -> int:
    """Return a JSON value that is a count; raises ValueError where it is none."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise ValueError(f"expected a count, got {value!r}")
    return value
