"""What each figure shows, in words, for readers who cannot see it: a sentence or two with the numbers that matter."""

from __future__ import annotations

from collections.abc import Sequence

from epsgrid.report.numbers.adaptable import AdaptableNumbers
from epsgrid.report.numbers.bands import Band, BandNumbers
from epsgrid.report.numbers.figures import Curve, CurveNumbers, HistogramNumbers
from epsgrid.report.numbers.fractions import FractionNumbers
from epsgrid.report.numbers.learning import LearningNumbers
from epsgrid.report.numbers.ledger import LedgerNumbers
from epsgrid.report.numbers.maps import MapNumbers
from epsgrid.report.numbers.over_time import CourseNumbers
from epsgrid.report.table import percent, shortened
from epsgrid.selection.cells import DEFAULT
from epsgrid.selection.formatting import count, duration, power, powers, score


def of_histograms(numbers: HistogramNumbers) -> str:
    """Describe the histogram figure."""
    low = shortened([layer.name for layer in numbers.layers if layer.sets_low])
    high = shortened([layer.name for layer in numbers.layers if layer.sets_high])
    swept = powers(mark.epsilon for mark in numbers.marks)
    return (
        f"Gradient magnitudes of {count(len(numbers.layers), 'layer')}: lower bound {power(numbers.low)}, set by {low}"
        f"; upper bound {power(numbers.high)}, set by {high}; ε marked: {swept}."
    )


def of_course(numbers: CourseNumbers) -> str:
    """Describe how the bounds settled."""
    steps = count(numbers.steps[-1], "step")
    return (
        f"After {steps} of the probe the lower bound is {power(numbers.low[-1])} and the upper one "
        f"{power(numbers.high[-1])}; their decades settled after {count(numbers.settled_after, 'step')}."
    )


def of_curves(numbers: CurveNumbers) -> str:
    """Describe the metric against ε: the best point of each curve."""
    best = [words for curve in numbers.curves if (words := _best_point(curve, numbers))]
    band = f"Bounds from {power(numbers.band[0])} to {power(numbers.band[1])}. " if numbers.band else ""
    return f"{band}Best on {numbers.selection}: {'; '.join(best) or 'no cell has a score'}."


def _best_point(curve: Curve, numbers: CurveNumbers) -> str | None:
    known = [(numbers.metric.sign * p.score.mean, p) for p in curve.points if p.score is not None]
    if not known:
        return f"{curve.label}, all diverged"
    _, point = max(known, key=lambda pair: pair[0])
    assert point.score is not None
    what = "ε" if numbers.has_epsilon else "learning rate"
    return f"{curve.label}, {score(point.score.mean, point.score.sd, numbers.metric)} at {what} {power(point.x)}"


def of_map(numbers: MapNumbers) -> str:
    """Describe the map of learning rates and ε."""
    scored = [(numbers.metric.sign * cell.score.mean, cell) for cell in numbers.cells if cell.score is not None]
    diverged = sum(1 for cell in numbers.cells if cell.diverged)
    text = (
        f"{count(len(numbers.rates), 'learning rate')} by {len(numbers.epsilons)} ε; {count(diverged, 'cell')} diverged"
    )
    if scored:
        _, best = max(scored, key=lambda pair: pair[0])
        assert best.score is not None
        where = f"lr {power(best.learning_rate)}, ε {power(best.epsilon)}"
        text += f"; best on {numbers.selection}: {where} with {score(best.score.mean, best.score.sd, numbers.metric)}"
    return f"{text}."


def of_learning(numbers: LearningNumbers) -> str:
    """Describe the learning curves: where each ends."""
    ends = []
    for curve in numbers.curves:
        names = " and ".join("default ε" if name == DEFAULT else name for name in curve.names)
        last = curve.points[-1]
        value = score(last.score.mean, last.score.sd, numbers.metric) if last.score else "no finite score"
        ends.append(f"{names} ({curve.cell}): {value} on {numbers.selection} after epoch {last.epoch}")
    return f"{'; '.join(ends)}."


def of_fractions(numbers: FractionNumbers) -> str:
    """Describe how abruptly entries stop adapting."""
    early, late = numbers.fall
    return (
        f"Of the entries that adapt at all, 90 % still do at ε {power(early)} and 10 % at ε {power(late)}; "
        f"the bounds run from {power(numbers.band[0])} to {power(numbers.band[1])}."
    )


def of_ledger(numbers: LedgerNumbers) -> str:
    """Describe the cost ledger."""
    bars = [
        f"{bar.name}: {' + '.join(f'{part.name} {duration(part.seconds)}' for part in bar.parts)}"
        + (f" so far, {count(bar.missing, 'trial')} to come" if bar.missing else "")
        for bar in numbers.bars
    ]
    return f"{'; '.join(bars)}."


def of_bands(numbers: BandNumbers) -> str:
    """Describe the bands: the median of each panel, first and last."""
    panels = [f"{band.title} from {power(m[0])} to {power(m[-1])}" for band in numbers.bands for m in [_median(band)]]
    return f"Median √v̂ over {_times(numbers.bands[0].times)} {numbers.unit}s: {'; '.join(panels)}."


def _median(band: Band) -> Sequence[float]:
    return band.magnitudes[len(band.magnitudes) // 2]


def _times(times: Sequence[float]) -> str:
    return f"{times[0]:.3g} to {times[-1]:.3g}" if len(times) > 1 else f"{times[0]:.3g}"


def of_adaptable(numbers: AdaptableNumbers) -> str:
    """Describe the map of adaptable shares: all entries together, first and last."""
    known = [share for share in numbers.total if share is not None]
    ends = f"{percent(known[0])} at first, {percent(known[-1])} at last" if known else "not known"
    return f"{count(len(numbers.rows), 'layer')} over {_times(numbers.times)} {numbers.unit}s; all entries: {ends}."
