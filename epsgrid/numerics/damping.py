"""By how much an ε shortens an optimizer's steps.

Of an entry with the magnitude s = √v̂ the step is divided by more than s because of ε; the **damping** is the factor by
which it is shorter than for ε → 0, between 0 and 1. With b the magnitude that ε weighs as much as (see `Placement`):

    outside the root               s / (s + b)
    inside the root, or in place   s / √(s² + b²)

A layer's damping is the mean over its moving entries, those with a √v̂ above zero. A low one is not harmful by itself:
where the learning rate was raised with ε, steps are what they should be. Adadelta's ε also lengthens steps, by its
numerator, which is not counted here.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from epsgrid.numerics.histogram import LEAST_FLOAT32, LogHistogram, magnitudes_of
from epsgrid.numerics.placement import Placement

NOT_SHORTENED = 0.95
"""Damping from which on an ε counts as small enough."""
STALLED = 0.1
"""Damping below which an entry counts as stalled."""
_LARGEST_DECADE, _LEAST_DECADE = 3, -40
_PLACES = range(-2500, 2500)
"""Hundredths of decades, of √v̂ units."""
_ABOVE = 1e150
"""Stands for what is above float32's range; its square is finite."""


@dataclass(frozen=True)
class Damping:
    """The damping of a layer, or of several.

    Attributes:
        moving: number of finite entries with a √v̂ above zero, at least 1.
        mean: mean damping over them, in [0, 1].
        error: `mean` is off by at most this, because entries of a bin are taken to lie at its middle.
        adapting: share of them with a √v̂ above the magnitude that ε weighs as much as.
        stalled: share of them whose damping is below `STALLED`.
    """

    moving: int
    mean: float
    error: float
    adapting: float
    stalled: float


def damping_of(histogram: LogHistogram, placement: Placement, epsilon: float) -> Damping | None:
    """Return the damping that an ε ≥ 0 causes in a layer with this histogram of √v̂; None where no entry moves."""
    counts, moving = histogram.nonzero_counts, histogram.nonzero
    if not moving:
        return None
    edges, slots = histogram.edges(), np.flatnonzero(counts)
    low = np.concatenate([[0.0], edges])[slots]
    high = np.concatenate([[math.sqrt(LEAST_FLOAT32 * histogram.scale)], edges[1:], [_ABOVE]])[slots]
    middle, shares = magnitudes_of(slots, histogram.scale, histogram.mantissa_bits), counts[slots] / moving
    factors = [placement.damping(each, epsilon) for each in (low, middle, high)]
    least, mean, most = (float(shares @ each) for each in factors)
    stalled = float(shares @ (factors[1] < STALLED))
    above = float(histogram.entries_above(placement.magnitude_from_epsilon(epsilon)))
    return Damping(moving, mean, max(mean - least, most - mean), min(above / moving, 1.0), stalled)


def pooled(dampings: Iterable[Damping | None]) -> Damping | None:
    """Return the damping over the entries of several layers, or of those that have one; None without any."""
    held = [each for each in dampings if each is not None]
    moving = sum(each.moving for each in held)
    if not moving:
        return None
    names = ("mean", "error", "adapting", "stalled")
    return Damping(moving, *(math.fsum(getattr(each, name) * each.moving for each in held) / moving for name in names))


def total_damping(histograms: Iterable[LogHistogram], placement: Placement, epsilon: float) -> Damping | None:
    """Return the damping that an ε ≥ 0 causes in several layers together; None where no entry moves."""
    return pooled(damping_of(each, placement, epsilon) for each in histograms)


def largest_harmless(histograms: Sequence[LogHistogram], placement: Placement) -> float | None:
    """Return the largest ε, a power of ten, with which steps are not shortened; None where none or no entry moves."""
    moving = [histogram for histogram in histograms if histogram.nonzero]

    def is_too_large(decade: int) -> bool:
        found = total_damping(moving, placement, placement.epsilon_of_decade(decade))
        return found is not None and found.mean < NOT_SHORTENED

    decades = range(_LEAST_DECADE + 1, _LARGEST_DECADE + 1)
    harmless = bisect.bisect_left(decades, True, key=is_too_large)  # the damping falls as ε rises
    return placement.epsilon_of_decade(decades[harmless - 1]) if moving and harmless else None


def decades_of_fall(histograms: Iterable[LogHistogram], placement: Placement) -> float | None:
    """Return over how many decades steps are shortened to 90, then to 10 %, as ε rises; None where no entry moves.

    They count in √v̂ units, in hundredths. Those of a single entry take 1.91 where ε is outside the root, and 1.31 where
    it is inside it or in place.
    """
    moving = [histogram for histogram in histograms if histogram.nonzero]
    if not moving:
        return None

    def shortened(place: int) -> float:
        found = total_damping(moving, placement, placement.epsilon_from_magnitude(10 ** (place / 100)))
        return 1.0 if found is None else 1 - found.mean

    first, last = (bisect.bisect_left(_PLACES, by, key=shortened) for by in (0.1, 0.9))
    return (last - first) / 100
