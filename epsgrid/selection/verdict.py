"""Does the best ε lie inside the bounds? Yes, no or cannot tell, and why, in one sentence.

Compared are I, the best trained cell inside the bounds' decades, and O, the best cell of the conventional grid outside
them. Both are chosen on the split that selects, and differ by their test metric, seed by seed. The 95 % interval of the
difference decides (Student's t, or the bootstrap from eight seeds on): entirely on I's side is a yes, entirely on O's
side a no. A curve that is flat, or too few seeds, leaves zero inside the interval: that is no yes. A yes also needs
every cell outside to be complete, since a missing one might be the best; a no needs every cell inside.

Divergence is the worst result. Where nothing outside trained on any seed, and I trained on all of at least two, the
answer is yes without an interval; and the other way round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from epsgrid.selection.cells import CONVENTIONAL, Cell, Choice, Difference, best, difference, of_grid
from epsgrid.selection.formatting import NOTHING, Metric, count, gain, interval, score

Answer = Literal["yes", "no", "cannot tell"]


@dataclass(frozen=True)
class Verdict:
    """Whether the best ε lies inside the bounds.

    Attributes:
        reason: why, in one sentence without full stop.
        inside, outside: labels of the best cell inside the bounds and of the best conventional one outside; None where
            there is none.
        difference: inside − outside; None where the two cannot be compared.
    """

    answer: Answer
    reason: str
    inside: str | None = None
    outside: str | None = None
    difference: Difference | None = None


def judge(cells: Sequence[Cell], metric: Metric | None, *, obstacle: str | None) -> Verdict:
    """Decide whether the best ε lies inside the bounds.

    Args:
        cells: all cells of the experiment.
        metric: None while no trial has a result.
        obstacle: why the question cannot be asked, such as bounds that were not measured; None where it can.
    """
    conventional = of_grid(CONVENTIONAL, cells)
    inside = [cell for cell in cells if cell.inside]
    outside = [cell for cell in conventional if cell.inside is False]
    if obstacle is not None:
        return Verdict("cannot tell", obstacle)
    if not conventional:
        reason = "the conventional grid was not swept, so there is nothing outside the bounds to compare with"
        return Verdict("cannot tell", reason)
    if not outside:
        reason = "the bounds cover the whole conventional grid, so nothing lies outside them to compare with"
        return Verdict("cannot tell", reason)
    if not inside:
        return Verdict("cannot tell", "no ε inside the bounds is part of a grid")
    ours, theirs = best(inside, metric), best(outside, metric)
    if ours.all_diverged and theirs.all_diverged:
        return Verdict("cannot tell", "every trial diverged, inside the bounds and outside")
    if theirs.all_diverged and ours.cell is not None:
        verdict = _one_sided("yes", ours.cell, "outside")
    elif ours.all_diverged and theirs.cell is not None:
        verdict = _one_sided("no", theirs.cell, "inside")
    else:
        verdict = _by_difference(ours, theirs, metric)
    labels = [choice.cell.label if choice.cell else None for choice in (ours, theirs)]
    verdict = replace(verdict, inside=labels[0], outside=labels[1])
    side, where = (theirs, "outside") if verdict.answer == "yes" else (ours, "inside")
    if verdict.answer == "cannot tell" or not side.incomplete:
        return verdict
    reason = (  # a missing trial could turn the answer
        f"{side.incomplete} of {count(side.candidates, 'cell')} {where} the bounds lack trials and might hold the best;"
        f" so far the answer would be {verdict.answer}: {verdict.reason}"
    )
    return replace(verdict, answer="cannot tell", reason=reason)


def _one_sided(answer: Answer, trained: Cell, diverged: str) -> Verdict:
    """Answer where one side diverged and the other has a best cell."""
    seeds, lead = trained.tally, f"every trial {diverged} the bounds diverged"
    if seeds.diverged or seeds.done < 2:
        reason = f"{lead}, but {trained.label} trained on only {seeds.done} of {count(seeds.trials, 'seed')}"
        return Verdict("cannot tell", reason)
    return Verdict(answer, f"{lead}, while {trained.label} trained on all {count(seeds.done, 'seed')}")


def _by_difference(ours: Choice, theirs: Choice, metric: Metric | None) -> Verdict:
    """Answer by the interval of the difference on the test metric."""
    gap = difference(ours, theirs, ("inside the bounds", "outside the bounds"), metric)
    if gap.unknown is not None:
        return Verdict("cannot tell", gap.unknown, difference=gap)
    assert ours.cell is not None and theirs.cell is not None and metric is not None and gap.mean is not None
    inside, outside = (
        f"best {where} ({cell.label}) {score(cell.test.mean, cell.test.sd, metric) if cell.test else NOTHING}"
        for where, cell in (("inside", ours.cell), ("outside", theirs.cell))
    )
    if gap.low is None or gap.high is None:
        reason = f"{inside} against {outside} rest on one common seed, and one seed has no spread"
        return Verdict("cannot tell", reason, difference=gap)
    ends = f"95 % interval of the difference {interval(gap.low, gap.high, metric)} over {count(gap.n, 'seed')}"
    if gap.low > 0:
        return Verdict("yes", f"{inside}, {outside}: inside is better, {ends}", difference=gap)
    if gap.high < 0:
        return Verdict("no", f"{inside}, {outside}: outside is better, {ends}", difference=gap)
    mean = f"a mean difference of {gain(gap.mean, metric)}{metric.difference_unit}"
    spreads = [cell.test.sd for cell in (ours.cell, theirs.cell) if cell.test and cell.test.sd is not None]
    if abs(gap.mean) <= max(spreads, default=0.0):
        why = f"{mean} is within the spread of the seeds, so the curve is flat here"
    else:
        why = f"{mean} needs more than {count(gap.n, 'seed')} to tell from chance"
    return Verdict("cannot tell", f"{inside}, {outside}: {why}, {ends}", difference=gap)
