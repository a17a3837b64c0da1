"""Snapshots of gradient magnitudes over time: how far the bounds drifted, and how many entries adapt.

Time is in epochs where every snapshot knows its epoch, else in steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from epsgrid.numerics.bounds import EpsilonBounds
from epsgrid.numerics.damping import Damping, damping_of
from epsgrid.numerics.magnitudes import TAIL_FRACTION
from epsgrid.numerics.placement import Placement
from epsgrid.numerics.series import Series, Snapshot

TimeUnit = Literal["epoch", "step"]


@dataclass(frozen=True)
class _Drift:
    """The bounds at one snapshot, by the published rule, next to those of epoch 1.

    Attributes:
        low, high: √v̂ units, off by at most 0.8 %.
        low_layers, high_layers: the layers that set them, as far as percentiles can tell them apart.
        low_moved, high_moved: decades above the bounds of epoch 1; None where nothing was probed.
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


def times_of(series: Series) -> tuple[TimeUnit, dict[int, float]]:
    """Return the unit of time, "epoch" where every snapshot knows its epoch, and the time of each step."""
    epochs = {snapshot.step: snapshot.epoch for snapshot in series.snapshots if snapshot.epoch is not None}
    return ("epoch", epochs) if len(epochs) == len(series.steps) else ("step", {s: float(s) for s in series.steps})


def with_histograms(series: Series) -> tuple[Snapshot, ...]:
    """Return the snapshots that hold a histogram of some layer; the others hold percentiles only."""
    return tuple(s for s in series.snapshots if any(layer and layer.histogram for layer in s.layers))


def dampings_of(series: Series, snapshot: Snapshot, placement: Placement | None) -> dict[str, Damping]:
    """Return by name the damping of the layers at a snapshot, by the ε it was trained with; empty where none is known.

    `placement` is that of the optimizer; a layer without histogram or moving entries is left out.
    """
    if placement is None or snapshot.threshold is None:
        return {}
    epsilon = placement.epsilon_from_magnitude(snapshot.threshold)
    held = zip(series.names, snapshot.layers, strict=True)
    found = {name: damping_of(layer.histogram, placement, epsilon) for name, layer in held if layer and layer.histogram}
    return {name: damping for name, damping in found.items() if damping is not None}


def drift(series: Series, bounds: EpsilonBounds | None) -> tuple[_Drift, ...]:
    """Return how the bounds moved: one row per snapshot in which a layer is measured.

    Args:
        series: without percentiles at the tail of the bounds there are no rows.
        bounds: those of epoch 1; None where nothing was probed: the published tail is used then.
    """
    tail = bounds.tail_fraction if bounds else TAIL_FRACTION
    if not any(math.isclose(tail, held, abs_tol=1e-9) for held in series.fractions):
        return ()
    snapshots = {snapshot.step: snapshot for snapshot in series.snapshots}
    return tuple(
        _Drift(
            **ends._asdict(),
            epoch=snapshots[ends.step].epoch,
            low_moved=math.log10(ends.low) - math.log10(bounds.low.magnitude) if bounds else None,
            high_moved=math.log10(ends.high) - math.log10(bounds.high.magnitude) if bounds else None,
            threshold=snapshots[ends.step].threshold,
        )
        for ends in series.ends_over_time(tail)
    )
