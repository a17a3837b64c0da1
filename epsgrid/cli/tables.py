"""Tables: boxes in a terminal, plain columns elsewhere."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rich import box
from rich.cells import cell_len
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from epsgrid.cli.console import out
from epsgrid.report.table import Table as ReportTable
from epsgrid.selection.formatting import power
from epsgrid.spec.trial import Trial

GAP = 3
"""Characters between two columns in a terminal."""

_TITLE_STYLES = {
    "Reliability: high": "bold green",
    "Reliability: medium": "bold yellow",
    "Reliability: low": "bold red",
}


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], texts: Collection[int] = (0,)) -> Table:
    """Return a table; the columns whose places are in `texts` are aligned left, the others right."""
    style = box.SIMPLE_HEAD if out().is_terminal else None
    made = Table(box=style, pad_edge=False, show_edge=False, header_style="bold")
    widths = _widths([*zip(columns, *rows, strict=True)])
    for place, (title, width) in enumerate(zip(columns, widths, strict=True)):
        made.add_column(Text(title), justify="left" if place in texts else "right", overflow="fold", width=width)
    for row in rows:
        made.add_row(*map(Text, row))
    return made


def _widths(columns: Sequence[Sequence[str]]) -> list[int | None]:
    """Return widths with which columns fit into the console and no word is broken; None where there are none."""
    widths = [max(map(cell_len, column)) for column in columns]
    least = [max(cell_len(word) for text in column for word in (text.split() or [""])) for column in columns]
    excess = sum(widths) + GAP * (len(columns) - 1) - out().width
    while excess > 0:
        wide = [place for place in range(len(columns)) if widths[place] > least[place]]
        if not wide:
            return [None] * len(columns)
        widths[max(wide, key=widths.__getitem__)] -= 1
        excess -= 1
    return [*widths]


def setting_cells(trial: Trial) -> tuple[str, str, str, str]:
    """Return a trial's id, learning rate, ε and seed as cells."""
    epsilon = "" if trial.epsilon is None else power(trial.epsilon)
    return trial.id, power(trial.learning_rate), epsilon, str(trial.seed)


def report_table(made: ReportTable) -> list[RenderableType]:
    """Return a table of the report: title, points, rows, the note below them and an empty line."""
    parts: list[RenderableType] = [Text(made.title, style=_TITLE_STYLES.get(made.title, "bold"))]
    for point in made.points:
        bullet = Table.grid(padding=0)
        bullet.add_row("  • ", Text(point))
        parts.append(bullet)
    if made.rows:
        parts.append(table(made.columns, made.rows, range(made.texts)))
    if made.note:
        parts.append(Text(made.note, style="dim"))
    return [*parts, Text()]


def show(*parts: RenderableType) -> None:
    """Print lines, tables and other parts of a result, as they are."""
    for part in parts:
        out().print(part, markup=False)
