"""Are the paper's claims borne out? Each as a row: reproduced, not reproduced or undecided, with the numbers.

The claims are those of Silva & Rodriguez (arXiv 2311.11532) and of the questions their paper leaves open. A claim is
reproduced, or not, only where the statistics say so; where seeds are too few, a curve is flat or a run is missing, it
is undecided, and the row says why. Words that a claim leaves open ("near", "narrow", "orders of magnitude") are made
definite by the constants here and in `behaviour`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from epsgrid.report.behaviour import abruptness, full_adaptability, like_sgd
from epsgrid.report.judgement import Judgement, Run, undecided
from epsgrid.report.rows import ClaimRow, Comparison
from epsgrid.selection.cells import CONVENTIONAL, NARROWED, at_epsilon, best
from epsgrid.selection.difference import difference
from epsgrid.selection.formatting import power

_NARROWER = 2.0
"""Decades of the conventional grid per decade of the narrowed one, from which on it counts as two times narrower."""
_REPRESENTATIVE_DECADES = 1.0
"""How far bounds may move over a training for those of epoch 1 to stay representative."""
_APART_DECADES = 2.0
"""Between best ε of two tasks, from which on they differ by orders of magnitude."""

STATEMENTS = {
    "range": "the narrowed range contains the optimum",
    "narrower": "the narrowed range is at least two times narrower",
    "sgd": "tuned classification behaves like SGD with momentum",
    "adaptable": "language modelling prefers full adaptability",
    "epoch-1": "the percentiles of epoch 1 stay representative",
    "abrupt": "behaviour changes abruptly with ε",
    "varies": "the best ε differs by orders of magnitude between tasks",
}


def claims(runs: Sequence[Run]) -> tuple[ClaimRow, ...]:
    """Judge the claims by some runs, claim by claim.

    Args:
        runs: those of an optimizer with ε are judged; the others are what they are compared with. A claim about one
            kind of task has no row for a run of another kind, and none for a run that has trials at other batch sizes
            only.
    """
    judged = [
        run
        for run in runs
        if not run.is_reference
        and (run.comparison.cells or run.comparison.batches is None or run.comparison.batches.trained is None)
    ]
    judgements = [
        *(("range", run.name, _range(run.comparison)) for run in judged),
        *(("narrower", run.name, _narrower(run.comparison)) for run in judged),
        *(("sgd", run.name, like_sgd(run, runs)) for run in judged),
        *(("adaptable", run.name, full_adaptability(run.comparison)) for run in judged),
        *(("epoch-1", run.name, _epoch_1(run.comparison)) for run in judged),
        *(("abrupt", run.name, abruptness(run.comparison)) for run in judged),
    ]
    if len(judged) > 1:
        judgements.append(("varies", ", ".join(run.name for run in judged), _varies(judged)))
    return tuple(
        ClaimRow(claim, STATEMENTS[claim], found.answer, found.numbers, run)
        for claim, run, found in judgements
        if found is not None
    )


def _range(comparison: Comparison) -> Judgement:
    verdict = comparison.verdict
    if verdict.answer == "cannot tell":
        return undecided(verdict.reason)
    return Judgement("reproduced" if verdict.answer == "yes" else "not reproduced", verdict.reason)


def _narrower(comparison: Comparison) -> Judgement:
    ratio = comparison.decades_ratio
    if ratio is None:
        return undecided("both grids have to be swept to compare them")
    decades = {row.name: row.decades for row in comparison.grids}
    ends = f"{decades[CONVENTIONAL]} decades against {decades[NARROWED]}"
    numbers = f"{ends}: {ratio:.3g} times narrower; the conventional range is this program's own choice"
    return Judgement("reproduced" if ratio >= _NARROWER else "not reproduced", numbers)


def _epoch_1(comparison: Comparison) -> Judgement:
    moved = [(row.most_moved, row) for row in comparison.observed if row.most_moved is not None and row.snapshots > 1]
    if not moved:
        return undecided(
            "no trial that is shown kept snapshots of its magnitudes, or there is no probe to compare with"
        )
    decades, row = max(moved, key=lambda pair: pair[0])
    until = "" if row.last is None else f" over {row.last:g} epochs"
    numbers = f"a bound moved {decades:.1f} decades from the probe's at most{until} ({row.cell})"
    return Judgement("reproduced" if decades <= _REPRESENTATIVE_DECADES else "not reproduced", numbers)


@dataclass(frozen=True)
class _Optimum:
    """The ε that a run's statistics cannot tell from its best, rising, and a label that shows them."""

    task: str
    optimizer: str
    plausible: tuple[float, ...]
    label: str


def _varies(runs: Sequence[Run]) -> Judgement:
    """Compare the best ε of different tasks, optimizer by optimizer."""
    optima = [found for run in runs if (found := _optimum(run.comparison)) is not None]
    pairs = [
        (one, other)
        for one, other in itertools.combinations(optima, 2)
        if one.optimizer == other.optimizer and one.task != other.task
    ]
    if not pairs:
        return undecided("needs two tasks swept with the same optimizer, with at least two seeds each")
    shown = "; ".join(dict.fromkeys(found.label for pair in pairs for found in pair))
    at_least, at_most = [], []
    for pair in pairs:
        low, high = sorted(found.plausible for found in pair)
        at_least.append(max(math.log10(high[0] / low[-1]), 0.0))
        at_most.append(math.log10(max(*low, *high) / min(*low, *high)))
    if max(at_least) >= _APART_DECADES:
        return Judgement("reproduced", f"{max(at_least):.0f} decades lie between what is plausible: {shown}")
    if max(at_most) < _APART_DECADES:
        numbers = f"less than {_APART_DECADES:g} decades apart, whatever is plausible: {shown}"
        return Judgement("not reproduced", numbers)
    return undecided(f"what is plausible overlaps or lies too close together: {shown}")


def _optimum(comparison: Comparison) -> _Optimum | None:
    """Return the plausible ε of a run; None where nothing can be chosen or one seed has no spread."""
    top = best(comparison.cells, comparison.metric)
    if top.cell is None or top.cell.epsilon is None or top.cell.tally.done < 2:
        return None
    plausible = []
    for epsilon in sorted({cell.epsilon for cell in comparison.cells if cell.epsilon is not None}):
        choice = best(at_epsilon(epsilon, comparison.cells), comparison.metric)
        if choice.all_diverged or (choice.cell is not None and choice.cell.tally.diverged):
            continue
        gap = difference(top, choice, ("best", "other"), comparison.metric)
        if gap.low is None or gap.low <= 0:
            plausible.append(epsilon)
    label = (
        f"{comparison.task} ({comparison.optimizer}): ε {power(top.cell.epsilon)}, plausible {power(plausible[0])} to "
        f"{power(plausible[-1])}"
    )
    return _Optimum(comparison.task, comparison.optimizer, tuple(plausible), label)
