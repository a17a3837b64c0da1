"""The report as a page of Markdown: the answers first, then what they rest on."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tabulate import tabulate

from epsgrid.report.pictures import RenderedFigure
from epsgrid.report.rows import Comparison
from epsgrid.report.table import Table
from epsgrid.report.text.bounds import layers_table
from epsgrid.report.text.render import cells_table, stamp, summary, tables


def page(comparison: Comparison, figures: Sequence[RenderedFigure]) -> str:
    """Return the page of an experiment; the figures lie beside it."""
    blocks = [
        heading(f"{comparison.experiment}: {comparison.optimizer} on {comparison.task}"),
        _escaped(f"Model {comparison.model}. Data: {comparison.data_description}"),
        f"> **{warning}**" if (warning := stamp(comparison)) else "",
        bold(comparison.answers.of("default").text),
        "\n".join(f"- **{title}**: {_escaped(text)}" for title, text in summary(comparison)),
        bullets("Read this first", comparison.notes),
        *map(table_block, tables(comparison)),
        *map(_figure, figures),
        table_block(cells) if (cells := cells_table(comparison)) else "",
        table_block(layers_table(comparison.bounds)) if comparison.bounds else "",
        bullets("Provenance", [f"{what}: {value}" for what, value in comparison.provenance]),
    ]
    return joined(blocks)


def joined(blocks: Sequence[str]) -> str:
    """Return a page of blocks; empty ones are left out."""
    return "\n\n".join(block for block in blocks if block) + "\n"


def heading(text: str) -> str:
    """Return the title of a page."""
    return f"# {_escaped(text)}"


def bold(text: str) -> str:
    """Return a sentence that stands out."""
    return f"**{_escaped(text)}**"


def table_block(table: Table) -> str:
    """Return a table with its title, the points above it and the note below."""
    points = "\n".join(f"- {_escaped(point)}" for point in table.points)
    rows = [[_escaped(text) for text in row] for row in table.rows]
    lines = tabulate(rows, table.columns, "pipe", disable_numparse=True, colalign=table.alignment) if rows else ""
    note = f"{_escaped(table.note[:1].upper() + table.note[1:])}." if table.note else ""
    return "\n\n".join(part for part in (f"## {table.title}", points, lines, note) if part)


def _figure(figure: RenderedFigure) -> str:
    others = [f"[{suffix.upper()}]({figure.name}.{suffix})" for suffix in figure.files if suffix != "svg"]
    links = f" ({', '.join(others)})" if others else ""
    return f"![{_escaped(figure.title)}]({figure.name}.svg)\n\n{_escaped(figure.caption)}{links}"


def bullets(title: str, texts: Sequence[str]) -> str:
    """Return a list under a heading; nothing without texts."""
    return f"## {title}\n\n" + "\n".join(f"- {_escaped(text)}" for text in texts) if texts else ""


def _escaped(text: str) -> str:
    """Return a text in one line, without a character that Markdown would act on.

    Commands in backticks stay as they are; so do underscores inside a word.
    """
    line = " ".join(text.split())
    line = line if line.count("`") % 2 == 0 else line.replace("`", "'")
    return re.sub(r"([\\*|<>\[\]]|(?<!\w)_|_(?!\w))", r"\\\1", line)
