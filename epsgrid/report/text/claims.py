"""The paper's claims as tables of text."""

from __future__ import annotations

from collections.abc import Sequence

from epsgrid.report.claims import ClaimRow
from epsgrid.report.table import Table


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
