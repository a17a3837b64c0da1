"""Are the paper's claims borne out? Each as a row: reproduced, not reproduced or undecided, with the numbers.

The claims are those of Silva & Rodriguez (arXiv 2311.11532) and of the questions their paper leaves open. Where seeds
are too few, a curve is flat or a run is missing, a claim is undecided, and the row says why. The constants here make
definite what it leaves open ("near", "narrow", "orders of magnitude").
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, Literal

from epsgrid.grids import CONVENTIONAL, NARROWED, REFERENCE
from epsgrid.numerics.fits import Step, fit_step
from epsgrid.report.rows import AdaptiveRow, ClaimRow, Comparison
from epsgrid.selection.answers import COSTS, NO_COST
from epsgrid.selection.cells import TOLERANCE, Cell, Choice, at_epsilon, best, difference
from epsgrid.selection.evidence import Evidence
from epsgrid.selection.formatting import Metric, amounts, count, interval, percent, power
from epsgrid.selection.load import StoredExperiment

if TYPE_CHECKING:
    from epsgrid.numerics.layout import Loss

_YOUR_LIST = "the narrowed grid is a list of your own, and not the measured range"


@dataclass(frozen=True)
class _Judgement:
    """An answer to a claim, and the numbers it rests on, or why there is none."""

    answer: Literal["reproduced", "not reproduced", "undecided"]
    numbers: str


@dataclass(frozen=True)
class Run:
    """An experiment among those that claims are judged by; its optimizer has no ε where it is a reference.

    `setting` is a hash that experiments share where they differ in nothing but the optimizer.
    """

    name: str
    comparison: Comparison
    evidence: Evidence
    setting: str
    is_reference: bool

    def with_all_seeds(self, choice: Choice) -> Choice:
        """Return a chosen setting with the fresh seeds, too, where it was trained with any."""
        if choice.cell is None:
            return choice
        own = (choice.cell.learning_rate, choice.cell.epsilon)
        more = (cell for cell in self.evidence.contenders if (cell.learning_rate, cell.epsilon) == own)
        return replace(choice, cell=next(more, choice.cell))


def _undecided(why: str) -> _Judgement:
    return _Judgement("undecided", why)


def run_of(stored: StoredExperiment, comparison: Comparison, evidence: Evidence) -> Run:
    """Return an experiment as a run, named as the experiment."""
    has_epsilon = stored.grid is None or not stored.grid.cells or any(c.epsilon is not None for c in stored.grid.cells)
    known = (result.identity for result in stored.results.values() if "task" in result.identity)
    asked = next(known, None) or {**stored.experiment.spec, "data": stored.experiment.data_checksum}
    common = json.dumps([asked.get(part) for part in ("task", "model", "training", "data")], sort_keys=True)
    setting = hashlib.sha256(common.encode()).hexdigest()
    return Run(comparison.experiment, comparison, evidence, setting, is_reference=not has_epsilon)


_NARROWER = 2.0  # decades of the conventional grid per decade of the narrowed one
_REPRESENTATIVE_DECADES = 1.0  # how far bounds may move over a training for those of epoch 1 to stay representative
_APART_DECADES = 2.0  # between best ε of two tasks, from which on they differ by orders of magnitude

_STATEMENTS = {
    "range": "the narrowed range contains the optimum",
    "narrower": "the narrowed range is at least two times narrower",
    "sgd": "tuned classification behaves like SGD with momentum",
    "adaptable": "language modelling prefers full adaptability",
    "epoch-1": "the percentiles of epoch 1 stay representative",
    "abrupt": "behaviour changes abruptly with ε",
    "varies": "the best ε differs by orders of magnitude between tasks",
}
_LANGUAGE = ("perplexity", "bleu")
_NEAR_ZERO, _NEAR_ONE = 0.05, 0.95  # shares of adaptable entries that count as none and as all
_ABRUPT_DECADES = 2.0  # width of the change in √v̂ units, from 10 to 90 % of the way, up to which it counts as abrupt
_ONE_STEP = 0.9  # share of a curve's variance that one step must explain to describe it
_LEAST_POINTS = 6
_BY_CHANCE = 3.0  # spreads of a training: a dozen means of three seeds lie 1.9 ± 0.4 of them apart


def _like_sgd(run: Run, runs: Sequence[Run]) -> _Judgement | None:
    """Judge whether hardly any entry has to adapt; None where the task is no classification.

    It need not where few entries adapt at the best ε and momentum SGD scores the same, or where ε at which hardly any
    adapts lose less than the margin.
    """
    comparison, metric = run.comparison, run.comparison.metric
    if metric is None:
        return _undecided("no trial has finished")
    if metric.name != "accuracy":
        return None
    tuned = best([cell for cell in comparison.cells if cell.epsilon is not None], metric)
    if tuned.cell is None:
        return _undecided(f"no setting can be chosen: {tuned.unknown}")
    share, source = _share(tuned.cell, comparison)
    if share is None:
        return _undecided("the share of adaptable entries is not known: no probe")
    where = f"{source} at the best setting, {tuned.cell.label}"
    same = (other for other in runs if other.setting == run.setting)
    reference = next((other for other in same if other.comparison.optimizer == "sgdm"), None)
    if share > _NEAR_ZERO:
        judged = _without_adapting(run, metric, where)
        if judged.answer != "undecided" or reference is None:
            return judged
    if reference is None:
        return _undecided(
            f"{where}; no run of sgdm on the same task, model, data and training is among those compared, so there is "
            "no metric to compare with"
        )
    return _equal(run, tuned, reference, metric, where)


def _without_adapting(run: Run, metric: Metric, where: str) -> _Judgement:
    """Judge whether ε at which hardly any entry adapts lose less than the margin."""
    comparison = run.comparison
    few = [cell for cell in comparison.cells if (own := _share(cell, comparison)[0]) is not None and own <= _NEAR_ZERO]
    if not few:
        return _undecided(f"{where}; no ε was swept at which hardly any entry adapts")
    rest = run.evidence.without(few)
    gap = run.evidence.loss(rest, few)
    if gap is None or gap.n < 2:
        return _undecided(f"{where}; but ε at which hardly any entry adapts may be as good")
    ends = _bounds_of(gap, metric)
    if gap.high < (comparison.answers.margin or 0.0):
        text = f"{where}; but ε at which hardly any entry adapts are as good within the margin: they lose {ends}"
        return _at_their_best(_Judgement("reproduced", text), (run, rest))
    if gap.low > 0:
        text = f"{where}; ε at which hardly any entry adapts lose {ends}"
        return _at_their_best(_Judgement("not reproduced", text), (run, few))
    return _undecided(f"{where}; but ε at which hardly any entry adapts may be as good: they lose {ends}")


def _at_their_best(judged: _Judgement, *turning: tuple[Run, Sequence[Cell]]) -> _Judgement:
    """Return a judgement unless the best of some settings, had it a better learning rate, might turn it."""
    note = next(filter(None, (run.evidence.open_note(cells) for run, cells in turning)), "")
    return _undecided(f"{judged.numbers}; but {note}") if note else judged


def _equal(run: Run, tuned: Choice, reference: Run, metric: Metric, where: str) -> _Judgement:
    """Judge whether two metrics are equal within noise: the interval of their difference lies within a margin."""
    row, margin = reference.comparison.best_of(REFERENCE), run.comparison.answers.margin or 0.0
    if row is None or row.choice.cell is None or reference.comparison.metric != metric:
        return _undecided(f"{where}; {reference.name} has no setting to compare with")
    gap = difference(run.with_all_seeds(tuned), row.choice, ("tuned", "sgdm"), metric)
    if gap.low is None or gap.high is None:
        return _undecided(f"{where}; against {reference.name}: {gap.unknown or 'one common seed has no spread'}")
    ends = f"{where}; tuned − sgdm ({reference.name}) {interval(gap.low, gap.high, metric)}"
    allowed = f"margin ±{amounts([margin], metric)}"
    one, other = (run, run.evidence.without(())), (reference, reference.evidence.cells)
    if -margin <= gap.low and gap.high <= margin:
        return _at_their_best(_Judgement("reproduced", f"{ends}, within the {allowed}"), one, other)
    if gap.low > margin or gap.high < -margin:
        judged = _Judgement("not reproduced", f"{ends}, beyond the {allowed}")
        return _at_their_best(judged, other if gap.low > margin else one)
    return _undecided(f"{ends}, neither within nor beyond the {allowed}")


def _full_adaptability(run: Run) -> _Judgement | None:
    """Judge whether ε at which nearly all entries adapt beat the others; None where the task is not of language."""
    comparison, metric = run.comparison, run.comparison.metric
    if metric is None:
        return _undecided("no trial has finished")
    if metric.name not in _LANGUAGE:
        return None
    probed = [(cell, _probed(cell, comparison)) for cell in comparison.cells]
    full = [cell for cell, row in probed if row is not None and row.of_moving >= _NEAR_ONE]
    rest = [cell for cell, row in probed if row is not None and row.of_moving < _NEAR_ONE]
    gap = run.evidence.loss(full, rest)
    if gap is None or gap.n < 2:
        return _undecided(
            "needs ε at which nearly all entries adapt, and others, with two seeds: the probe and the conventional grid"
        )
    numbers = f"ε at which less than {percent(_NEAR_ONE)} of the non-zero entries adapt lose {_bounds_of(gap, metric)}"
    if run.evidence.trained.unfinished or gap.low <= 0 <= gap.high:
        return _undecided(numbers)
    if gap.low > 0:
        return _at_their_best(_Judgement("reproduced", numbers), (run, rest))
    return _at_their_best(_Judgement("not reproduced", numbers), (run, full))


def _abruptness(run: Run) -> _Judgement:
    """Judge whether a step fitted to the metric over log10 ε is narrow."""
    side, step, text = change_of(run)
    if step is None:
        return _undecided(text)
    places = f"{power(10**step.centre_low)} to {power(10**step.centre_high)}"
    widths = f"{step.width_low:.1f} to {step.width_high:.1f}"
    numbers = (
        f"{side}: half-way at ε {power(10**step.centre)} ({places}), 10 to 90 % within {step.width:.1f} decades of √v̂ "
        f"({widths}), R² = {step.explained:.2f}"
    )
    if text:
        return _undecided(f"{numbers}; but {text}")
    if step.width_high <= _ABRUPT_DECADES:
        return _Judgement("reproduced", numbers)
    if step.width_low > _ABRUPT_DECADES:
        return _Judgement("not reproduced", numbers)
    return _undecided(numbers)


def change_of(run: Run) -> tuple[str, Step | None, str]:
    """Fit a step to the metric over log10 ε, each at its best learning rate.

    Returns:
        The side of the curve that it describes, the step or None, and why there is none or what speaks against it. Its
        widths count in √v̂ units, of which two decades of an ε inside the root are one.
    """
    metric, cells = run.comparison.metric, run.comparison.cells
    if metric is None:
        return "", None, "no trial has finished"
    chosen = [(epsilon, best(at_epsilon(epsilon, cells), metric).cell) for epsilon in run.evidence.epsilons]
    tops = [(epsilon, cell.test) for epsilon, cell in chosen if cell is not None and cell.test is not None]
    if len(tops) < _LEAST_POINTS:
        return "", None, f"{count(len(tops), 'ε')} with a score are too few to fit a step"
    means, sds = [test.mean for _, test in tops], [test.sd for _, test in tops if test.sd is not None]
    if sds and max(means) - min(means) <= _BY_CHANCE * math.sqrt(fmean(sd**2 for sd in sds)):
        return "", None, "the curve is flat: its range is within the spread of the seeds"
    if metric.direction == "min" and not metric.unit and min(means) > 0:  # a perplexity counts on a log scale
        means = [math.log10(mean) for mean in means]
    epsilons = [math.log10(epsilon) for epsilon, _ in tops]
    side, step = _fitted([(x, metric.sign * y) for x, y in zip(epsilons, means, strict=True)])
    if step is None or step.explained < _ONE_STEP:
        share = "none could be fitted" if step is None else f"R² = {step.explained:.2f}"
        return side, None, f"no single step describes the curve ({share})"
    if (placement := run.evidence.placement) is not None:
        low, high = (math.log10(placement.magnitude_from_epsilon(tops[end][0])) for end in (0, -1))
        ratio = (high - low) / (epsilons[-1] - epsilons[0])
        ends = {"width_low": ratio * step.width_low, "width_high": ratio * step.width_high}
        step = replace(step, width=ratio * step.width, **ends)
    half = (max(means) + min(means)) / 2
    fallen = [epsilon for (epsilon, _), mean in zip(tops, means, strict=True) if metric.sign * (mean - half) < 0]
    notes = (run.evidence.open_note(at_epsilon(epsilon, cells)) for epsilon in fallen)
    return side, step, next(filter(None, notes), "")


def _fitted(points: Sequence[tuple[float, float]]) -> tuple[str, Step | None]:
    """Fit a step to the whole curve, or where it rises and falls, to the larger of its two sides."""
    whole = fit_step(*zip(*points, strict=True))
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
    return side, fit_step(*zip(*sides[side], strict=True))


def _share(cell: Cell, comparison: Comparison) -> tuple[float | None, str]:
    """Return the share of adaptable entries at a cell, in training where that is known, and a text of it."""
    for row in comparison.observed:
        if row.name == NARROWED and row.cell == cell.label and row.adaptable_last is not None:
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


def _bounds_of(gap: Loss, metric: Metric) -> str:
    return f"{amounts([gap.mean], metric)} ({amounts([gap.low, gap.high], metric)})"


def claims(runs: Sequence[Run]) -> tuple[ClaimRow, ...]:
    """Judge the claims by the runs of an optimizer with ε; the others are what they are compared with.

    A claim about one kind of task has no row for a run of another kind, and none for a run that has trials at other
    batch sizes only.
    """
    judged = [
        run
        for run in runs
        if not run.is_reference
        and (run.comparison.cells or run.comparison.batches is None or run.comparison.batches.trained is None)
    ]
    judgements = [
        *(("range", run.name, _trusted(run.comparison, _range(run.comparison))) for run in judged),
        *(("narrower", run.name, _trusted(run.comparison, _narrower(run.comparison))) for run in judged),
        *(("sgd", run.name, _like_sgd(run, runs)) for run in judged),
        *(("adaptable", run.name, _full_adaptability(run)) for run in judged),
        *(("epoch-1", run.name, _trusted(run.comparison, _epoch_1(run.comparison))) for run in judged),
        *(("abrupt", run.name, _abruptness(run)) for run in judged),
    ]
    if len(judged) > 1:
        judgements.append(("varies", ", ".join(run.name for run in judged), _varies(judged)))
    return tuple(
        ClaimRow(claim, _STATEMENTS[claim], found.answer, found.numbers, run)
        for claim, run, found in judgements
        if found is not None
    )


def _trusted(comparison: Comparison, judged: _Judgement) -> _Judgement:
    """Return what rests on the bounds: nothing is reproduced where the confidence in them is low."""
    found = comparison.reliability
    if judged.answer == "reproduced" and found is not None and found.verdict == "low":
        return _undecided(f"{judged.numbers}; but the confidence in the bounds is low")
    return judged


def _range(comparison: Comparison) -> _Judgement:
    if comparison.is_listed:
        return _undecided(_YOUR_LIST)
    found = comparison.answers.of("narrowing")
    if found.answer not in (NO_COST, COSTS):
        return _undecided(found.text)
    return _Judgement("reproduced" if found.answer == NO_COST else "not reproduced", found.text)


def _narrower(comparison: Comparison) -> _Judgement:
    ratio = comparison.decades_ratio
    if comparison.is_listed:
        return _undecided(_YOUR_LIST)
    if ratio is None:
        return _undecided("both grids have to be swept to compare them")
    decades = {row.name: row.decades for row in comparison.grids}
    ends = f"{decades[CONVENTIONAL]} decades against {decades[NARROWED]}"
    numbers = f"{ends}: {ratio:.3g} times narrower; the conventional range is this program's own choice"
    return _Judgement("reproduced" if ratio >= _NARROWER else "not reproduced", numbers)


def _epoch_1(comparison: Comparison) -> _Judgement:
    found = comparison.most_moved
    if found is None:
        return _undecided("no training kept snapshots of its magnitudes, or there is no probe to compare with")
    until = "" if found.last is None else f" over {found.last:g} epochs"
    kept = f"the worst of {count(found.trainings, 'training')} at the best settings"
    numbers = f"a bound moved {found.decades:.1f} decades from the probe's at most{until} ({found.label}, {kept})"
    return _Judgement("reproduced" if found.decades <= _REPRESENTATIVE_DECADES else "not reproduced", numbers)


def _varies(runs: Sequence[Run]) -> _Judgement:
    """Compare the best ε of different tasks, optimizer by optimizer."""
    known = [run.comparison for run in runs if any(row.loss is not None for row in run.comparison.answers.epsilons)]
    pairs = [
        (one, other)
        for one, other in itertools.combinations(known, 2)
        if one.optimizer == other.optimizer and one.task != other.task
    ]
    if not pairs:
        return _undecided("needs two tasks swept with the same optimizer, with at least two seeds each")
    optima = [[_optimum(comparison) for comparison in pair] for pair in pairs]
    shown = "; ".join(dict.fromkeys(label for pair in optima for _, label in pair))
    at_least, at_most = [], []
    for pair in optima:
        low, high = sorted(plausible for plausible, _ in pair)
        at_least.append(max(math.log10(high[0] / low[-1]), 0.0))
        at_most.append(math.log10(max(*low, *high) / min(*low, *high)))
    if max(at_least) >= _APART_DECADES:
        return _Judgement("reproduced", f"{max(at_least):.0f} decades lie between what is plausible: {shown}")
    if max(at_most) < _APART_DECADES:
        numbers = f"less than {_APART_DECADES:g} decades apart, whatever is plausible: {shown}"
        return _Judgement("not reproduced", numbers)
    return _undecided(f"what is plausible overlaps or lies too close together: {shown}")


def _optimum(comparison: Comparison) -> tuple[list[float], str]:
    """Return the ε that cannot be told from the best, rising, and a label that shows them."""
    rows = [(row, row.loss.mean) for row in comparison.answers.epsilons if row.loss is not None]
    top, _ = min(rows, key=lambda pair: pair[1])
    plausible = [row.epsilon for row, _ in rows if row.standing != "worse"]
    ends = f"{power(plausible[0])} to {power(plausible[-1])}"
    return plausible, f"{comparison.task} ({comparison.optimizer}): ε {power(top.epsilon)}, plausible {ends}"
