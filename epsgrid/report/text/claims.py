"""The paper's claims as a table of text."""

from __future__ import annotations

from collections.abc import Sequence

from epsgrid.report.rows import ClaimRow
from epsgrid.report.table import Table

NOTE = "claims of arXiv 2311.11532 and of its open questions; undecided is an answer"


def claims_table(rows: Sequence[ClaimRow]) -> Table | None:
    """Return the claims with what was found; None without any.

    Args:
        rows: of one run, or of several: each row then names its own.
    """
    if not rows:
        return None
    several = ("run",) if len({row.run for row in rows}) > 1 else ()
    texts = tuple((row.statement, row.answer, *(row.run for _ in several), row.numbers) for row in rows)
    columns = ("claim", "found", *several, "numbers")
    return Table("Claims of the paper", columns, texts, NOTE, texts=len(columns))


def tally_table(rows: Sequence[ClaimRow]) -> Table | None:
    """Return how often each claim was reproduced; None without any."""
    if not rows:
        return None
    answers = ("reproduced", "not reproduced", "undecided")
    statements = dict.fromkeys(row.statement for row in rows)
    texts = tuple(
        (name, *(str(sum(row.answer == answer for row in rows if row.statement == name)) for answer in answers))
        for name in statements
    )
    return Table("Claims at a glance", ("claim", *answers), texts, "number of runs")
