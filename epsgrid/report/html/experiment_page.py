"""The page of one experiment: the summary in the card on top, and the sections of tables and figures below it."""

from __future__ import annotations

from collections.abc import Sequence

from epsgrid.report.html.page import Section, html_page
from epsgrid.report.pictures import RenderedFigure
from epsgrid.report.rows import Comparison
from epsgrid.report.table import Table
from epsgrid.report.text.bounds import layers_table
from epsgrid.report.text.render import cells_table, headline, stamp, summary, tables

_OTHERS = "Further results"
_SECTIONS: dict[str, tuple[str, ...]] = {
    "Result": (
        *("Each ε", "Best setting", "What simple rules", "Further scores"),
        *("metric", "map", "learning"),
    ),
    "Cost": ("Cost",),
    "Bounds": (
        *("Bounds", "Reliability", "Point estimates", "Entries whose step"),
        *("histograms", "trajectory", "fractions"),
    ),
    "Batch sizes": ("Batch sizes", "batch-"),
    "During training": ("During training", "percentiles", "adaptable"),
    "Claims": ("Claims",),
    _OTHERS: (),
    "All settings": ("Cells", "Trials without"),
    "Layers": ("Layers",),
}
"""Sections in order, with the first words of the titles of their tables and of the names of their figures."""


def experiment_page(comparison: Comparison, figures: Sequence[RenderedFigure]) -> str:
    """Return the page of an experiment.

    Args:
        comparison: what to show.
        figures: in the order to show them.
    """
    return html_page(
        title=f"{comparison.experiment}: {comparison.optimizer} on {comparison.task}",
        headline=headline(comparison),
        answer=comparison.answers.of("default").answer,
        stamp=stamp(comparison),
        facts=summary(comparison),
        sections=sections(comparison, figures),
        notes=comparison.notes,
    )


def sections(comparison: Comparison, figures: Sequence[RenderedFigure]) -> tuple[Section, ...]:
    """Return the sections that have something to show; tables and figures of no section stand under the others."""
    layers = layers_table(comparison.bounds) if comparison.bounds else None
    shown = [table for table in (*tables(comparison), cells_table(comparison), layers) if table is not None]
    made = [
        Section(
            title,
            tuple(table for table in shown if _section_of(table.title) == title),
            tuple(figure for figure in figures if _section_of(figure.name) == title),
        )
        for title in _SECTIONS
    ]
    origins = (("model", comparison.model), ("data", comparison.data_description), *comparison.provenance)
    provenance = Table("Where these numbers come from", ("what", "value"), origins, texts=2)
    return (*(one for one in made if one.tables or one.figures), Section("Provenance", (provenance,)))


def _section_of(name: str) -> str:
    return next((title for title, beginnings in _SECTIONS.items() if name.startswith(beginnings)), _OTHERS)
