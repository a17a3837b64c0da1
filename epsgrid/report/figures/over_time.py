"""Snapshots of gradient magnitudes over time: which to show, how far the bounds drifted, and how many entries adapt.

Time is in epochs where every snapshot knows its epoch, else in steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from epsgrid.numerics.bounds import EpsilonBounds
from epsgrid.numerics.magnitudes import TAIL_FRACTION
from epsgrid.numerics.series import Series, Snapshot

TimeUnit = Literal["epoch", "step"]
_Shares = tuple[float | None, ...]
_T = TypeVar("_T")


@dataclass(frozen=True)
class _Drift:
    """The bounds at one snapshot, by the published rule, next to those of epoch 1.

    Attributes:
        step: of the snapshot.
        epoch: epochs done; None where not known.
        low: lower bound, √v̂ units, off by at most 0.8 %.
        high: upper bound, √v̂ units, off by at most 0.8 %.
        low_layers: the layers that set it, as far as percentiles can tell them apart.
        high_layers: the layers that set the upper bound.
        low_moved: decades above the bound of epoch 1, negative below; None where nothing was probed.
        high_moved: the same of the upper bound.
        threshold: the magnitude that the optimizer's ε weighs as much as; None where that is not known.
    """

    step: int
    epoch: float | None
    low: float
    high: float
    low_layers: tuple[str, ...]
    high_layers: tuple[str, ...]
    low_moved: float | None
    high_moved: float | None
    threshold: float | None


def time_unit(series: Series) -> TimeUnit:
    """Return "epoch" where every snapshot knows its epoch, else "step"."""
    return "epoch" if all(snapshot.epoch is not None for snapshot in series.snapshots) else "step"


def time_of(snapshot: Snapshot, unit: TimeUnit) -> float:
    """Return when a snapshot was taken."""
    return float(snapshot.step) if unit == "step" or snapshot.epoch is None else snapshot.epoch


def with_histograms(series: Series) -> tuple[Snapshot, ...]:
    """Return the snapshots that hold a histogram of some layer; the others hold percentiles only."""
    return tuple(s for s in series.snapshots if any(layer and layer.histogram for layer in s.layers))


def evenly(moments: Sequence[_T], count: int) -> tuple[_T, ...]:
    """Return at most `count` ≥ 1 moments, spread evenly: always the last one, and the first one unless count is 1.

    >>> evenly(range(10), 4), evenly(range(10), 1)
    ((0, 3, 6, 9), (9,))
    """
    last = len(moments) - 1
    if last < count:
        return tuple(moments)
    if count == 1:
        return (moments[-1],)
    return tuple(moments[round(place * last / (count - 1))] for place in range(count))


def kinds_of(series: Series) -> dict[str, tuple[int, ...]]:
    """Return the indices of the layers of each kind; kinds in the order in which the model has them."""
    return {
        kind: tuple(index for index, other in enumerate(series.kinds) if other == kind)
        for kind in dict.fromkeys(series.kinds)
    }


def drift(series: Series, bounds: EpsilonBounds | None) -> tuple[_Drift, ...]:
    """Return how the bounds moved: one row per snapshot in which a layer is measured.

    Args:
        series: the snapshots; without percentiles at the tail of the bounds there are no rows.
        bounds: those of epoch 1; None where nothing was probed: the published tail is used then.
    """
    tail = bounds.tail_fraction if bounds else TAIL_FRACTION
    if not any(math.isclose(tail, held, abs_tol=1e-9) for held in series.fractions):
        return ()
    snapshots = {snapshot.step: snapshot for snapshot in series.snapshots}
    return tuple(
        _Drift(
            step=ends.step,
            epoch=snapshots[ends.step].epoch,
            low=ends.low,
            high=ends.high,
            low_layers=ends.low_layers,
            high_layers=ends.high_layers,
            low_moved=math.log10(ends.low) - math.log10(bounds.low.magnitude) if bounds else None,
            high_moved=math.log10(ends.high) - math.log10(bounds.high.magnitude) if bounds else None,
            threshold=snapshots[ends.step].threshold,
        )
        for ends in series.ends_over_time(tail)
    )


@dataclass(frozen=True)
class _AdaptableNumbers:
    """_Shares of entries with √v̂ above the ε that each snapshot was trained with, in [0, 1].

    Attributes:
        layers: of each layer by its name, at each time; None where it has no state.
        kinds: of all layers of a kind together.
        total: of all layers together.
        times: rising; not empty.
        unit: of time.
    """

    layers: dict[str, _Shares]
    kinds: dict[str, _Shares]
    total: _Shares
    times: tuple[float, ...]
    unit: TimeUnit


def adaptable_numbers(series: Series) -> _AdaptableNumbers | None:
    """Return the shares over time; None where no snapshot holds histograms and an ε."""
    snapshots = [snapshot for snapshot in with_histograms(series) if snapshot.threshold is not None]
    if not snapshots:
        return None
    unit = time_unit(series)

    def shares(layer: str | None) -> _Shares:
        by_step = dict(series.adaptable(layer))
        return tuple(by_step.get(snapshot.step) for snapshot in snapshots)

    layers = {name: shares(name) for name in series.names}

    def of_kind(indices: tuple[int, ...], place: int) -> float | None:
        known = [(series.entries[i], share) for i in indices if (share := layers[series.names[i]][place]) is not None]
        entries = sum(count for count, _ in known)
        return sum(count * share for count, share in known) / entries if entries else None

    return _AdaptableNumbers(
        layers=layers,
        kinds={
            kind: tuple(of_kind(indices, place) for place in range(len(snapshots)))
            for kind, indices in kinds_of(series).items()
        },
        total=shares(None),
        times=tuple(time_of(snapshot, unit) for snapshot in snapshots),
        unit=unit,
    )
