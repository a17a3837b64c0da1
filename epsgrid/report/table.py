"""A table of text, as the command line draws it with Rich or plainly and the page in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_NAMES_IN_A_CELL = 3


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        title: what it shows.
        columns: their titles.
        rows: a text for each column; without rows there are only the points.
        note: what to read below it; None where there is nothing to say.
        points: what to read above it, a sentence each.
        texts: number of columns, from the first, that are words; the others are set like numbers.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str | None = None
    points: tuple[str, ...] = ()
    texts: int = 1


def percent(share: float) -> str:
    """Write a fraction in percent."""
    return f"{100 * share:.1f} %"


def shortened(names: Sequence[str], shown: int = _NAMES_IN_A_CELL) -> str:
    """Write the first of several names, and how many more there are.

    >>> shortened(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    hidden = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {hidden} more" if hidden > 0 else "")
