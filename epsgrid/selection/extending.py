"""Which learning rates to try beyond the grid's: where the best of a compared ε is the lowest or highest tried.

Also where none of them makes a difference.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from epsgrid.selection.cells import at_epsilon
from epsgrid.selection.deciding import comparisons
from epsgrid.selection.evidence import Evidence
from epsgrid.selection.trained import edge_of
from epsgrid.store.records import AddedRate

MAX_ADDED = 4
"""Learning rates that are added on one side of a grid at most."""
_SIDES = {"lowest": (-1,), "highest": (1,), "only": (-1, 1), "flat": (-1, 1)}


def rates_beyond(evidence: Evidence, grids: Sequence[str], rates: Sequence[float]) -> tuple[AddedRate, ...]:
    """Return the learning rates to try next; none where every best is inside, or enough were added.

    Looked at are the best settings, of `grids`, of both sides of each comparison. Where all settings of a side diverge,
    lower rates than the spec's `rates` are tried at its largest ε.
    """
    evidence = replace(evidence, cells=[cell for cell in evidence.cells if set(cell.grids) & set(grids)])
    sides = [side for pair in comparisons(evidence) for side in pair] if evidence.epsilons else [evidence.cells]
    found: dict[AddedRate, None] = {}
    for own in sides:
        top = evidence.trained.top(own)
        if top is not None:
            epsilon, edge = top.epsilon, "flat" if evidence.is_flat(top) else edge_of(top, evidence.cells)
        elif own and all(cell.tally.complete for cell in own):
            epsilon, edge = max((cell.epsilon for cell in own), key=lambda value: value or 0.0), "lowest"
        else:
            continue
        same = evidence.cells if epsilon is None else at_epsilon(epsilon, evidence.cells)
        tried = [cell.learning_rate for cell in same]
        for side in _SIDES[edge] if edge else ():
            beyond = (rate for rate in _ladder(rates, side) if rate > max(tried) or rate < min(tried))
            found |= {AddedRate(epsilon, rate): None for rate in list(beyond)[:1]}
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
