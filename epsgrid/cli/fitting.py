"""Make tables fit a terminal: drop the columns that matter least, shorten names, give sparklines what is left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from epsgrid.cli.console import out
from epsgrid.cli.sparkline import Glyphs, glyphs_for
from epsgrid.cli.tables import table

if TYPE_CHECKING:
    from rich.table import Table

TOGETHER = "all layers"
PIPE_SPARKLINE = 32
LEAST_SPARKLINE, _MOST_SPARKLINE = 20, 56
_LEAST_NAME = 12
_STAYS = 9
_GAP = 3
"""Characters between two columns in a terminal."""


@dataclass(frozen=True)
class Column:
    """A column of a table that may have to make room.

    Attributes:
        title: on top.
        cells: a text for each row.
        keep: those of the least are dropped first; `_STAYS` stays.
        is_text: set to the left.
        least: characters that it takes in any case.
    """

    title: str
    cells: tuple[str, ...]
    keep: int = _STAYS
    is_text: bool = False
    least: int = 0

    @property
    def width(self) -> int:
        """Characters of the widest cell."""
        from rich.cells import cell_len

        return max(self.least, *map(cell_len, (*self.title.split("\n"), *self.cells)))


def names_column(names: tuple[str, ...]) -> Column:
    """Return the column of layers' names, wide enough for what stands below them."""
    return Column("layer", names, is_text=True, least=len(TOGETHER))


def glyphs() -> Glyphs:
    """Return the characters that stdout can write."""
    return glyphs_for(out().encoding)


def fitted(columns: Sequence[Column], sparklines: int = 1) -> tuple[list[Column], int]:
    """Drop columns, then shorten the names in the first one, until all fit beside sparklines.

    Args:
        columns: without the sparklines.
        sparklines: how many there will be.

    Returns:
        The columns that are left and the width of each sparkline; off a terminal all, and a fixed width.
    """
    kept = list(columns)
    if not out().is_terminal:
        return kept, PIPE_SPARKLINE if sparklines < 2 else PIPE_SPARKLINE * 3 // 4
    needed = LEAST_SPARKLINE * sparklines
    while _room(kept, sparklines) < needed and (least := min(column.keep for column in kept)) < _STAYS:
        kept.remove(next(column for column in reversed(kept) if column.keep == least))
    short = needed - _room(kept, sparklines)
    if short > 0 and kept[0].is_text:
        width = max(kept[0].width - short, _LEAST_NAME)
        kept[0] = Column(kept[0].title, tuple(end_of(name, width) for name in kept[0].cells), is_text=True)
    return kept, min(max(_room(kept, sparklines) // max(sparklines, 1), 8), _MOST_SPARKLINE)


def in_columns(columns: Sequence[Column], rows: Sequence[Sequence[str]] | None = None) -> Table:
    """Return a table of columns.

    Args:
        columns: some of the first and some of the last are text.
        rows: what to show instead of the columns' own cells; None shows these.
    """
    is_text = [column.is_text for column in columns]
    left = is_text.index(False) if False in is_text else len(is_text)
    last = is_text[::-1].index(False) if False in is_text else 0
    cells = [*zip(*(column.cells for column in columns), strict=True)] if rows is None else rows
    return table([column.title for column in columns], cells, left=left, last=last)


def end_of(name: str, width: int) -> str:
    """Shorten a long name in a terminal, at its beginning, where layers of a model differ least."""
    return name if len(name) <= width or not out().is_terminal else f"…{name[1 - width :]}"


def _room(columns: Sequence[Column], sparklines: int) -> int:
    """Return the characters left for sparklines."""
    taken = sum(column.width for column in columns) + _GAP * (len(columns) + sparklines - 1)
    return out().width - taken
