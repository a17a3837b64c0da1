"""The page of one experiment: the summary in the card on top, and the sections of tables and figures below it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from epsgrid.report.html.page import Section, html_page
from epsgrid.report.pictures import RenderedFigure
from epsgrid.report.rows import Comparison
from epsgrid.report.table import Table
from epsgrid.report.text.bounds import layers_table
from epsgrid.report.text.render import cells_table, stamp, tables
from epsgrid.report.text.searches import difference_texts
from epsgrid.selection.cells import CONVENTIONAL, DEFAULT, NARROWED, REFERENCE, best
from epsgrid.selection.formatting import count, duration, interval, power, score

_OTHERS = "Further results"
_SECTIONS: dict[str, tuple[str, ...]] = {
    "Result": (
        *("Best setting", "Regret", "Differences", "Further scores"),
        *("metric", "map", "learning"),
    ),
    "Cost": ("Grids", "Cost"),
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
        headline=answer_sentence(comparison),
        answer=comparison.verdict.answer,
        stamp=stamp(comparison),
        facts=tuple(summary(comparison)),
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


def answer_sentence(comparison: Comparison) -> str:
    """Return the verdict as one short sentence."""
    if comparison.verdict.answer == "yes":
        return "The best ε lies inside the measured bounds."
    if comparison.verdict.answer == "no":
        return "The best ε lies outside the measured bounds."
    if comparison.bounds is None:
        return "There are no bounds to judge."
    return "It cannot be told whether the best ε lies inside the bounds."


def summary(comparison: Comparison) -> Iterator[tuple[str, str]]:
    """Yield what a reader wants to know first, as (question, answer); what does not apply is left out."""
    if comparison.bounds is not None:
        low, high = comparison.bounds.low.decade, comparison.bounds.high.decade
        decades = count(len(comparison.bounds.decades), "decade")
        width = f"{power(low)} to {power(high)}, {decades}" if low != high else f"{power(low)} alone"
        conventional = comparison.grid(CONVENTIONAL)
        beside = "" if conventional is None else f"; the conventional grid has {conventional.decades}"
        yield "Which ε range", width + beside
    yield "What to use now", _advice(comparison)
    yield "How sure", _confidence(comparison)
    gap, metric = comparison.gain_over_default, comparison.metric
    if gap.mean is not None and metric is not None:
        mean, ends = difference_texts(gap, metric)
        seeds = ", one seed" if gap.low is None else f" ({100 * gap.level:.0f} %: {ends})"
        same = "the default ε is the best itself"
        yield "Against the default ε", same if gap.same_cell else f"{mean} on test{seeds}"
    yield from _cost(comparison)


def _advice(comparison: Comparison) -> str:
    """Return the best setting found, or what to do to find one."""
    rows = [comparison.best_of(name) for name in (NARROWED, CONVENTIONAL, REFERENCE, DEFAULT)]
    metric = comparison.metric
    cell = best([row.choice.cell for row in rows if row is not None and row.choice.cell is not None], metric).cell
    if cell is not None and metric is not None:
        spread, split = cell.test or cell.score, " on test" if cell.test else ""
        return f"{cell.label}: {metric.name} {score(spread.mean, spread.sd, metric)}{split}" if spread else cell.label
    if comparison.bounds is None:
        return "No setting can be named yet" if comparison.grids else "Run `epsgrid probe` to measure the range of ε"
    low, high = power(comparison.bounds.low.decade), power(comparison.bounds.high.decade)
    decades = f"ε {low} to {high}" if low != high else f"ε {low}"
    if not comparison.grids:
        return f"Sweep {decades} with `epsgrid sweep`"
    return f"No setting can be named yet; the range to search is {decades}"


def _confidence(comparison: Comparison) -> str:
    """Return the reason of the verdict, and whether the bounds can be trusted; if not, the first reason why."""
    gap, metric = comparison.verdict.difference, comparison.metric
    if comparison.verdict.answer != "cannot tell" and gap and metric and gap.low is not None and gap.high is not None:
        ends = interval(gap.low, gap.high, metric)
        text = f"best inside − best outside: {ends} on test ({100 * gap.level:.0f} %, {count(gap.n, 'seed')})"
    else:
        text = comparison.verdict.reason
    trust = comparison.reliability
    if trust is None:
        return text
    why = f": {trust.reasons[0]}" if trust.verdict != "high" and trust.reasons else ""
    return f"{text}; the confidence in the bounds is {trust.verdict}{why}"


def _cost(comparison: Comparison) -> Iterator[tuple[str, str]]:
    """Yield the cost of narrowing, and what it saved against the conventional search."""
    parts = [] if comparison.probe_seconds is None else [f"probe {duration(comparison.probe_seconds)}"]
    narrowed, grid = comparison.best_of(NARROWED), comparison.grid(NARROWED) or comparison.grid(CONVENTIONAL)
    if grid is not None:
        so_far = "" if grid.tally.complete else " so far"
        parts.append(f"{grid.name} grid {duration(grid.tally.seconds)}{so_far}, {count(grid.tally.trials, 'trial')}")
    if not parts:
        return
    saved = ""
    if narrowed and narrowed.cost.saved_seconds is not None and narrowed.cost.saved_trials is not None:
        sign, verb = (-1, "lost") if narrowed.cost.saved_seconds < 0 else (1, "saved")
        trials = count(sign * narrowed.cost.saved_trials, "trial").replace("-", "−")
        saved = f"; {verb} {duration(sign * narrowed.cost.saved_seconds)} ({trials}) against the conventional search"
    yield "What it cost", " + ".join(parts) + saved
