"""Are the paper's claims borne out? Each as a row: reproduced, not reproduced or undecided, with the numbers.

The claims are those of Silva & Rodriguez (arXiv 2311.11532) and of the questions their paper leaves open. A claim is
reproduced, or not, only where the statistics say so; where seeds are too few, a curve is flat or a run is missing, it
is undecided, and the row says why. What a claim leaves open ("near", "narrow", "orders of magnitude") is made definite
by the constants here and in `behaviour`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from epsgrid.report.behaviour import abruptness, full_adaptability, like_sgd
from epsgrid.report.cells import Choice, best
from epsgrid.report.judged import Finding, Run, undecided
from epsgrid.report.rows import TOLERANCE, Comparison
from epsgrid.report.verdict import difference
from epsgrid.report.words import power

NARROWER = 2.0
"""Decades of the conventional grid per decade of the narrowed one, from which on it counts as two times narrower."""
REPRESENTATIVE_DECADES = 1.0
"""How far bounds may move over a training for those of epoch 1 to stay representative."""
APART_DECADES = 2.0
"""Between best ε of two tasks, from which on they differ by orders of magnitude."""

Answer = Literal["reproduced", "not reproduced", "undecided"]


@dataclass(frozen=True)
class ClaimRow:
    """What one run, or all of them together, say about a claim.

    Attributes:
        claim: its short name.
        statement: what is claimed.
        answer: "reproduced", "not reproduced" or "undecided".
        numbers: what the answer rests on, or why there is none.
        run: whose numbers they are; several where they were compared.
    """

    claim: str
    statement: str
    answer: Answer
    numbers: str
    run: str


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
    """Return what some runs say about the claims, claim by claim.

    Args:
        runs: those of an optimizer with ε are judged; the others are what they are compared with. A claim about one
            kind of task has no row for a run of another kind, and none for a run that has only been carried to other
            batch sizes.
    """
    judged = [run for run in runs if not run.is_reference and not _only_carried(run.comparison)]
    rows: list[ClaimRow] = []
    for name, judge in _JUDGES.items():
        found = [(run, judge(run, runs)) for run in judged]
        rows += [_row(name, finding, run.name) for run, finding in found if finding is not None]
    if len(judged) > 1:
        rows.append(_row("varies", _varies(judged), ", ".join(run.name for run in judged)))
    return tuple(rows)


def _only_carried(comparison: Comparison) -> bool:
    return not comparison.cells and comparison.batches is not None and comparison.batches.trained is not None


def _row(name: str, found: Finding, run: str) -> ClaimRow:
    return ClaimRow(name, STATEMENTS[name], found.answer, found.numbers, run)


def _range(run: Run, runs: Sequence[Run]) -> Finding:
    verdict = run.comparison.verdict
    answers: dict[str, Answer] = {"yes": "reproduced", "no": "not reproduced"}
    return Finding(answers.get(verdict.answer, "undecided"), verdict.reason)


def _narrower(run: Run, runs: Sequence[Run]) -> Finding:
    ratio = run.comparison.decades_ratio
    if ratio is None:
        return undecided("both grids have to be swept to compare them")
    decades = {row.name: row.decades for row in run.comparison.grids}
    ends = f"{decades['conventional']} decades against {decades['narrowed']}"
    numbers = f"{ends}: {ratio:.3g} times narrower; the conventional range is this program's own choice"
    return Finding("reproduced" if ratio >= NARROWER else "not reproduced", numbers)


def _epoch_1(run: Run, runs: Sequence[Run]) -> Finding:
    seen = [row for row in run.comparison.observed if row.most_moved is not None and row.snapshots > 1]
    if not seen:
        return undecided(
            "no trial that is shown kept snapshots of its magnitudes, or there is no probe to compare with"
        )
    worst = max(seen, key=lambda row: row.most_moved or 0.0)
    assert worst.most_moved is not None
    until = "" if worst.last is None else f" over {worst.last:g} epochs"
    numbers = f"a bound moved {worst.most_moved:.1f} decades from the probe's at most{until} ({worst.cell})"
    return Finding("reproduced" if worst.most_moved <= REPRESENTATIVE_DECADES else "not reproduced", numbers)


_JUDGES = {
    "range": _range,
    "narrower": _narrower,
    "sgd": like_sgd,
    "adaptable": full_adaptability,
    "epoch-1": _epoch_1,
    "abrupt": abruptness,
}


@dataclass(frozen=True)
class _Optimum:
    """The best ε of a run, and those that its statistics cannot tell from it; rising."""

    run: Run
    epsilon: float
    plausible: tuple[float, ...]

    @property
    def words(self) -> str:
        span = f"{power(self.plausible[0])} to {power(self.plausible[-1])}"
        return (
            f"{self.run.comparison.task} ({self.run.comparison.optimizer}): ε {power(self.epsilon)}, plausible {span}"
        )


def _varies(runs: Sequence[Run]) -> Finding:
    """Compare the best ε of different tasks, optimizer by optimizer."""
    optima = [found for run in runs if (found := _optimum(run)) is not None]
    pairs = [
        pair
        for pair in itertools.combinations(optima, 2)
        if pair[0].run.comparison.optimizer == pair[1].run.comparison.optimizer
        and pair[0].run.comparison.task != pair[1].run.comparison.task
    ]
    if not pairs:
        return undecided("needs two tasks swept with the same optimizer, with at least two seeds each")
    shown = "; ".join(dict.fromkeys(found.words for pair in pairs for found in pair))
    apart = max(pairs, key=_decades_apart)
    if _decades_apart(apart) >= APART_DECADES:
        return Finding("reproduced", f"{_decades_apart(apart):.0f} decades lie between what is plausible: {shown}")
    if all(_could_be_at_most(pair) < APART_DECADES for pair in pairs):
        return Finding("not reproduced", f"less than {APART_DECADES:g} decades apart, whatever is plausible: {shown}")
    return undecided(f"what is plausible overlaps or lies too close together: {shown}")


def _decades_apart(pair: tuple[_Optimum, _Optimum]) -> float:
    """Return the decades between the plausible ε of two runs; 0 where they overlap."""
    one, other = sorted(pair, key=lambda found: found.plausible)
    return max(math.log10(other.plausible[0] / one.plausible[-1]), 0.0)


def _could_be_at_most(pair: tuple[_Optimum, _Optimum]) -> float:
    """Return the most decades that the best ε of two runs could be apart."""
    ends = [end for found in pair for end in (found.plausible[0], found.plausible[-1])]
    return math.log10(max(ends) / min(ends))


def _optimum(run: Run) -> _Optimum | None:
    """Return the best ε of a run and its rivals; None where nothing can be chosen or one seed has no spread."""
    comparison = run.comparison
    top = best(comparison.cells, comparison.metric)
    if top.cell is None or top.cell.epsilon is None or top.cell.tally.done < 2:
        return None
    epsilons = sorted({cell.epsilon for cell in comparison.cells if cell.epsilon is not None})
    plausible = tuple(epsilon for epsilon in epsilons if _is_rival(_at(epsilon, comparison), top, comparison))
    return _Optimum(run, top.cell.epsilon, plausible)


def _at(epsilon: float, comparison: Comparison) -> Choice:
    cells = [cell for cell in comparison.cells if math.isclose(cell.epsilon or 0.0, epsilon, rel_tol=TOLERANCE)]
    return best(cells, comparison.metric)


def _is_rival(choice: Choice, top: Choice, comparison: Comparison) -> bool:
    """Whether an ε may be as good as the best: it is not clearly worse, and did not diverge."""
    if choice.all_diverged or (choice.cell is not None and choice.cell.tally.diverged):
        return False
    gap = difference(top, choice, ("best", "other"), comparison.metric)
    return gap.low is None or gap.low <= 0
