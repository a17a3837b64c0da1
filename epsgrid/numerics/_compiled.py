"""The counting of `tables`, compiled: one call counts any number of tensors where they lie in memory.

The bits of an entry become the index of a counter by one addition and one shift (see `histogram` for the bins). Two
things make the loop fast:

* neighbours are counted in four tables in turn, so that no increment waits for the one just before;
* no entry is tested. A sign makes its index one of an upper half of the tables, which is not read; infinity is among
  the largest float32s; NaN has bins of its own. When the counts of a tensor do not add up to its number of entries, or
  its last bin is not empty, a second reading counts exactly what else there was.

Importing this file imports numba and compiles, some seconds; the result is cached. All compiled code stands in this
file, because numba only notices changes of the file of the function that is called.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba.extending
import numpy as np
from numba.core import cgutils

FLOAT32, BFLOAT16 = range(2)
PRIVATE_TABLES = 4

BLOCK = 64
_APART = 17
"""How much longer a private table is than its number of counters; at least 1.

Where the same counter of two tables lies a multiple of 4096 bytes apart, or next to that, a processor takes an
increment of the one for an increment of the other, and waits: a fifth of all time where entries are alike.
"""
_ALONE = 4096
"""Fewer entries are counted in one table: adding up and clearing four takes as long as the waiting at worst."""

_nb: Any = numba
"""numba types the compiled code, and knows more types than Python does."""

if _nb.config.DISABLE_JIT:
    raise ImportError("NUMBA_DISABLE_JIT is set")

_F = TypeVar("_F", bound=Callable[..., Any])

_u4, _u8 = np.uint32, np.uint64
"""Numba counts an index that might be negative from the end, at the price of a comparison: all of ours are unsigned."""


def row_width(mantissa_bits: int) -> int:
    """Return the length of a row, in whole blocks: zeros, bins, infinities, NaN."""
    return -(-((255 << mantissa_bits) + 3) // BLOCK) * BLOCK


def private_width(mantissa_bits: int) -> int:
    """Return the length of a private table: the leading bits of every float32, signs included."""
    return (1 << (mantissa_bits + 9)) + _APART


def _inner(function: _F) -> _F:
    """Compile for compiled callers only, without the wrappers that Python would call."""
    return cast(_F, _nb.njit(no_cpython_wrapper=True, no_cfunc_wrapper=True)(function))


def _take_for_pointer(_context: Any, _address: Any) -> Any:
    """Return the types and the instruction with which numba takes an address for a pointer."""

    def generate(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return _nb.types.voidptr(_nb.types.int64), generate


_pointer: Any = _nb.extending.intrinsic(_take_for_pointer)


@_inner
def _tally(source: Any, up: Any, mantissa_bits: Any, a: Any, b: Any, c: Any, d: Any) -> None:
    """Count each entry in one of four tables, which may be one; `up` bits make an entry's bits those of a float32.

    The index ⌈bits / 2^s⌉ is the bin; with a sign it is 2^(m + 8) more, or that very number.
    """
    up, shift = _u8(up), _u8(23 - mantissa_bits)
    ceiling = (_u8(1) << shift) - _u8(1)
    quads = _u8(source.size // 4)
    for quad in range(quads):
        i = quad * _u8(4)
        a[((_u8(source[i]) << up) + ceiling) >> shift] += 1
        b[((_u8(source[i + _u8(1)]) << up) + ceiling) >> shift] += 1
        c[((_u8(source[i + _u8(2)]) << up) + ceiling) >> shift] += 1
        d[((_u8(source[i + _u8(3)]) << up) + ceiling) >> shift] += 1
    for rest in range(quads * _u8(4), _u8(source.size)):
        a[((_u8(source[rest]) << up) + ceiling) >> shift] += 1


@_inner
def _move(private: Any, tables: Any, row: Any, sums: Any) -> Any:
    """Move the counts of the first one or all four private tables to a row; return how many were counted."""
    a, b, c, d = private[0], private[1], private[2], private[3]
    moved = np.int64(0)
    for block in range(_u8(sums.size)):
        start = block * _u8(BLOCK)
        total = _u4(0)
        for i in range(start, start + _u8(BLOCK)):
            count = _u4(a[i])
            a[i] = 0
            if tables > 1:
                count = _u4(count + _u4(_u4(b[i]) + _u4(_u4(c[i]) + _u4(d[i]))))
                b[i] = c[i] = d[i] = 0
            row[i] = count
            total = _u4(total + count)
        sums[block] = total
        moved += np.int64(total)
    return moved


@_inner
def _look_again(address: Any, entries: Any, kind: Any, row: Any, bins: Any) -> Any:
    """Correct the counts that `_tally` mixes up; return the index of the first entry below zero, or -1.

    −0.0 is a zero, and a NaN with its sign set is a NaN.
    """
    singles = _nb.carray(_pointer(address), (entries,), np.uint32)
    halves = _nb.carray(_pointer(address), (entries,), np.uint16)
    sign, infinity = _u8(1 << 31), _u8(0x7F80 << 16)
    row[bins:] = 0
    negative = -1
    for i in range(entries):
        bits = _u8(singles[i]) if kind == FLOAT32 else _u8(halves[i]) << _u8(16)
        magnitude = bits & (sign - _u8(1))
        if magnitude > infinity:
            row[bins + 1] += 1
        elif bits == sign:
            row[0] += 1
        elif bits > sign:
            negative = i if negative < 0 else negative
        elif bits == infinity:
            row[bins] += 1
    row[bins - 1] -= row[bins]
    return negative


@_inner
def _count_tensor(address: Any, entries: Any, kind: Any, mantissa_bits: Any, private: Any, row: Any, sums: Any) -> Any:
    """Fill a row as `count_tensors` documents; return the index of the first negative entry, or -1."""
    bins = (255 << mantissa_bits) + 1
    tables = 1 if entries < _ALONE else PRIVATE_TABLES
    a = b = c = d = private[0]
    if tables > 1:
        b, c, d = private[1], private[2], private[3]
    if kind == FLOAT32:
        _tally(_nb.carray(_pointer(address), (entries,), np.uint32), 0, mantissa_bits, a, b, c, d)
    else:
        _tally(_nb.carray(_pointer(address), (entries,), np.uint16), 16, mantissa_bits, a, b, c, d)
    unclear = _move(private, tables, row, sums) != entries
    for slot in range(_u8(bins - 1), _u8(row.size)):
        unclear |= row[slot] != 0
    if not unclear:
        return -1
    negative = _look_again(address, entries, kind, row, bins)
    for block in range(_u8(sums.size)):
        sums[block] = 0
        for i in range(block * _u8(BLOCK), (block + _u8(1)) * _u8(BLOCK)):
            sums[block] += row[i]
    return negative


@_inner
def _locate(row: Any, sums: Any, rank: Any) -> Any:
    """Return the bin of the entry at a rank among the finite non-zero ones."""
    rank += row[0]  # the zeros, which the sums contain
    block = _u8(0)
    while rank >= sums[block]:
        rank -= sums[block]
        block += _u8(1)
    slot = block * _u8(BLOCK)
    while rank >= row[slot]:
        rank -= row[slot]
        slot += _u8(1)
    return slot


def _count_tensors(
    tensors: Any, mantissa_bits: Any, private: Any, rows: Any, sums: Any, fractions: Any, quantiles: Any, totals: Any
) -> Any:
    """Count tensors' entries; a row holds zeros, bins, infinities and NaN.

    Args:
        tensors: int64 (L, 3): address, number of entries (below 2³¹), and type of each.
        mantissa_bits: m, 0 to 10.
        private: int32 (4, `private_width`), zeros at first, and left so as far as a row goes.
        rows: int32 (L, `row_width`), overwritten.
        sums: int64 (`row_width` / `BLOCK`,), overwritten.
        fractions: float64 (Q,).
        quantiles: int32 (L, Q), overwritten with the bin of the entry at each fraction of the finite non-zero ones in
            rising order; -1 without any.
        totals: int64 (L, 3), overwritten with the numbers of zeros, of finite other entries, of NaN and infinities.

    Returns:
        The first tensor with a negative entry, after which none is counted, and the index of that entry in memory; -1
        for both without any.
    """
    bins = (255 << mantissa_bits) + 1
    for layer in range(len(tensors)):
        address, entries, kind = tensors[layer, 0], tensors[layer, 1], tensors[layer, 2]
        row = rows[layer]
        negative = _count_tensor(address, entries, kind, mantissa_bits, private, row, sums)
        if negative >= 0:
            return layer, negative
        counted = sums.sum()  # the number of entries, unless the tensor was written to while it was counted
        totals[layer, 0], totals[layer, 2] = row[0], row[bins] + row[bins + 1]
        totals[layer, 1] = n = counted - totals[layer, 0] - totals[layer, 2]
        for i in range(fractions.size):
            rank = min(np.int64(fractions[i] * n), n - 1)
            quantiles[layer, i] = _locate(row, sums, rank) if n else -1
    return -1, -1


def _compile(signature: str, function: _F) -> _F:
    """Compile, or read the compiled code; where it cannot be kept or read, compile for this process alone."""
    try:
        return cast(_F, _nb.njit(signature, nogil=True, cache=True)(function))
    except Exception:  # no folder to write, a full disk, a damaged file
        return cast(_F, _nb.njit(signature, nogil=True)(function))


count_tensors = _compile(
    "UniTuple(int64, 2)(int64[:, ::1], int64, int32[:, ::1], int32[:, ::1], int64[::1], float64[::1], int32[:, ::1],"
    " int64[:, ::1])",
    _count_tensors,
)
