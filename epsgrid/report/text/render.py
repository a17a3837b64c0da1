"""The comparison as tables of text, for the command line and the page alike.

What each way to search found, lost and cost is in `render_searches`, what the probe found in `render_bounds`.
"""

from __future__ import annotations

import re

from epsgrid.report.rows import Comparison, GridRow
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
from epsgrid.report.text.claims import claims_table
from epsgrid.report.text.confirm import confirmed_tables
from epsgrid.report.text.searches import (
    best_table,
    costs_table,
    differences_table,
    metric_note,
    others_table,
    regrets_table,
    score_columns,
    scores,
    trained,
    trained_column,
)
from epsgrid.selection.cells import CONVENTIONAL, DEFAULT, NARROWED, Cell
from epsgrid.selection.formatting import count, duration, power, powers

_NOT_THE_FULL_DATA = re.compile(r"\b(?:SUBSET|GENERATED|SYNTHETIC|SIMULATED|ARTIFICIAL)\b")
_LOOSE_ENDS_SHOWN = 20


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
    made = (
        best_table(comparison),
        others_table(comparison),
        _differences_table(comparison),
        regrets_table(comparison),
        *confirmed_tables(comparison),
        _grids_table(comparison),
        costs_table(comparison),
        bounds_table(comparison.bounds) if comparison.bounds else None,
        reliability_table(comparison.reliability) if comparison.reliability else None,
        kinds_table(comparison.kinds),
        estimates_table(comparison.estimates, comparison.metric),
        adaptive_table(comparison.adaptive),
        observed_table(comparison.observed),
        *batches_tables(comparison.batches),
        claims_table(comparison.claims),
        _loose_ends_table(comparison),
    )
    return tuple(table for table in made if table is not None)


def cells_table(comparison: Comparison) -> Table | None:
    """Return one row per learning rate and ε; None where nothing was swept."""
    if not comparison.cells:
        return None
    rows = tuple(_cell_row(cell, comparison) for cell in comparison.cells)
    columns = ("learning rate", *trained_column(comparison), "ε", "grids", "seeds", "diverged")
    return Table("Cells", (*columns, *score_columns(comparison)), rows, metric_note(comparison))


def _cell_row(cell: Cell, comparison: Comparison) -> tuple[str, ...]:
    return (
        power(cell.learning_rate),
        *trained(cell, comparison),
        power(cell.epsilon),
        ", ".join(cell.grids),
        f"{cell.tally.done + cell.tally.diverged}/{cell.tally.trials}",
        str(cell.tally.diverged),
        *scores(cell, comparison),
    )


def _differences_table(comparison: Comparison) -> Table | None:
    if comparison.grid(NARROWED) is None and comparison.grid(CONVENTIONAL) is None:
        return None
    return differences_table("Differences, paired by seed", comparison.regret, comparison.gain_over_default, comparison)


def _grids_table(comparison: Comparison) -> Table | None:
    if not comparison.grids:
        return None
    pruned = ("pruned",) if any(row.tally.pruned for row in comparison.grids) else ()
    rows = tuple(_grid_row(row, pruned) for row in comparison.grids)
    columns = ("grid", "ε", "decades", "trials", "done", "diverged", "failed", "missing", *pruned, "training time")
    ratio = comparison.decades_ratio
    note = None if ratio is None else f"the conventional grid searches {ratio:.3g} × the decades of the narrowed one"
    return Table("Grids", columns, rows, note)


def _grid_row(row: GridRow, pruned: tuple[str, ...]) -> tuple[str, ...]:
    tally = row.tally
    counts = [str(number) for number in (tally.trials, tally.done, tally.diverged, tally.failed, tally.missing)]
    counts += [str(tally.pruned) for _ in pruned]
    name = "default ε" if row.name == DEFAULT else row.name
    return (name, powers(row.epsilons), str(row.decades), *counts, duration(tally.seconds))


def _loose_ends_table(comparison: Comparison) -> Table | None:
    if not comparison.loose_ends:
        return None
    shown = comparison.loose_ends[:_LOOSE_ENDS_SHOWN]
    rows = tuple((end.cell, str(end.seed), end.state, end.error or "", end.id) for end in shown)
    hidden = len(comparison.loose_ends) - len(shown)
    note = f"and {count(hidden, 'more trial')}: see report.json" if hidden else None
    return Table("Trials without a score", ("cell", "seed", "state", "why", "trial"), rows, note)
