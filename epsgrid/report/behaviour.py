"""How the optimizer behaves at the ε that is best: as SGD with momentum, fully adaptable, or in between.

An entry adapts where √v̂ lies above the ε of its optimizer. A share of the entries near 0 means SGD with momentum under
another name, a share near 1 full adaptability.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from epsgrid.numerics.fits import Step, fit_step
from epsgrid.report.cells import Cell, Choice, best
from epsgrid.report.judged import Finding, Run, undecided
from epsgrid.report.rows import NARROWED, REFERENCE, TOLERANCE, AdaptiveRow, Comparison
from epsgrid.report.table import percent
from epsgrid.report.verdict import Difference, difference
from epsgrid.report.words import Metric, gain, interval, power

NEAR_ZERO, NEAR_ONE = 0.05, 0.95
"""Shares of adaptable entries that count as none and as all."""
EQUAL_POINTS, EQUAL_SHARE = 0.01, 0.02
"""Metrics closer than a percentage point, or than 2 % of a metric without a unit, count as equal within noise."""
ABRUPT_DECADES = 2.0
"""Width of the change, from 10 to 90 % of the way, up to which it counts as abrupt."""
_ONE_STEP = 0.9
"""Share of a curve's variance that one step must explain to describe it."""
_LEAST_POINTS = 6


def like_sgd(run: Run, runs: Sequence[Run]) -> Finding | None:
    """Judge that tuned classification behaves like SGD with momentum: few entries adapt, and the metric is the same.

    Returns:
        None where the task is no classification, as far as its metric tells.
    """
    comparison = run.comparison
    if comparison.metric is None:
        return undecided("no trial has finished")
    if comparison.metric.name != "accuracy":
        return None
    tuned = best([cell for cell in comparison.cells if cell.epsilon is not None], comparison.metric)
    if tuned.cell is None:
        return undecided(f"no setting can be chosen: {tuned.unknown}")
    share, told = _share(tuned.cell, comparison)
    if share is None:
        return undecided("the share of adaptable entries is not known: no probe")
    where = f"{told} at the best setting, {tuned.cell.words}"
    reference = next((other for other in runs if other.is_reference and other.setting == run.setting), None)
    if share > NEAR_ZERO:
        return _unless_flat(comparison, tuned, where)
    if reference is None:
        return undecided(
            f"{where}; no run of sgdm on the same task, model, data and training is among those compared, so there is "
            "no metric to compare with"
        )
    return _equal(tuned, reference, comparison.metric, where)


def _unless_flat(comparison: Comparison, tuned: Choice, where: str) -> Finding:
    """Refute the claim where many entries adapt at the best ε, unless an ε where few do is as good."""
    few = [
        cell for cell in comparison.cells if (share := _share(cell, comparison)[0]) is not None and share <= NEAR_ZERO
    ]
    if not few:
        return undecided(f"{where}; no ε was swept at which hardly any entry adapts")
    gap = difference(tuned, best(few, comparison.metric), ("best", "few adapt"), comparison.metric)
    if gap.low is not None and gap.low > 0:
        return Finding(
            "not reproduced", f"{where}; ε at which hardly any entry adapts are worse, {_ends(gap, comparison)}"
        )
    return undecided(f"{where}; but ε at which hardly any entry adapts may be as good: {_ends(gap, comparison)}")


def _equal(tuned: Choice, reference: Run, metric: Metric, where: str) -> Finding:
    """Judge whether two metrics are equal within noise: the interval of their difference lies within a margin."""
    row = reference.comparison.best_of(REFERENCE)
    if row is None or row.choice.cell is None or reference.comparison.metric != metric:
        return undecided(f"{where}; {reference.name} has no setting to compare with")
    gap = difference(tuned, row.choice, ("tuned", "sgdm"), metric)
    if gap.low is None or gap.high is None:
        return undecided(f"{where}; against {reference.name}: {gap.unknown or 'one common seed has no spread'}")
    score = row.choice.cell.test.mean if row.choice.cell.test else 0.0
    margin = EQUAL_POINTS if metric.unit else EQUAL_SHARE * abs(score)
    ends = f"{where}; tuned − sgdm ({reference.name}) {interval(gap.low, gap.high, metric)}"
    allowed = f"margin ±{gain(margin, metric).lstrip('+')}{metric.difference_unit}"
    if -margin <= gap.low and gap.high <= margin:
        return Finding("reproduced", f"{ends}, within the {allowed}")
    if gap.low > margin or gap.high < -margin:
        return Finding("not reproduced", f"{ends}, beyond the {allowed}")
    return undecided(f"{ends}, neither within nor beyond the {allowed}")


def full_adaptability(run: Run, runs: Sequence[Run]) -> Finding | None:
    """Judge that language modelling prefers full adaptability: ε at which nearly all entries adapt beat the others.

    Returns:
        None where the task is not one of language, as far as its metric tells.
    """
    comparison = run.comparison
    if comparison.metric is None:
        return undecided("no trial has finished")
    if comparison.metric.name == "accuracy":
        return None
    probed = [(cell, _probed(cell, comparison)) for cell in comparison.cells]
    full = [cell for cell, row in probed if row is not None and row.of_moving >= NEAR_ONE]
    rest = [cell for cell, row in probed if row is not None and row.of_moving < NEAR_ONE]
    if not full or not rest:
        return undecided(
            "needs ε at which nearly all entries adapt, and others: with the probe and the conventional grid"
        )
    ours, theirs = best(full, comparison.metric), best(rest, comparison.metric)
    gap = difference(ours, theirs, ("full adaptability", "less"), comparison.metric)
    if gap.mean is None or ours.cell is None or theirs.cell is None:
        return undecided(f"{gap.unknown}")
    words = (
        f"best with at least {percent(NEAR_ONE)} of the non-zero entries adapting: {ours.cell.words}; best of the"
        f" rest: {theirs.cell.words}; difference {_ends(gap, comparison)}"
    )
    if gap.low is not None and gap.low > 0 and not theirs.incomplete:
        return Finding("reproduced", words)
    if gap.high is not None and gap.high < 0 and not ours.incomplete:
        return Finding("not reproduced", words)
    return undecided(words)


def abruptness(run: Run, runs: Sequence[Run]) -> Finding:
    """Judge that behaviour changes abruptly with ε: a step of the metric over log10 ε, fitted, is narrow."""
    comparison = run.comparison
    top = best(comparison.cells, comparison.metric)
    if comparison.metric is None or top.cell is None:
        return undecided("no setting can be chosen" if comparison.metric else "no trial has finished")
    cells = [
        cell
        for cell in comparison.cells
        if cell.learning_rate == top.cell.learning_rate and cell.epsilon is not None and cell.test is not None
    ]
    if len(cells) < _LEAST_POINTS:
        return undecided(f"{len(cells)} ε with a score at the best learning rate are too few to fit a step")
    if _is_flat(cells):
        return undecided("the curve is flat: its range is within the spread of the seeds")
    side, step = _fitted(cells, comparison.metric)
    if step is None or step.explained < _ONE_STEP:
        share = "none could be fitted" if step is None else f"R² = {step.explained:.2f}"
        return undecided(f"no single step describes the curve ({share})")
    places = f"{power(10**step.centre_low)} to {power(10**step.centre_high)}"
    widths = f"{step.width_low:.1f} to {step.width_high:.1f}"
    where = (
        f"{side}: half-way at ε {power(10**step.centre)} ({places}), 10 to 90 % within {step.width:.1f} decades "
        f"({widths}), R² = {step.explained:.2f}, lr {power(top.cell.learning_rate)}"
    )
    if step.width_high <= ABRUPT_DECADES:
        return Finding("reproduced", where)
    if step.width_low > ABRUPT_DECADES:
        return Finding("not reproduced", where)
    return undecided(where)


def _fitted(cells: Sequence[Cell], metric: Metric) -> tuple[str, Step | None]:
    """Fit a step to the whole curve, or where it rises and falls, to the larger of its two sides."""
    points = [(math.log10(cell.epsilon or 1.0), _value(cell, metric)) for cell in cells]
    whole = _fit(points)
    if whole is not None and whole.explained >= _ONE_STEP:
        return "whole curve", whole
    top = max(points, key=lambda point: point[1])
    sides = {
        "above the best ε": [point for point in points if point[0] >= top[0]],
        "below the best ε": [point for point in points if point[0] <= top[0]],
    }
    side = max(sides, key=lambda name: top[1] - min(value for _, value in sides[name]))
    return (side, _fit(sides[side])) if len(sides[side]) >= _LEAST_POINTS else ("whole curve", whole)


def _fit(points: Sequence[tuple[float, float]]) -> Step | None:
    return fit_step([x for x, _ in points], [y for _, y in points])


def _value(cell: Cell, metric: Metric) -> float:
    """Return a cell's mean test score, larger for better; on a log scale where it is a perplexity."""
    assert cell.test is not None
    is_logarithmic = metric.direction == "min" and not metric.unit and cell.test.mean > 0
    return metric.sign * (math.log10(cell.test.mean) if is_logarithmic else cell.test.mean)


def _is_flat(cells: Sequence[Cell]) -> bool:
    means = [cell.test.mean for cell in cells if cell.test]
    spreads = [cell.test.sd for cell in cells if cell.test and cell.test.sd is not None]
    return max(means) - min(means) <= 2 * max(spreads, default=0.0)


def _share(cell: Cell, comparison: Comparison) -> tuple[float | None, str]:
    """Return the share of adaptable entries at a cell, as seen in training where it was, and in words."""
    for row in comparison.observed:
        if row.name == NARROWED and row.cell == cell.words and row.adaptable_last is not None:
            return row.adaptable_last, f"{percent(row.adaptable_last)} of the entries adapt at the end of training"
    probed = _probed(cell, comparison)
    return (
        (None, "") if probed is None else (probed.share, f"{percent(probed.share)} of the entries adapt, by the probe,")
    )


def _probed(cell: Cell, comparison: Comparison) -> AdaptiveRow | None:
    """Return what the probe says of the entries that adapt at a cell's ε."""
    if cell.epsilon is None:
        return None
    rows = (row for row in comparison.adaptive if math.isclose(row.epsilon, cell.epsilon or 0.0, rel_tol=TOLERANCE))
    return next(rows, None)


def _ends(gap: Difference, comparison: Comparison) -> str:
    """Write a difference with its interval."""
    if gap.mean is None or comparison.metric is None:
        return f"not known: {gap.unknown}"
    mean = f"{gain(gap.mean, comparison.metric)}{comparison.metric.difference_unit}"
    if gap.low is None or gap.high is None:
        return f"{mean}, one seed has no spread"
    return f"{mean} ({interval(gap.low, gap.high, comparison.metric)})"
