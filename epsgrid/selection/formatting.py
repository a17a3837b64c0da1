"""Write numbers for people: metrics, differences, ε, learning rates, durations, counts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from epsgrid.numerics import precision
from epsgrid.store.records import Metric as Metric

if TYPE_CHECKING:
    from epsgrid.numerics.bounds import EpsilonBounds
    from epsgrid.spec.trial import Trial

NOTHING = "–"
percent, count = precision.percent, precision.count


def power(value: float | None) -> str:
    """Write an ε, a learning rate or a magnitude as `precision.power` does, and a dash where there is none."""
    return NOTHING if value is None else precision.power(value)


def powers(values: Iterable[float]) -> str:
    """Write several ε or learning rates.

    >>> powers([1e-8, 1e-7])
    '1e-8, 1e-7'
    """
    return ", ".join(map(power, values)) or NOTHING


def setting(trial: Trial) -> str:
    """Return what a trial trains with, such as "lr 1e-3, ε 1e-8, seed 0"."""
    epsilon = "" if trial.epsilon is None else f", ε {power(trial.epsilon)}"
    return f"lr {power(trial.learning_rate)}{epsilon}, seed {trial.seed}"


def bounds_line(bounds: EpsilonBounds) -> str | None:
    """Return the bounds without rounding noise beside the published ones in a line; None where they are the same."""
    other = bounds.without_noise
    if other is None:
        return None
    reach = f"ε {power(other.low.decade)} to {power(other.high.decade)}"
    published = f"{power(bounds.low.decade)} to {power(bounds.high.decade)}"
    return f"bounds without rounding noise: {reach}; the published rule, noise included: {published}"


def score(mean: float | None, sd: float | None, metric: Metric) -> str:
    """Write a metric's mean and, where there is one, its standard deviation.

    >>> score(0.9312, 0.0012, Metric("accuracy", "max", "%"))
    '93.12 ± 0.12 %'
    >>> score(84.2814, None, Metric("perplexity", "min", ""))
    '84.28'
    >>> score(84.2814, 0.3623, Metric("perplexity", "min", ""))
    '84.28 ± 0.36'
    >>> score(7.1492e102, None, Metric("perplexity", "min", ""))
    '7.15e102'
    """
    if mean is None:
        return NOTHING
    shown, digits = mean * metric.factor, _decimals(mean, metric)
    spread = "" if sd is None else f" ± {_fixed(sd * metric.factor, digits)}"
    return f"{_fixed(shown, digits)}{spread}{' %' if metric.unit else ''}"


def gain(value: float, metric: Metric) -> str:
    """Write a difference with its sign, without a unit.

    >>> gain(-0.0102, Metric("accuracy", "max", "%"))
    '−1.02'
    """
    text = _fixed(abs(value) * metric.factor, _decimals(value, metric))
    return f"{'−' if value < 0 else '+'}{text}" if float(text) else text


def amounts(values: Sequence[float], metric: Metric) -> str:
    """Write an amount of a metric or a range of it, with three digits of the largest and a unit.

    >>> amounts([0.0042], Metric("accuracy", "max", "%"))
    '0.42 points'
    >>> amounts([-0.213, 1.58], Metric("perplexity", "min", ""))
    '−0.21 to 1.58 perplexity'
    """
    shown = [value * metric.factor for value in values]
    largest = max(map(abs, shown))
    digits = 2 if metric.unit else min(max(2 - math.floor(math.log10(largest)), 0), 9) if largest else 0
    texts = [_fixed(value, digits).replace("-", "−") for value in shown]
    return f"{' to '.join(texts)}{metric.difference_unit or f' {metric.name}'}"


def ranges(values: Sequence[float], among: Sequence[float]) -> str:
    """Write some ε as ranges of those that were trained; both rise.

    >>> ranges([1e-10, 1e-9, 1e-8, 1e-3], [1e-10, 1e-9, 1e-8, 1e-4, 1e-3])
    '1e-10 to 1e-8, 1e-3'
    """
    runs: list[list[int]] = []
    for place in (among.index(value) for value in values):
        if runs and place == runs[-1][-1] + 1:
            runs[-1].append(place)
        else:
            runs.append([place])
    return ", ".join(
        power(among[run[0]])
        if len(run) == 1
        else f"{power(among[run[0]])}{' to ' if len(run) > 2 else ', '}{power(among[run[-1]])}"
        for run in runs
    )


def interval(low: float, high: float, metric: Metric) -> str:
    """Write an interval of differences with its unit.

    >>> interval(0.008, 0.0124, Metric("accuracy", "max", "%"))
    '+0.80 to +1.24 points'
    """
    return f"{gain(low, metric)} to {gain(high, metric)}{metric.difference_unit}"


def score_interval(low: float, high: float, metric: Metric) -> str:
    """Write an interval of scores with its unit.

    >>> score_interval(0.9312, 0.9412, Metric("accuracy", "max", "%"))
    '93.12 to 94.12 %'
    """
    digits = max(_decimals(low, metric), _decimals(high, metric))
    ends = [_fixed(end * metric.factor, digits).replace("-", "−") for end in (low, high)]
    return f"{' to '.join(ends)}{' %' if metric.unit else ''}"


def duration(seconds: float) -> str:
    """Write a duration in the two largest units that matter.

    >>> duration(0.25), duration(41.2), duration(125.0), duration(8000.0), duration(200000.0)
    ('0.2 s', '41.2 s', '2 min 05 s', '2 h 13 min', '2 d 08 h')
    """
    if seconds < 0:
        return f"−{duration(-seconds)}"
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    if (whole := round(seconds)) < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if (minutes := round(seconds / 60)) < 24 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24:02d} h"


def _fixed(value: float, digits: int) -> str:
    """Write a number with decimals, or with an exponent where it is as large as those of diverged models are."""
    return f"{value:.{digits}f}" if not 1e7 <= abs(value) < math.inf else precision.power(value)


def _decimals(value: float, metric: Metric) -> int:
    """Return the number of decimals to show: two for percent, otherwise what four digits need, at most six."""
    if metric.unit:
        return 2
    return 3 if value == 0 or not math.isfinite(value) else min(max(3 - math.floor(math.log10(abs(value))), 0), 6)
