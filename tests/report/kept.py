"""Made-up snapshots over time: layers of known magnitudes, counted in plain NumPy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from epsgrid.numerics.bounds import EpsilonBounds, Reliability, Variant, Verdict, estimate_bounds
from epsgrid.numerics.histogram import MANTISSA_BITS, LogHistogram, bin_count
from epsgrid.numerics.placement import Placement
from epsgrid.numerics.series import FRACTIONS, STORED_MANTISSA_BITS, LayerSnapshot, Series, Snapshot
from epsgrid.numerics.trajectory import Trajectory
from tests.report import simulate


@dataclass(frozen=True)
class MadeUp:
    """A layer whose log10 √v̂ is normal with a median that depends on the time in [0, 1]."""

    name: str
    kind: str
    entries: int
    median: Callable[[float], float]
    sd: float = 0.6
    zeros: int = 0

    def roots(self, time: float) -> np.ndarray:
        """√v̂ of the entries, float64 of a float32 v."""
        seed = [ord(letter) for letter in self.name]
        normal = np.random.default_rng(seed).standard_normal(self.entries)
        roots = 10 ** (self.median(time) + self.sd * normal)
        roots[: self.zeros] = 0.0
        return np.sqrt((roots**2).astype(np.float32).astype(np.float64))


def falling(start: float, by: float = 1.0) -> Callable[[float], float]:
    """A median that falls by so many decades over the whole time, first fast, then slowly."""
    return lambda time: start - by * (1 - np.exp(-4 * time)) / (1 - np.exp(-4))


SMALL = (
    MadeUp("conv.weight", "convolution", 4000, falling(-3.0)),
    MadeUp("conv.bias", "bias", 32, falling(-2.2, 0.5), sd=0.2),
    MadeUp("head.weight", "dense", 1000, falling(-3.5, 1.5), zeros=100),
    MadeUp("head.bias", "bias", 10, falling(-1.5, 0.5), sd=0.1),
)


def counted(roots: np.ndarray, mantissa_bits: int = MANTISSA_BITS) -> LogHistogram:
    """A histogram by sorting the bits of v into bins in plain NumPy."""
    shift = 23 - mantissa_bits
    v = (roots**2).astype(np.float32)
    bins = (v.view(np.int32).astype(np.int64) + (1 << shift) - 1) >> shift
    return LogHistogram(mantissa_bits, np.bincount(bins, minlength=bin_count(mantissa_bits)))


def layer_snapshot(roots: np.ndarray, *, histogram: bool = True) -> LayerSnapshot:
    ordered = np.sort(roots[roots > 0])
    fine = counted(roots)
    quantiles = tuple(fine.quantile(fraction) for fraction in FRACTIONS) if len(ordered) else ()
    kept = counted(roots, STORED_MANTISSA_BITS) if histogram else None
    return LayerSnapshot(1.0, int((roots == 0).sum()), len(ordered), 0, quantiles, kept)


def series(
    layers: Sequence[MadeUp] = SMALL,
    *,
    snapshots: int = 9,
    steps_apart: int = 10,
    epochs: int | None = 9,
    threshold: float | None = 1e-3,
    histograms: Callable[[int], bool] = lambda index: True,
    stateless: Sequence[str] = (),
) -> Series:
    """Snapshots of some layers, evenly over the time.

    Args:
        layers: which.
        snapshots: how many.
        steps_apart: steps from one to the next.
        epochs: that the snapshots cover; None for a loop that does not tell.
        threshold: of every snapshot.
        histograms: whether the snapshot of an index keeps histograms.
        stateless: names of layers without state.
    """
    made = []
    for index in range(snapshots):
        time = index / max(snapshots - 1, 1)
        epoch = None if epochs is None else epochs * (index + 1) / snapshots
        held = tuple(
            None if layer.name in stateless else layer_snapshot(layer.roots(time), histogram=histograms(index))
            for layer in layers
        )
        made.append(Snapshot(steps_apart * (index + 1), epoch, threshold, held))
    names, kinds, entries = zip(*((layer.name, layer.kind, layer.entries) for layer in layers), strict=True)
    return Series(names, kinds, entries, FRACTIONS, tuple(made))


def probed(layers: Sequence[MadeUp] = SMALL, placement: Placement | None = None) -> EpsilonBounds:
    """The bounds that some layers have at the first snapshot; nothing is said about how reliable they are."""
    v = [(layer.roots(0.0) ** 2).astype(np.float32) for layer in layers]
    statistics = [simulate.measured(layer.name, (layer.entries,), own) for layer, own in zip(layers, v, strict=True)]
    kinds = [layer.kind for layer in layers]
    with_kinds = [replace(own, kind=kind) for own, kind in zip(statistics, kinds, strict=True)]
    return estimate_bounds(with_kinds, placement or Placement.outside())


def trusted(bounds: EpsilonBounds, verdict: Verdict = "medium") -> Reliability:
    """A reliability with every part of it."""
    moved = replace(bounds.low, epsilon=bounds.low.epsilon * 10, decade=bounds.low.decade * 10)
    variants = (
        Variant("tail", "5 %", bounds.low, bounds.high),
        Variant("seed", "seed 1", moved, bounds.high),
        Variant("weights", "moving at lr 0.001", bounds.low, bounds.high),
        Variant("without", "rounding noise", moved, bounds.high),
        Variant("kind", "dense", moved, bounds.high),
        Variant("betas", "β₂ = 0.99", bounds.low, bounds.high),
    )
    low, high = bounds.low.epsilon, bounds.high.epsilon
    course = Trajectory((1, 2, 4, 8, 16), (low * 30, low * 4, low, low, low), (high, high, high, high, high))
    reasons = ("with seed 1 the lower bound would be 1e-4, one decade higher", "tails other than 5 % were not tried")
    return Reliability(verdict, reasons, variants, course, {bounds.layers[1].name: 1.0}, noise_checked=True)
