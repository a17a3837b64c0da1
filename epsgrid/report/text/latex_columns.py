"""How the columns of a LaTeX table share the width of a page, so that none runs out of it.

A table that fits keeps the columns LaTeX gives it. A wider one is set smaller, and if that is not enough its columns
take shares of the line, in which long cells are broken at spaces and hyphens; no package is needed for that. Widths are
estimated from the number of characters: they need only be right enough to choose by. Long tables are cut into parts
that fit on a page.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from epsgrid.report.table import Table

_LINE_PT = 345.0
"""Width of the text in LaTeX's `article` at 10 pt, the narrowest page that a table in full width is set on."""
_PAGE_LINES = 50
"""Lines of a table that fit on a page, below a caption of a few lines."""
_BREAK = re.compile(r"(?<=-)(?=\w)| (?![±%])(?<!± )")
"""Where a cell may be broken: not about the ± of a score or before its unit."""


@dataclass(frozen=True)
class Layout:
    """How a table is set.

    Attributes:
        size: the command for the size of its type.
        gap_pt: half the distance between columns.
        shares: of the line without the gaps, one for each column; empty where columns are as wide as what is in them.
    """

    size: str
    gap_pt: float
    shares: tuple[float, ...] = ()


@dataclass(frozen=True)
class _Size:
    command: str
    digit_pt: float
    gap_pt: float

    def room(self, columns: int) -> float:
        """Return how many characters a line holds beside the gaps."""
        return (_LINE_PT - 2 * self.gap_pt * columns) / self.digit_pt


_SIZES = (_Size(r"\small", 4.6, 6.0), _Size(r"\footnotesize", 4.25, 4.0), _Size(r"\scriptsize", 4.0, 3.0))


def layout(table: Table) -> Layout:
    """Return how to set a table: as large as it fits, and in shares of the line where it fits in no size."""
    columns = list(zip(table.columns, *table.rows, strict=True))
    widths = [max(map(_width, cells)) for cells in columns]
    for size in _SIZES[:-1]:
        if sum(widths) <= size.room(len(columns)):
            return Layout(size.command, size.gap_pt)
    size = _SIZES[-1]
    least = [1 + max(_width(part) for cell in cells for part in _BREAK.split(cell)) for cells in columns]
    shared = _shared(widths, least, size.room(len(columns)))
    return Layout(size.command, size.gap_pt, tuple(width / sum(shared) for width in shared))


def _width(text: str) -> int:
    """Return about how many digits wide a text is: an m is two, and a power of ten takes one more than its `1e-8`."""
    return len(text) + text.count("m") + text.count("e-")


def _shared(widths: Sequence[int], least: Sequence[int], room: float) -> list[int]:
    """Cut the widest columns down to one width, as far as their words allow, until all fit."""
    shared = list(widths)
    for most in range(max(widths), 0, -1):
        shared = [max(short, min(width, most)) for short, width in zip(least, widths, strict=True)]
        if sum(shared) <= room:
            break
    return shared


def pages(table: Table, how: Layout) -> Iterator[tuple[tuple[str, ...], ...]]:
    """Yield the rows of a table in parts that fit on a page each."""
    part: list[tuple[str, ...]] = []
    lines = 0
    for row in table.rows:
        needed = _lines(row, how)
        if part and lines + needed > _PAGE_LINES:
            yield tuple(part)
            part, lines = [], 0
        part.append(row)
        lines += needed
    yield tuple(part)


def _lines(row: Sequence[str], how: Layout) -> int:
    """Return how many lines a row takes, about."""
    if not how.shares:
        return 1
    room = _SIZES[-1].room(len(row))
    return max(math.ceil(_width(cell) / (share * room)) for cell, share in zip(row, how.shares, strict=True))
