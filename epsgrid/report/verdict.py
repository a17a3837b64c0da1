"""Does the best ε lie inside the bounds? Yes, no or cannot tell, and why, in one sentence.

Compared are I, the best trained cell inside the bounds' decades, and O, the best cell of the conventional grid outside
them. Both are chosen on the split that selects, and differ by their test metric, seed by seed. The 95 % interval of the
difference decides (Student's t): entirely on I's side is a yes, entirely on O's side a no. A curve that is flat, or too
few seeds, leaves zero inside the interval: that is no yes. A yes also needs every cell outside to be complete, since a
missing one might be the best; a no likewise needs every cell inside.

Divergence is the worst result. Where nothing outside trained on any seed, and I trained on all of at least two, the
answer is yes without an interval; and the other way round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from epsgrid.numerics.statistics import LEVEL, paired_difference
from epsgrid.report.cells import Cell, Choice, best
from epsgrid.report.words import Metric, count, gain, interval, score

Answer = Literal["yes", "no", "cannot tell"]


@dataclass(frozen=True)
class Difference:
    """How much better one cell is than another on the test metric, paired by seed.

    Attributes:
        mean: in the metric's good direction, in its stored unit; None where it is not known.
        low: lower end of the interval; None with fewer than two common seeds.
        high: upper end, likewise.
        n: common seeds.
        level: of the interval, in (0, 1).
        same_cell: both are the same cell, so that the difference is zero by definition.
        unknown: why it is not known; None where it is.
    """

    mean: float | None
    low: float | None
    high: float | None
    n: int
    level: float
    same_cell: bool
    unknown: str | None


@dataclass(frozen=True)
class Verdict:
    """Whether the best ε lies inside the bounds.

    Attributes:
        answer: "yes", "no" or "cannot tell".
        reason: why, in one sentence without full stop.
        inside: the best cell inside the bounds, in words; None where there is none.
        outside: the best conventional cell outside, likewise.
        difference: inside − outside; None where the two cannot be compared.
    """

    answer: Answer
    reason: str
    inside: str | None = None
    outside: str | None = None
    difference: Difference | None = None


def unknown_difference(why: str) -> Difference:
    """Return the difference of which only the reason why it is not known is known."""
    return Difference(None, None, None, 0, LEVEL, same_cell=False, unknown=why)


def difference(better: Choice, worse: Choice, names: tuple[str, str], metric: Metric | None) -> Difference:
    """Return by how much the first of two chosen cells beats the second on the test metric.

    Args:
        better: the first; the result is positive where it is better.
        worse: the second.
        names: what the two are called where a reason names them.
        metric: None while no trial has a result.
    """
    for choice, name in zip((better, worse), names, strict=True):
        if choice.cell is None:
            return unknown_difference(f"{name}: {choice.unknown}")
        if choice.cell.tally.diverged:
            shares = f"{choice.cell.tally.diverged} of {count(choice.cell.tally.trials, 'seed')}"
            return unknown_difference(f"{name}: the best cell, {choice.cell.words}, diverged on {shares}")
    assert better.cell is not None and worse.cell is not None and metric is not None
    first, second = better.cell.test_by_seed(), worse.cell.test_by_seed()
    if not first.keys() & second.keys():
        return unknown_difference(f"{names[0]} and {names[1]} share no seed with a test score")
    if better.cell is worse.cell:
        return Difference(0.0, 0.0, 0.0, len(first), LEVEL, same_cell=True, unknown=None)
    sign = metric.sign
    paired = paired_difference({k: sign * v for k, v in first.items()}, {k: sign * v for k, v in second.items()})
    ends = paired.mean, paired.low, paired.high, paired.n, paired.level
    return Difference(*ends, same_cell=False, unknown=None)


def judge(cells: Sequence[Cell], metric: Metric | None, *, obstacle: str | None) -> Verdict:
    """Say whether the best ε lies inside the bounds.

    Args:
        cells: all cells of the experiment.
        metric: None while no trial has a result.
        obstacle: why the question cannot be asked, such as bounds that were not measured; None where it can.
    """
    inside = [cell for cell in cells if cell.inside]
    outside = [cell for cell in cells if cell.inside is False and "conventional" in cell.grids]
    if why := obstacle or _nothing_to_compare(cells, inside, outside):
        return Verdict("cannot tell", why)
    ours, theirs = best(inside, metric), best(outside, metric)
    verdict = _by_divergence(ours, theirs) or _by_difference(ours, theirs, metric)
    return _if_nothing_is_missing(verdict, ours, theirs)


def _nothing_to_compare(cells: Sequence[Cell], inside: Sequence[Cell], outside: Sequence[Cell]) -> str | None:
    if not any("conventional" in cell.grids for cell in cells):
        return "the conventional grid was not swept, so there is nothing outside the bounds to compare with"
    if not outside:
        return "the bounds cover the whole conventional grid, so nothing lies outside them to compare with"
    if not inside:
        return "no ε inside the bounds is part of a grid"
    return None


def _by_divergence(ours: Choice, theirs: Choice) -> Verdict | None:
    """Answer where one side did not train at all, or neither did."""
    if ours.all_diverged and theirs.all_diverged:
        return Verdict("cannot tell", "every trial diverged, inside the bounds and outside")
    words = _side_words(ours, theirs)
    if theirs.all_diverged and ours.cell is not None:
        return Verdict(*_one_sided("yes", ours.cell, "outside"), *words)
    if ours.all_diverged and theirs.cell is not None:
        return Verdict(*_one_sided("no", theirs.cell, "inside"), *words)
    return None


def _one_sided(answer: Answer, trained: Cell, diverged: str) -> tuple[Answer, str]:
    """Return answer and reason where one side diverged and the other has a best cell."""
    seeds, lead = trained.tally, f"every trial {diverged} the bounds diverged"
    if seeds.diverged or seeds.done < 2:
        return (
            "cannot tell",
            f"{lead}, but {trained.words} trained on only {seeds.done} of {count(seeds.trials, 'seed')}",
        )
    return answer, f"{lead}, while {trained.words} trained on all {count(seeds.done, 'seed')}"


def _by_difference(ours: Choice, theirs: Choice, metric: Metric | None) -> Verdict:
    """Answer by the interval of the difference on the test metric."""
    gap = difference(ours, theirs, ("inside the bounds", "outside the bounds"), metric)
    words = _side_words(ours, theirs)
    if gap.unknown is not None:
        return Verdict("cannot tell", gap.unknown, *words, gap)
    assert metric is not None and gap.mean is not None
    if gap.low is None or gap.high is None:
        lead = f"{_side(ours, 'inside', metric)} against {_side(theirs, 'outside', metric)}"
        return Verdict("cannot tell", f"{lead} rest on one common seed, and one seed has no spread", *words, gap)
    sides = f"{_side(ours, 'inside', metric)}, {_side(theirs, 'outside', metric)}"
    ends = f"95 % interval of the difference {interval(gap.low, gap.high, metric)} over {count(gap.n, 'seed')}"
    if gap.low > 0:
        return Verdict("yes", f"{sides}: inside is better, {ends}", *words, gap)
    if gap.high < 0:
        return Verdict("no", f"{sides}: outside is better, {ends}", *words, gap)
    return Verdict("cannot tell", f"{sides}: {_why_open(ours, theirs, gap, metric)}, {ends}", *words, gap)


def _why_open(ours: Choice, theirs: Choice, gap: Difference, metric: Metric) -> str:
    """Say whether a flat curve or too few seeds leave zero inside the interval."""
    assert ours.cell is not None and theirs.cell is not None and gap.mean is not None
    spreads = [side.test.sd for side in (ours.cell, theirs.cell) if side.test and side.test.sd is not None]
    lead = f"a mean difference of {gain(gap.mean, metric)}{metric.difference_unit}"
    if abs(gap.mean) <= max(spreads, default=0.0):
        return f"{lead} is within the spread of the seeds, so the curve is flat here"
    return f"{lead} needs more than {count(gap.n, 'seed')} to tell from chance"


def _if_nothing_is_missing(verdict: Verdict, ours: Choice, theirs: Choice) -> Verdict:
    """Take back an answer that a missing trial could turn."""
    side, where = (theirs, "outside") if verdict.answer == "yes" else (ours, "inside")
    if verdict.answer == "cannot tell" or not side.incomplete:
        return verdict
    cells = f"{side.incomplete} of {count(side.candidates, 'cell')}"
    reason = (
        f"{cells} {where} the bounds lack trials and might hold the best; so far"
        f" the answer would be {verdict.answer}: {verdict.reason}"
    )
    return Verdict("cannot tell", reason, verdict.inside, verdict.outside, verdict.difference)


def _side_words(ours: Choice, theirs: Choice) -> tuple[str | None, str | None]:
    return ours.cell.words if ours.cell else None, theirs.cell.words if theirs.cell else None


def _side(choice: Choice, where: str, metric: Metric) -> str:
    assert choice.cell is not None
    test = choice.cell.test
    return f"best {where} ({choice.cell.words}) {score(test.mean if test else None, test.sd if test else None, metric)}"
