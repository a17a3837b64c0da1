"""The page of one experiment: the answers, the two figures they rest on and the cost; everything else is folded."""

from __future__ import annotations

from collections.abc import Sequence

from epsgrid.report.html.page import Section, html_page
from epsgrid.report.pictures import RenderedFigure
from epsgrid.report.rows import Comparison
from epsgrid.report.table import Table
from epsgrid.report.text.bounds import layers_table
from epsgrid.report.text.render import cells_table, stamp, subject, summary, tables

_COST = "Cost"
_FOLDED = (
    ("Each ε", "its best learning rate, its score, and what it loses", ("Each ε",), ()),
    ("Simple rules", "what training only the narrowed grid, the default ε or an estimate loses", ("What simple",), ()),
    ("All settings", "the best of each grid, and every learning rate and ε", ("Best", "Further", "Cells"), ()),
    (
        "Bounds",
        "how they were measured, by which layers, how far they can be trusted",
        ("Bounds", "Reliability", "Point estimates", "Entries whose step", "Layers"),
        ("histograms",),
    ),
    ("Learning curves", "scores and training loss of the chosen settings, epoch by epoch", (), ("learning",)),
    ("Observed training", "gradient magnitudes while a setting trained", ("During training",), ("percentiles",)),
    ("Batch sizes", "bounds and scores at other batch sizes", ("Batch sizes",), ()),
    ("Claims", "of the paper, and what this run says about them", ("Claims",), ()),
    ("Trials without a score", "failed, diverged or without a result", ("Trials without",), ()),
)
"""Title and content of each folded section, and how the titles of its tables and the names of its figures begin."""


def experiment_page(comparison: Comparison, figures: Sequence[RenderedFigure]) -> str:
    """Return the page of an experiment, with the figures in their order."""
    facts, answer = dict(summary(comparison)), comparison.answers.of("default")
    cost = facts.pop(_COST, "")
    layers = layers_table(comparison.bounds) if comparison.bounds else None
    shown = [table for table in (*tables(comparison), cells_table(comparison), layers) if table is not None]
    origins = (("model", comparison.model), ("data", comparison.data_description), *comparison.provenance)
    made = (
        Section(
            "Metric, ε and learning rate", figures=tuple(each for each in figures if each.name in ("curve", "map"))
        ),
        Section(_COST, cost, tables=tuple(table for table in shown if table.title == _COST)),
        *(
            Section(
                title,
                about=about,
                tables=tuple(table for table in shown if table.title.startswith(begin)),
                figures=tuple(figure for figure in figures if figure.name.startswith(names)),
            )
            for title, about, begin, names in _FOLDED
        ),
    )
    provenance = Table("Where these numbers come from", ("what", "value"), origins, texts=2)
    return html_page(
        subject(comparison),
        answer.text,
        [
            *(section for section in made if section.tables or section.figures),
            Section("Provenance", about="data, model, versions, machines", tables=(provenance,)),
        ],
        answer=answer.answer,
        stamp=stamp(comparison),
        facts=tuple(facts.items()),
        notes=comparison.notes,
    )
