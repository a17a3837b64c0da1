"""Tables: boxes in a terminal, plain columns elsewhere. Rich lays them out; here they are made to fit a terminal."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from rich import box
from rich.cells import cell_len
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from epsgrid.cli.console import out
from epsgrid.report.table import Table as ReportTable
from epsgrid.selection.formatting import power
from epsgrid.spec.trial import Trial

LEAST_SPARKLINE, _MOST_SPARKLINE, _PIPE_SPARKLINE = 20, 56, 32
_LEAST_NAME = 12
_STAYS = 9
_GAP = 3
"""Characters between two columns in a terminal."""
_TITLE_STYLES = {
    "Reliability: high": "bold green",
    "Reliability: medium": "bold yellow",
    "Reliability: low": "bold red",
}


@dataclass(frozen=True)
class Column:
    """A column of a table that may have to make room.

    Attributes:
        title: its heading.
        cells: a text for each row; missing ones at the end are blank.
        keep: columns with the smallest value are dropped first; 9 is never dropped.
        is_text: aligned left, not right.
    """

    title: str
    cells: tuple[str, ...]
    keep: int = _STAYS
    is_text: bool = False

    @property
    def width(self) -> int:
        """Characters of the widest cell."""
        return max(map(cell_len, (*self.title.split("\n"), *self.cells)))


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], texts: Collection[int] = (0,)) -> Table:
    """Return a table; the columns whose places are in `texts` are aligned left, the others right."""
    style = box.SIMPLE_HEAD if out().is_terminal else None
    made = Table(box=style, pad_edge=False, show_edge=False, header_style="bold")
    for place, title in enumerate(columns):
        made.add_column(Text(title), justify="left" if place in texts else "right", overflow="fold")
    for row in rows:
        made.add_row(*map(Text, row))
    return made


def columns_table(columns: Sequence[Column]) -> Table:
    """Return a table of columns."""
    height = max(len(column.cells) for column in columns)
    cells = [(*column.cells, *[""] * (height - len(column.cells))) for column in columns]
    texts = {place for place, column in enumerate(columns) if column.is_text}
    return table([column.title for column in columns], list(zip(*cells, strict=True)), texts)


def fitted(columns: Sequence[Column], sparklines: int = 1) -> tuple[list[Column], int]:
    """Drop columns, then shorten the names in the first one, until all fit into the terminal beside sparklines.

    Rich itself would fold cells or cut names at their end, where layers of a model differ most.

    Args:
        columns: without the sparklines.
        sparklines: their number.

    Returns:
        The columns that remain and the width of each sparkline; off a terminal all columns, and a fixed width.
    """
    kept = list(columns)
    if not out().is_terminal:
        return kept, _PIPE_SPARKLINE if sparklines < 2 else _PIPE_SPARKLINE * 3 // 4

    def room() -> int:
        return out().width - sum(column.width for column in kept) - _GAP * (len(kept) + sparklines - 1)

    needed = LEAST_SPARKLINE * sparklines
    while room() < needed and (least := min(column.keep for column in kept)) < _STAYS:
        kept.remove(next(column for column in reversed(kept) if column.keep == least))
    if (short := needed - room()) > 0 and kept[0].is_text:
        width = max(kept[0].width - short, _LEAST_NAME)
        names = tuple(name if len(name) <= width else f"…{name[1 - width :]}" for name in kept[0].cells)
        kept[0] = replace(kept[0], cells=names)
    return kept, min(max(room() // max(sparklines, 1), 8), _MOST_SPARKLINE)


def setting_cells(trial: Trial) -> tuple[str, str, str, str]:
    """Return a trial's id, learning rate, ε and seed as cells."""
    epsilon = "" if trial.epsilon is None else power(trial.epsilon)
    return trial.id, power(trial.learning_rate), epsilon, str(trial.seed)


def report_table(made: ReportTable) -> list[RenderableType]:
    """Return a table of the report: title, points, rows, the note below them and an empty line."""
    parts: list[RenderableType] = [Text(made.title, style=_TITLE_STYLES.get(made.title, "bold"))]
    parts += [Text(f"  • {point}") for point in made.points]
    if made.rows:
        parts.append(table(made.columns, made.rows, range(made.texts)))
    if made.note:
        parts.append(Text(made.note, style="dim"))
    return [*parts, Text()]


def show(*parts: RenderableType) -> None:
    """Print lines, tables and other parts of a result, as they are."""
    for part in parts:
        out().print(part, markup=False)
