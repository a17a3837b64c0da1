"""The comparison as tables of text, for the command line and the pages alike."""

from __future__ import annotations

import re
from collections.abc import Sequence

from epsgrid.grids import CONVENTIONAL, NARROWED
from epsgrid.report.rows import BoundsRow, ClaimRow, Comparison
from epsgrid.report.table import Table, shortened
from epsgrid.report.text.batches import batches_tables
from epsgrid.report.text.bounds import (
    adaptive_table,
    bounds_table,
    estimates_table,
    kinds_table,
    observed_table,
    reliability_table,
)
from epsgrid.report.text.searches import (
    best_table,
    costs_table,
    epsilons_table,
    metric_note,
    others_table,
    rate_columns,
    rates,
    rules_table,
    score_columns,
    scores,
)
from epsgrid.report.trust import ReliabilityRow
from epsgrid.selection.answers import NOT_ASKED
from epsgrid.selection.best import tally_cells
from epsgrid.selection.formatting import amounts, count, duration, power

_NOT_THE_FULL_DATA = re.compile(r"\b(?:SUBSET|GENERATED|SYNTHETIC|SIMULATED|ARTIFICIAL)\b")
_TRIALS_SHOWN = 20
_QUESTIONS = {"equivalent": "Each ε", "narrowing": "Narrowing", "luck": "Luck", "kind": "Optimizer"}
"""How the questions after the first are called where they are listed."""


def subject(comparison: Comparison) -> str:
    """Return what was trained and how it is judged, in one line."""
    metric, answers = comparison.metric, comparison.answers
    text = f"{comparison.experiment}: {comparison.optimizer} on {comparison.task}, {comparison.model}"
    if metric is None or answers.margin is None:
        return text
    return f"{text}; {metric.name}, margin {amounts([answers.margin], metric)}, {count(answers.seeds, 'seed')}"


def summary(comparison: Comparison) -> tuple[tuple[str, str], ...]:
    """Return what else a reader wants to know first, as (subject, text): other answers, the bounds, the cost."""
    answers = comparison.answers
    found = [(title, answers.of(question)) for question, title in _QUESTIONS.items()]
    rows = [(title, answer.text) for title, answer in found if answer.answer != NOT_ASKED]
    if comparison.bounds is not None:
        rows.append(("Bounds", _bounds(comparison.bounds, comparison.reliability)))
    if cost := _cost(comparison):
        rows.append(("Cost", cost))
    return tuple(rows)


def _bounds(bounds: BoundsRow, found: ReliabilityRow | None) -> str:
    """Return the bounds, the layers that set them, and how far they can be trusted; why, where that is not far."""
    ends = f"ε {power(bounds.low.decade)} to {power(bounds.high.decade)}"
    layers = [shortened(bound.layers, 1) for bound in (bounds.low, bounds.high)]
    text = f"{ends}, set by {' and '.join(dict.fromkeys(layers))}"
    if found is None:
        return f"{text}; the confidence in them was not checked."
    why = f": {found.reasons[0]}" if found.verdict != "high" and found.reasons else ""
    return f"{text}; {found.verdict} confidence{why}."


def _cost(comparison: Comparison) -> str:
    """Return what was trained in all, and what the narrowed grid alone takes, in a sentence each."""
    parts = []
    if comparison.cells:
        all_cells = tally_cells(comparison.cells)
        wall = "" if all_cells.wall_seconds is None else f" within {duration(all_cells.wall_seconds)}"
        parts.append(f"{count(all_cells.trials, 'training')}, {duration(all_cells.seconds)} of training{wall}.")
    if fresh := comparison.fresh.trials:
        parts.append(f"Fresh seeds: {count(fresh, 'training')}, {duration(comparison.fresh.seconds)}.")
    narrowed = comparison.best_of(NARROWED)
    if narrowed is not None and comparison.grid(CONVENTIONAL) is not None:
        cost = narrowed.cost
        parts.append(f"The narrowed grid alone: {count(cost.trials, 'training')}, {duration(cost.device_seconds)}.")
    if comparison.probe_seconds is not None:
        parts.append(f"Probe: {duration(comparison.probe_seconds)}.")
    return " ".join(parts)


def stamp(comparison: Comparison) -> str | None:
    """Return the warning that scores on part of the data, or on made-up data, are not those of the literature."""
    found = _NOT_THE_FULL_DATA.findall(comparison.data_description.upper())
    if not found:
        return None
    return f"{' OF '.join(dict.fromkeys(found))} DATA: the scores below do not compare with published ones."


def tables(comparison: Comparison) -> tuple[Table, ...]:
    """Return the tables of a comparison that have something to show, in reading order; without layers and cells."""
    made = (
        epsilons_table(comparison),
        best_table(comparison),
        others_table(comparison),
        rules_table(comparison),
        costs_table(comparison),
        bounds_table(comparison.bounds) if comparison.bounds else None,
        reliability_table(comparison.reliability) if comparison.reliability else None,
        kinds_table(comparison.kinds),
        estimates_table(comparison.estimates),
        adaptive_table(comparison.adaptive),
        observed_table(comparison.observed),
        *batches_tables(comparison.batches),
        claims_table(comparison.claims),
        _unfinished_table(comparison),
    )
    return tuple(table for table in made if table is not None)


def cells_table(comparison: Comparison) -> Table | None:
    """Return one row per learning rate and ε; None where nothing was swept."""
    if not comparison.cells:
        return None
    rows = tuple(
        (
            *rates(cell, comparison),
            ", ".join(cell.grids),
            f"{cell.tally.done + cell.tally.diverged}/{cell.tally.trials}",
            str(cell.tally.diverged),
            *scores(cell.score, cell.test, comparison),
        )
        for cell in comparison.cells
    )
    columns = (*rate_columns(comparison), "grids", "seeds", "diverged", *score_columns(comparison))
    return Table("Cells", columns, rows, metric_note(comparison))


def _unfinished_table(comparison: Comparison) -> Table | None:
    if not comparison.unfinished:
        return None
    shown = comparison.unfinished[:_TRIALS_SHOWN]
    rows = tuple((trial.cell, str(trial.seed), trial.state, trial.error or "", trial.id) for trial in shown)
    hidden = len(comparison.unfinished) - len(shown)
    note = f"and {count(hidden, 'more trial')}: see report.json" if hidden else None
    return Table("Trials without a score", ("cell", "seed", "state", "why", "trial"), rows, note)


def claims_table(rows: Sequence[ClaimRow]) -> Table | None:
    """Return the claims with the answers; None without any. Where there are several runs, each row names its own."""
    if not rows:
        return None
    several = len({row.run for row in rows}) > 1
    texts = tuple((row.statement, row.answer, *((row.run,) if several else ()), row.numbers) for row in rows)
    columns = ("claim", "found", *(("run",) if several else ()), "numbers")
    note = "claims of arXiv 2311.11532 and of its open questions; undecided is an answer"
    return Table("Claims of the paper", columns, texts, note, texts=len(columns))


def tally_table(rows: Sequence[ClaimRow]) -> Table | None:
    """Return how often each claim was reproduced; None without any."""
    if not rows:
        return None
    answers = ("reproduced", "not reproduced", "undecided")
    found: list[tuple[str, str]] = [(row.statement, row.answer) for row in rows]
    statements = dict.fromkeys(statement for statement, _ in found)
    texts = tuple((name, *(str(found.count((name, answer))) for answer in answers)) for name in statements)
    return Table("Claims at a glance", ("claim", *answers), texts, "number of runs")
