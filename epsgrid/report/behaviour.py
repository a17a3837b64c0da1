"""How the optimizer behaves at the ε that is best: as SGD with momentum, fully adaptable, or in between.

An entry adapts where √v̂ lies above the ε of its optimizer. A share of the entries near 0 means SGD with momentum under
another name, a share near 1 full adaptability.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from epsgrid.numerics.fits import Step, fit_step
from epsgrid.report.judgement import Judgement, Run, undecided
from epsgrid.report.rows import AdaptiveRow, Comparison
from epsgrid.report.table import percent
from epsgrid.selection.cells import NARROWED, REFERENCE, TOLERANCE, Cell, Choice, best
from epsgrid.selection.difference import Difference, difference
from epsgrid.selection.formatting import Metric, gain, interval, power

_NEAR_ZERO, _NEAR_ONE = 0.05, 0.95
"""Shares of adaptable entries that count as none and as all."""
_EQUAL_POINTS, _EQUAL_SHARE = 0.01, 0.02
"""Metrics closer than a percentage point, or than 2 % of a metric without a unit, count as equal within noise."""
_ABRUPT_DECADES = 2.0
"""Width of the change, from 10 to 90 % of the way, up to which it counts as abrupt."""
_ONE_STEP = 0.9
"""Share of a curve's variance that one step must explain to describe it."""
_LEAST_POINTS = 6


def like_sgd(run: Run, runs: Sequence[Run]) -> Judgement | None:
    """Judge that tuned classification behaves like SGD with momentum: few entries adapt, and the metric is the same.

    Returns:
        None where the metric tells that the task is no classification.
    """
    comparison, metric = run.comparison, run.comparison.metric
    if metric is None:
        return undecided("no trial has finished")
    if metric.name != "accuracy":
        return None
    tuned = best([cell for cell in comparison.cells if cell.epsilon is not None], metric)
    if tuned.cell is None:
        return undecided(f"no setting can be chosen: {tuned.unknown}")
    share, source = _share(tuned.cell, comparison)
    if share is None:
        return undecided("the share of adaptable entries is not known: no probe")
    where = f"{source} at the best setting, {tuned.cell.words}"
    if share > _NEAR_ZERO:
        few = [
            cell for cell in comparison.cells if (own := _share(cell, comparison)[0]) is not None and own <= _NEAR_ZERO
        ]
        if not few:
            return undecided(f"{where}; no ε was swept at which hardly any entry adapts")
        gap = difference(tuned, best(few, metric), ("best", "few adapt"), metric)
        ends = _ends(gap, metric)
        if gap.low is not None and gap.low > 0:
            return Judgement("not reproduced", f"{where}; ε at which hardly any entry adapts are worse, {ends}")
        return undecided(f"{where}; but ε at which hardly any entry adapts may be as good: {ends}")
    reference = next((other for other in runs if other.is_reference and other.setting == run.setting), None)
    if reference is None:
        return undecided(
            f"{where}; no run of sgdm on the same task, model, data and training is among those compared, so there is "
            "no metric to compare with"
        )
    return _equal(tuned, reference, metric, where)


def _equal(tuned: Choice, reference: Run, metric: Metric, where: str) -> Judgement:
    """Judge whether two metrics are equal within noise: the interval of their difference lies within a margin."""
    row = reference.comparison.best_of(REFERENCE)
    if row is None or row.choice.cell is None or reference.comparison.metric != metric:
        return undecided(f"{where}; {reference.name} has no setting to compare with")
    gap = difference(tuned, row.choice, ("tuned", "sgdm"), metric)
    if gap.low is None or gap.high is None:
        return undecided(f"{where}; against {reference.name}: {gap.unknown or 'one common seed has no spread'}")
    score = row.choice.cell.test.mean if row.choice.cell.test else 0.0
    margin = _EQUAL_POINTS if metric.unit else _EQUAL_SHARE * abs(score)
    ends = f"{where}; tuned − sgdm ({reference.name}) {interval(gap.low, gap.high, metric)}"
    allowed = f"margin ±{gain(margin, metric).lstrip('+')}{metric.difference_unit}"
    if -margin <= gap.low and gap.high <= margin:
        return Judgement("reproduced", f"{ends}, within the {allowed}")
    if gap.low > margin or gap.high < -margin:
        return Judgement("not reproduced", f"{ends}, beyond the {allowed}")
    return undecided(f"{ends}, neither within nor beyond the {allowed}")


def full_adaptability(comparison: Comparison) -> Judgement | None:
    """Judge that language modelling prefers full adaptability: ε at which nearly all entries adapt beat the others.

    Returns:
        None where the metric tells that the task is not one of language.
    """
    metric = comparison.metric
    if metric is None:
        return undecided("no trial has finished")
    if metric.name == "accuracy":
        return None
    probed = [(cell, _probed(cell, comparison)) for cell in comparison.cells]
    full = [cell for cell, row in probed if row is not None and row.of_moving >= _NEAR_ONE]
    rest = [cell for cell, row in probed if row is not None and row.of_moving < _NEAR_ONE]
    if not full or not rest:
        return undecided(
            "needs ε at which nearly all entries adapt, and others: with the probe and the conventional grid"
        )
    ours, theirs = best(full, metric), best(rest, metric)
    gap = difference(ours, theirs, ("full adaptability", "less"), metric)
    if gap.mean is None or ours.cell is None or theirs.cell is None:
        return undecided(f"{gap.unknown}")
    numbers = (
        f"best with at least {percent(_NEAR_ONE)} of the non-zero entries adapting: {ours.cell.words}; best of the"
        f" rest: {theirs.cell.words}; difference {_ends(gap, metric)}"
    )
    if gap.low is not None and gap.low > 0 and not theirs.incomplete:
        return Judgement("reproduced", numbers)
    if gap.high is not None and gap.high < 0 and not ours.incomplete:
        return Judgement("not reproduced", numbers)
    return undecided(numbers)


def abruptness(comparison: Comparison) -> Judgement:
    """Judge that behaviour changes abruptly with ε: a step of the metric over log10 ε, fitted, is narrow."""
    metric, top = comparison.metric, best(comparison.cells, comparison.metric).cell
    if metric is None or top is None:
        return undecided("no setting can be chosen" if metric else "no trial has finished")
    scores = [
        (cell.epsilon, cell.test)
        for cell in comparison.cells
        if cell.learning_rate == top.learning_rate and cell.epsilon is not None and cell.test is not None
    ]
    if len(scores) < _LEAST_POINTS:
        return undecided(f"{len(scores)} ε with a score at the best learning rate are too few to fit a step")
    means, sds = [test.mean for _, test in scores], [test.sd for _, test in scores if test.sd is not None]
    if max(means) - min(means) <= 2 * max(sds, default=0.0):
        return undecided("the curve is flat: its range is within the spread of the seeds")
    if metric.direction == "min" and not metric.unit and min(means) > 0:  # a perplexity counts on a log scale
        means = [math.log10(mean) for mean in means]
    epsilons = [math.log10(epsilon) for epsilon, _ in scores]
    side, step = _fitted([(x, metric.sign * y) for x, y in zip(epsilons, means, strict=True)])
    if step is None or step.explained < _ONE_STEP:
        share = "none could be fitted" if step is None else f"R² = {step.explained:.2f}"
        return undecided(f"no single step describes the curve ({share})")
    places = f"{power(10**step.centre_low)} to {power(10**step.centre_high)}"
    widths = f"{step.width_low:.1f} to {step.width_high:.1f}"
    numbers = (
        f"{side}: half-way at ε {power(10**step.centre)} ({places}), 10 to 90 % within {step.width:.1f} decades "
        f"({widths}), R² = {step.explained:.2f}, lr {power(top.learning_rate)}"
    )
    if step.width_high <= _ABRUPT_DECADES:
        return Judgement("reproduced", numbers)
    if step.width_low > _ABRUPT_DECADES:
        return Judgement("not reproduced", numbers)
    return undecided(numbers)


def _fitted(points: Sequence[tuple[float, float]]) -> tuple[str, Step | None]:
    """Fit a step to the whole curve, or where it rises and falls, to the larger of its two sides."""
    whole = _fit(points)
    if whole is not None and whole.explained >= _ONE_STEP:
        return "whole curve", whole
    top = max(points, key=lambda point: point[1])
    sides = {
        "above the best ε": [point for point in points if point[0] >= top[0]],
        "below the best ε": [point for point in points if point[0] <= top[0]],
    }
    side = max(sides, key=lambda name: top[1] - min(value for _, value in sides[name]))
    if len(sides[side]) < _LEAST_POINTS:
        return "whole curve", whole
    return side, _fit(sides[side])


def _fit(points: Sequence[tuple[float, float]]) -> Step | None:
    return fit_step([x for x, _ in points], [y for _, y in points])


def _share(cell: Cell, comparison: Comparison) -> tuple[float | None, str]:
    """Return the share of adaptable entries at a cell, as seen in training where it was, and what it is a share of."""
    for row in comparison.observed:
        if row.name == NARROWED and row.cell == cell.words and row.adaptable_last is not None:
            return row.adaptable_last, f"{percent(row.adaptable_last)} of the entries adapt at the end of training"
    probed = _probed(cell, comparison)
    if probed is None:
        return None, ""
    return probed.share, f"{percent(probed.share)} of the entries adapt, by the probe,"


def _probed(cell: Cell, comparison: Comparison) -> AdaptiveRow | None:
    """Return the share of adapting entries that the probe measured at a cell's ε."""
    epsilon = cell.epsilon
    if epsilon is None:
        return None
    return next((row for row in comparison.adaptive if math.isclose(row.epsilon, epsilon, rel_tol=TOLERANCE)), None)


def _ends(gap: Difference, metric: Metric) -> str:
    """Write a difference with its interval."""
    if gap.mean is None:
        return f"not known: {gap.unknown}"
    mean = f"{gain(gap.mean, metric)}{metric.difference_unit}"
    if gap.low is None or gap.high is None:
        return f"{mean}, one seed has no spread"
    return f"{mean} ({interval(gap.low, gap.high, metric)})"
