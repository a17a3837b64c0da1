"""Learning rates to try beyond the grid's: where the best of a compared ε is at an edge, or none of them trains."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from epsgrid.selection.answers import OPEN, epsilon_rows
from epsgrid.selection.cells import at_epsilon
from epsgrid.selection.deciding import comparisons
from epsgrid.selection.evidence import MAX_ADDED, Evidence, at_largest
from epsgrid.store.records import AddedRate

_SIDES = {"lowest": (-1,), "highest": (1,), "only": (-1, 1), "flat": (-1, 1)}


def rates_beyond(evidence: Evidence, grids: Sequence[str], rates: Sequence[float]) -> tuple[AddedRate, ...]:
    """Return the learning rates to try next; none where every best is inside, or enough were added.

    Looked at are the best settings, of `grids`, of both sides of each comparison, and that of each ε that may be as
    good as the best and whose scores rise to an end: a fair comparison tries it further, too. Where all settings of a
    side diverge, lower rates than the spec's `rates` are tried at its largest ε.
    """
    evidence = replace(evidence, cells=[cell for cell in evidence.cells if set(cell.grids) & set(grids)])
    sides = [side for pair in comparisons(evidence) for side in pair] if evidence.epsilons else [evidence.cells]
    for row in epsilon_rows(evidence):
        top = evidence.trained.top(at_epsilon(row.epsilon, evidence.cells))
        if top is None or row.standing != OPEN or row.loss is None or row.loss.low >= (evidence.margin or 0.0):
            continue
        edge = evidence.edge(top)
        if edge is not None and edge.name in ("lowest", "highest") and edge.matters and not edge.is_unsure:
            sides.append([top])
    found: dict[AddedRate, None] = {}
    for own in sides:
        top = evidence.trained.top(own)
        if top is not None:
            cell, edge = top, evidence.edge(top)
            name = edge.name if edge else None
        elif own and all(cell.tally.complete for cell in own):
            cell, name = at_largest(own), "lowest"
        else:
            continue
        tried = [other.learning_rate for other in evidence.rates(cell)]
        for side in _SIDES[name] if name else ():
            beyond = (rate for rate in _ladder(rates, side) if rate > max(tried) or rate < min(tried))
            found |= {AddedRate(cell.epsilon, rate): None for rate in list(beyond)[:1]}
    return tuple(found)


def _ladder(rates: Sequence[float], side: int) -> Iterator[float]:
    """Yield the learning rates that follow a grid's above (`side` 1) or below (−1), as far apart as these on average.

    They are rounded to one digit where that changes them by less than 6 %, to two digits elsewhere. A single rate is
    followed by half decades.

    >>> list(_ladder([1e-3, 1e-2], 1)), list(_ladder([1e-3, 3e-3, 1e-2], 1)), list(_ladder([0.1], -1))
    ([0.1, 1.0, 10.0, 100.0], [0.03, 0.1, 0.3, 1.0], [0.03, 0.01, 0.003, 0.001])
    """
    low, high = min(rates), max(rates)
    step = (high / low) ** (1 / (len(rates) - 1)) if high > low else math.sqrt(10)
    for number in range(1, MAX_ADDED + 1):
        rate = high * step**number if side > 0 else low / step**number
        short = float(f"{rate:.1g}")
        yield short if abs(short / rate - 1) < 0.06 else float(f"{rate:.2g}")
