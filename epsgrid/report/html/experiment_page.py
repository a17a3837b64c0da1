"""The page of one experiment: which tables and figures stand together, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from epsgrid.report.html.glance import answer_in_words, at_a_glance
from epsgrid.report.html.page import Section, html_page
from epsgrid.report.rendered import RenderedFigure
from epsgrid.report.rows import Comparison
from epsgrid.report.table import Table
from epsgrid.report.text.bounds import layers_table
from epsgrid.report.text.render import cells_table, stamp, tables


@dataclass(frozen=True)
class _Shelf:
    """A section to be: tables whose title, and figures whose name, begin with one of these words belong to it."""

    title: str
    tables: tuple[str, ...] = ()
    figures: tuple[str, ...] = ()


_MORE = "Further results"
_SHELVES = (
    _Shelf(
        "Result",
        ("Best setting", "Regret", "Differences", "Confirmed", "Further scores"),
        ("metric", "map", "learning"),
    ),
    _Shelf("Cost", ("Grids", "Cost"), ("ledger",)),
    _Shelf(
        "Bounds",
        ("Bounds", "Reliability", "Point estimates", "Entries whose step"),
        ("histograms", "course", "fractions"),
    ),
    _Shelf("Batch sizes", ("Batch sizes",), ("batch-",)),
    _Shelf("During training", ("During training",), ("bands", "adaptable")),
    _Shelf("Claims", ("Claims",)),
    _Shelf(_MORE),
    _Shelf("All settings", ("Cells", "Trials without")),
    _Shelf("Layers", ("Layers",)),
)


def experiment_page(comparison: Comparison, figures: Sequence[RenderedFigure]) -> str:
    """Return the page of an experiment.

    Args:
        comparison: what to show.
        figures: in the order to show them.
    """
    return html_page(
        title=f"{comparison.experiment}: {comparison.optimizer} on {comparison.task}",
        headline=answer_in_words(comparison),
        answer=comparison.verdict.answer,
        stamp=stamp(comparison),
        facts=at_a_glance(comparison),
        sections=sections(comparison, figures),
        notes=comparison.notes,
    )


def sections(comparison: Comparison, figures: Sequence[RenderedFigure]) -> tuple[Section, ...]:
    """Return the sections that have something to show; a table or figure that has no place stands under the rest."""
    everything = [*tables(comparison), cells_table(comparison)]
    everything += [layers_table(comparison.bounds)] if comparison.bounds else []
    made = [_section(shelf, [table for table in everything if table is not None], figures) for shelf in _SHELVES]
    filled = [section for section in made if section.tables or section.figures]
    return (*filled, _provenance(comparison))


def _section(shelf: _Shelf, everything: Sequence[Table], figures: Sequence[RenderedFigure]) -> Section:
    return Section(
        shelf.title,
        tuple(table for table in everything if _place(table.title, [s.tables for s in _SHELVES]) == shelf.title),
        tuple(figure for figure in figures if _place(figure.name, [s.figures for s in _SHELVES]) == shelf.title),
    )


def _place(name: str, beginnings: Sequence[tuple[str, ...]]) -> str:
    """Return the title of the shelf that a table or figure belongs to."""
    return next((s.title for s, words in zip(_SHELVES, beginnings, strict=True) if name.startswith(words)), _MORE)


def _provenance(comparison: Comparison) -> Section:
    """Return where everything comes from: model, data, and what the records say about their making."""
    rows = (("model", comparison.model), ("data", comparison.data_description), *comparison.provenance)
    return Section("Provenance", (Table("Where these numbers come from", ("what", "value"), rows, texts=2),))
