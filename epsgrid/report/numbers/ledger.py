"""The numbers of the cost ledger: what each way of searching costs, part by part.

`draw_ledger` draws them.
"""

from __future__ import annotations

from dataclasses import dataclass

from epsgrid.report.rows import Comparison, GridRow
from epsgrid.selection.cells import CONVENTIONAL, NARROWED


@dataclass(frozen=True)
class LedgerPart:
    """A part of a bar.

    Attributes:
        name: "probe", or the grid.
        seconds: wall time, summed over trials.
        trials: number of trials; None for the probe.
        missing: of these, trials that have no result, so that the seconds will grow.
    """

    name: str
    seconds: float
    trials: int | None
    missing: int = 0


@dataclass(frozen=True)
class LedgerBar:
    """One way to search: its name, and what it is made of, in order."""

    name: str
    parts: tuple[LedgerPart, ...]

    @property
    def seconds(self) -> float:
        """All parts together."""
        return sum(part.seconds for part in self.parts)

    @property
    def missing(self) -> int:
        """Trials that have no result."""
        return sum(part.missing for part in self.parts)


@dataclass(frozen=True)
class LedgerNumbers:
    """Everything the ledger shows.

    Attributes:
        bars: conventional first; at least two parts in all.
        saved_seconds: what narrowing saved, negative where it cost more; None where that is not known yet.
    """

    bars: tuple[LedgerBar, ...]
    saved_seconds: float | None


def ledger_numbers(comparison: Comparison) -> LedgerNumbers | None:
    """Return the numbers of the ledger; None unless there is more than one cost to set side by side."""
    narrowed, conventional = comparison.grid(NARROWED), comparison.grid(CONVENTIONAL)
    probe = comparison.costs.probe_seconds
    bars = []
    if conventional is not None:
        bars.append(LedgerBar("conventional search", (_part(conventional),)))
    own = [] if probe is None else [LedgerPart("probe", probe, None)]
    if narrowed is not None:
        bars.append(LedgerBar("narrowed search", (*own, _part(narrowed))))
    elif own and bars:
        bars.append(LedgerBar("probe alone", tuple(own)))
    if sum(len(bar.parts) for bar in bars) < 2 or not any(bar.seconds for bar in bars):
        return None
    return LedgerNumbers(tuple(bars), comparison.costs.saved_seconds)


def _part(row: GridRow) -> LedgerPart:
    tally = row.tally
    return LedgerPart(f"{row.name} grid", tally.seconds, tally.trials, tally.failed + tally.missing)
