"""The comparison as tables of text, for the command line and the pages alike."""

from __future__ import annotations

import re
from collections.abc import Sequence

from epsgrid.report.rows import ClaimRow, Comparison, GridRow
from epsgrid.report.table import Table
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
    differences_table,
    metric_note,
    others_table,
    rate_columns,
    rates,
    regrets_table,
    score_columns,
    scores,
)
from epsgrid.selection.cells import CONVENTIONAL, DEFAULT, NARROWED
from epsgrid.selection.formatting import count, duration, powers

_NOT_THE_FULL_DATA = re.compile(r"\b(?:SUBSET|GENERATED|SYNTHETIC|SIMULATED|ARTIFICIAL)\b")
_TRIALS_SHOWN = 20


def headline(comparison: Comparison) -> str:
    """Return the verdict in one sentence."""
    return f"optimum inside: {comparison.verdict.answer} – {comparison.verdict.reason}."


def stamp(comparison: Comparison) -> str | None:
    """Return the warning that scores on part of the data, or on made-up data, are not those of the literature."""
    found = _NOT_THE_FULL_DATA.findall(comparison.data_description.upper())
    if not found:
        return None
    return f"{' OF '.join(dict.fromkeys(found))} DATA: the scores below do not compare with published ones."


def tables(comparison: Comparison) -> tuple[Table, ...]:
    """Return the tables of a comparison that have something to show, in reading order; without layers and cells."""
    title, gaps = "Differences, paired by seed", (comparison.regret, comparison.gain_over_default)
    has_grid = comparison.grid(NARROWED) is not None or comparison.grid(CONVENTIONAL) is not None
    made = (
        best_table(comparison),
        others_table(comparison),
        differences_table(title, *gaps, comparison) if has_grid else None,
        regrets_table(comparison),
        _grids_table(comparison),
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


def _grids_table(comparison: Comparison) -> Table | None:
    if not comparison.grids:
        return None
    states = ["done", "diverged", "failed", "missing"]
    states += ["pruned"] if any(row.tally.pruned for row in comparison.grids) else []

    def row_of(grid: GridRow) -> tuple[str, ...]:
        name = "default ε" if grid.name == DEFAULT else grid.name
        numbers = [str(getattr(grid.tally, state)) for state in ("trials", *states)]
        return (name, powers(grid.epsilons), str(grid.decades), *numbers, duration(grid.tally.seconds))

    ratio = comparison.decades_ratio
    note = None if ratio is None else f"the conventional grid searches {ratio:.3g} × the decades of the narrowed one"
    columns = ("grid", "ε", "decades", "trials", *states, "training time")
    return Table("Grids", columns, tuple(map(row_of, comparison.grids)), note)


def _unfinished_table(comparison: Comparison) -> Table | None:
    if not comparison.loose_ends:
        return None
    shown = comparison.loose_ends[:_TRIALS_SHOWN]
    rows = tuple((trial.cell, str(trial.seed), trial.state, trial.error or "", trial.id) for trial in shown)
    hidden = len(comparison.loose_ends) - len(shown)
    note = f"and {count(hidden, 'more trial')}: see report.json" if hidden else None
    return Table("Trials without a score", ("cell", "seed", "state", "why", "trial"), rows, note)


def claims_table(rows: Sequence[ClaimRow]) -> Table | None:
    """Return the claims with the answers; None without any.

    Args:
        rows: of one run, or of several: each row then names its run.
    """
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
