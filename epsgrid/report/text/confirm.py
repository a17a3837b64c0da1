"""The winners on fresh seeds as tables of text."""

from __future__ import annotations

from epsgrid.report.rows import Comparison, ConfirmedRow
from epsgrid.report.table import Table
from epsgrid.report.text.searches import differences_table, interval_words, spread_words
from epsgrid.selection.cells import DEFAULT
from epsgrid.selection.formatting import count, power

_COLUMNS = (
    "winner",
    "learning rate",
    "ε",
    "chosen from",
    "test when chosen",
    "test on fresh seeds",
    "95 % interval",
    "seeds",
)


def confirmed_tables(comparison: Comparison) -> tuple[Table, ...]:
    """Return the winners on fresh seeds, and how they compare there; none where that was not asked for."""
    found = comparison.confirmed
    if found is None:
        return ()
    rows = tuple(_row(row, comparison) for row in found.rows)
    note = "trained again on seeds that chose nothing, so that the luck of a choice is left behind"
    title = f"Confirmed on {count(len(found.seeds), 'fresh seed')}"
    settings = Table(title, _COLUMNS, rows, "; ".join([note, *found.notes]))
    if len(rows) < 2:
        return (settings,)
    title = "Confirmed differences, paired by fresh seed"
    return settings, differences_table(title, found.regret, found.gain_over_default, comparison)


def _row(row: ConfirmedRow, comparison: Comparison) -> tuple[str, ...]:
    tally = row.cell.tally
    return (
        "default ε" if row.name == DEFAULT else row.name,
        power(row.cell.learning_rate),
        power(row.cell.epsilon),
        count(row.chosen_from, "cell"),
        spread_words(row.when_chosen, comparison),
        spread_words(row.cell.test, comparison),
        interval_words(row.interval, comparison),
        str(tally.done) + (f" ({tally.diverged} diverged)" if tally.diverged else ""),
    )
