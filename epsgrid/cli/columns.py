"""Plain text columns, for lists that are the same in a terminal and in a pipe."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence


def columns(rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the rows as lines, with every column but the last as wide as its widest cell.

    >>> columns([("a", "1"), ("√v̂", "2")])
    ['a   1', '√v̂  2']
    """
    cells = [tuple(row) for row in rows]
    widths = [max(map(_width, column)) for column in zip(*cells, strict=True)][:-1]
    return ["  ".join([*map(_padded, row[:-1], widths), row[-1]]) for row in cells]


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _width(text))


def _width(text: str) -> int:
    """Return the places a text takes: a combining mark, as in v̂, takes none."""
    return sum(not unicodedata.combining(character) for character in text)
