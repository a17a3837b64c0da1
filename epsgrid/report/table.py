"""A table of text, as the command line draws it with Rich or plainly and the page in Markdown."""

from __future__ import annotations

import re
from dataclasses import dataclass

from epsgrid.numerics.precision import shortened as shortened

_NUMBER = re.compile(r"[-−+]?\d[\d.,]*(?:e[-−+]?\d+)?%?(?:/\d+)?(?<!,)\Z")
_UNITS = {"%", "±", "to", "points", "s", "min", "h", "d", "×", "–"}


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        columns: their titles.
        rows: a text for each column; without rows there are only the points.
        note: what to read below it.
        points: what to read above it, a sentence each.
        texts: number of columns, from the first, that are words; the others are set like numbers.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str | None = None
    points: tuple[str, ...] = ()
    texts: int = 1

    @property
    def alignment(self) -> tuple[str, ...]:
        """The side at which each column is set: "right" where it holds nothing but numbers, else "left"."""
        are_numbers = [all(_is_number(row[column]) for row in self.rows) for column in range(len(self.columns))]
        return tuple("right" if of and place >= self.texts else "left" for place, of in enumerate(are_numbers))


def _is_number(text: str) -> bool:
    """Say whether a text is nothing but numbers and units, or nothing at all.

    >>> [_is_number(text) for text in ("1e-8", "97.41 ± 0.32 %", "1 min 30 s", "–", "3.weight", "1e-8, 1e-7")]
    [True, True, True, True, False, False]
    """
    return all(word in _UNITS or _NUMBER.match(word) for word in text.split())
