"""The report as a page of Markdown: the verdict first, then what it rests on."""

from __future__ import annotations

import re
from collections.abc import Sequence

from epsgrid.report.rendered import RenderedFigure
from epsgrid.report.rows import Comparison
from epsgrid.report.table import Table
from epsgrid.report.text.bounds import layers_table
from epsgrid.report.text.render import cells_table, headline, stamp, tables


def page(comparison: Comparison, figures: Sequence[RenderedFigure]) -> str:
    """Return the page.

    Args:
        comparison: what to show.
        figures: those that lie beside the page.
    """
    blocks = [
        heading(f"{comparison.experiment}: {comparison.optimizer} on {comparison.task}"),
        _escaped(f"Model {comparison.model}. Data: {comparison.data_description}"),
        f"> **{warning}**" if (warning := stamp(comparison)) else "",
        bold(headline(comparison)),
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
    """Return a table with its title, the points above it and the note below; one without rows has no lines."""
    points = "\n".join(f"- {_escaped(point)}" for point in table.points)
    lines = [_line(table.columns), _line(["---"] * len(table.columns)), *map(_line, map(_escaped_all, table.rows))]
    note = f"{_escaped(table.note[:1].upper() + table.note[1:])}." if table.note else ""
    parts = (f"## {table.title}", points, "\n".join(lines) if table.rows else "", note)
    return "\n\n".join(part for part in parts if part)


def _figure(figure: RenderedFigure) -> str:
    others = [f"[{suffix.upper()}]({figure.name}.{suffix})" for suffix in figure.files() if suffix != "svg"]
    links = f" ({', '.join(others)})" if others else ""
    return f"![{_escaped(figure.heading)}]({figure.name}.svg)\n\n{_escaped(figure.caption)}{links}"


def bullets(title: str, texts: Sequence[str]) -> str:
    """Return a list under a heading; nothing without texts."""
    return f"## {title}\n\n" + "\n".join(f"- {_escaped(text)}" for text in texts) if texts else ""


def _line(texts: Sequence[str]) -> str:
    return f"| {' | '.join(texts)} |"


def _escaped_all(texts: Sequence[str]) -> list[str]:
    return [_escaped(text) for text in texts]


def _escaped(text: str) -> str:
    """Keep names and messages from turning into markup: one line, and no character that Markdown would act on.

    Commands in backticks stay as they are; so do underscores inside a word.
    """
    line = " ".join(text.split())
    line = line if line.count("`") % 2 == 0 else line.replace("`", "'")
    return re.sub(r"([\\*|<>\[\]]|(?<!\w)_|_(?!\w))", r"\\\1", line)
