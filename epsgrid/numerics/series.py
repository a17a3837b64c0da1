"""Gradient magnitudes over time: snapshots of all layers at chosen steps, and bounds and shares read from them.

A snapshot keeps percentiles from the fine histogram (m = 5) and, of the histogram itself, only a folded copy: enough to
compute at any later time the share of the entries above an ε, in a few hundred bytes a layer.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from epsgrid.codec import from_document, to_document
from epsgrid.errors import CorruptRecordError
from epsgrid.numerics.histogram import MANTISSA_BITS, LogHistogram, bin_count, bins_of, fields_of, magnitudes_of, whole
from epsgrid.numerics.magnitudes import TAIL_FRACTION

FRACTIONS = (0.01, 0.02, 0.05, 0.25, 0.5, 0.75, 0.95, 0.98, 0.99)
"""The percentiles of a snapshot: the tails that a probe's reliability looks at, the published 2 % among them."""

STORED_MANTISSA_BITS = 1
VERSION = 1


@dataclass(frozen=True)
class LayerSnapshot:
    """One layer at one step, with v̂ = v · scale.

    `zeros`, `nonzero` and `nonfinite` count entries that are exactly zero, finite others, and NaN or infinite.
    `quantiles` are √v̂ at the series' fractions of the non-zero entries, by the published index, each the midpoint of
    its bin, within 0.8 %. The histogram has `STORED_MANTISSA_BITS`; None where only the percentiles are kept.
    """

    scale: float
    zeros: int
    nonzero: int
    nonfinite: int
    quantiles: tuple[float, ...]
    histogram: LogHistogram | None = None

    @classmethod
    def of(cls, histogram: LogHistogram) -> LayerSnapshot:
        """Return the snapshot of a layer, at `FRACTIONS`, from the counts of all its entries."""
        n, ends = histogram.nonzero, np.cumsum(histogram.nonzero_counts)
        ranks = [min(int(fraction * n), n - 1) for fraction in FRACTIONS]  # as of `LogHistogram.quantile`, all at once
        slots = np.searchsorted(ends, ranks, side="right")
        return cls(
            scale=histogram.scale,
            zeros=histogram.zeros,
            nonzero=n,
            nonfinite=histogram.nonfinite,
            quantiles=tuple(magnitudes_of(slots, histogram.scale, histogram.mantissa_bits).tolist()) if n else (),
            histogram=histogram.fold(STORED_MANTISSA_BITS),
        )

    def __post_init__(self) -> None:
        assert bool(self.quantiles) == bool(self.nonzero), f"{len(self.quantiles)} quantiles of {self.nonzero} entries"
        assert self.histogram is None or self.histogram.scale == self.scale, "histogram of another scale"

    def to_json(self) -> list[Any]:
        """Return short JSON that reads back exactly: the fields in their order, without names.

        A percentile is the number of its bin at m = 5, whose midpoint it is, or the magnitude itself where it is no
        midpoint; the histogram is `[mantissa bits, NaN, infinite, below range, above range, runs]`.
        """
        bins = bins_of(np.array(self.quantiles), self.scale).tolist()
        packed = [bin_ or value for bin_, value in zip(bins, self.quantiles, strict=True)]
        h = self.histogram
        histogram = None if h is None else [h.mantissa_bits, h.nan, h.infinite, h.below_range, h.above_range, h.runs()]
        return [self.scale, self.zeros, self.nonzero, self.nonfinite, packed, histogram]

    @classmethod
    def from_json(cls, document: Any) -> LayerSnapshot:
        """Return the snapshot that `to_json` wrote; raises CorruptRecordError where it is no such document."""
        try:
            scale, zeros, nonzero, nonfinite, packed, histogram = document
            if isinstance(scale, bool) or not isinstance(scale, int | float):
                raise ValueError(f"expected a number, got {scale!r}")
            bins = [whole(value) for value in packed if not isinstance(value, float)]
            if unknown := [bin_ for bin_ in bins if not 0 < bin_ < bin_count(MANTISSA_BITS)]:
                raise ValueError(f"bin {unknown[0]} does not exist at {MANTISSA_BITS} mantissa bits")
            midpoints = iter(magnitudes_of(np.array(bins, dtype=np.int64), scale).tolist())
            return cls(
                scale=float(scale),
                zeros=whole(zeros),
                nonzero=whole(nonzero),
                nonfinite=whole(nonfinite),
                quantiles=tuple(value if isinstance(value, float) else next(midpoints) for value in packed),
                histogram=histogram and LogHistogram.from_runs(histogram[0], scale, histogram[1:-1], histogram[-1]),
            )
        except (AssertionError, TypeError, ValueError) as error:
            raise CorruptRecordError(f"damaged layer snapshot: {error}") from error


@dataclass(frozen=True)
class Snapshot:
    """All layers, in the series' order, after `step` optimizer steps; a layer without state is None.

    `epoch` counts epochs done, with fractions, and `threshold` is the magnitude, in √v̂ units, that the optimizer's own
    ε weighs as much as at this step; both are None where not known.
    """

    step: int
    epoch: float | None
    threshold: float | None
    layers: tuple[LayerSnapshot | None, ...]


class _Ends(NamedTuple):
    """The bounds at one step, in √v̂ units, and the layers that set each; several where theirs lie in the same bin."""

    step: int
    low: float
    high: float
    low_layers: tuple[str, ...]
    high_layers: tuple[str, ...]


@dataclass(frozen=True)
class Series:
    """Snapshots of the same layers, in rising order of steps; there may be none.

    `names`, `kinds` and `entries` are of the layers, see `LayerStatistics`; `fractions`, rising, are the percentiles
    that each snapshot holds.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    entries: tuple[int, ...]
    fractions: tuple[float, ...]
    snapshots: tuple[Snapshot, ...]

    def __post_init__(self) -> None:
        assert len(self.names) == len(self.kinds) == len(self.entries), "names, kinds and entries differ in number"
        assert _rises(self.fractions), f"fractions do not rise: {self.fractions}"
        assert _rises(self.steps), f"steps do not rise: {self.steps}"
        for snapshot in self.snapshots:
            sizes = {len(layer.quantiles) for layer in snapshot.layers if layer is not None}
            assert len(snapshot.layers) == len(self.names), f"{len(snapshot.layers)} layers at step {snapshot.step}"
            assert sizes <= {0, len(self.fractions)}, f"{sizes} quantiles at step {snapshot.step}"

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps of the snapshots."""
        return tuple(snapshot.step for snapshot in self.snapshots)

    def over_time(self, layer_name: str, fraction: float) -> list[tuple[int, float]]:
        """Return a layer's percentile at each step where it has one, as (step, √v̂); ValueError if there is no such."""
        index, column = self._index(layer_name), self._column(fraction)
        layers = ((snapshot.step, snapshot.layers[index]) for snapshot in self.snapshots)
        return [(step, layer.quantiles[column]) for step, layer in layers if layer is not None and layer.quantiles]

    def adaptable(
        self, layer_name: str | None = None, magnitude: float | None = None, *, kind: str | None = None
    ) -> list[tuple[int, float]]:
        """Return the share of the finite entries, zeros included, with √v̂ above a magnitude, over time.

        Such entries have a step size of their own; in the others ε decides.

        Args:
            layer_name: a layer; None pools the entries of all. ValueError where there is none of this name.
            kind: of the layers whose entries are pooled; None for any.
            magnitude: in √v̂ units; None takes each snapshot's own threshold, the optimizer's ε.

        Returns:
            (step, share in [0, 1]) of each snapshot that can tell; see `LogHistogram.entries_above` for the accuracy.
        """
        places = range(len(self.names)) if layer_name is None else [self._index(layer_name)]
        chosen = [place for place in places if kind in (None, self.kinds[place])]
        shares = []
        for snapshot in self.snapshots:
            threshold = snapshot.threshold if magnitude is None else magnitude
            layers = [layer for index in chosen if (layer := snapshot.layers[index]) is not None]
            histograms = [layer.histogram for layer in layers if layer.histogram is not None]
            finite = sum(histogram.finite for histogram in histograms)
            if threshold is not None and finite:
                above = sum(float(histogram.entries_above(threshold)) for histogram in histograms)
                shares.append((snapshot.step, above / finite))
        return shares

    def ends_over_time(self, tail_fraction: float = TAIL_FRACTION, *, leave_out: Collection[str] = ()) -> list[_Ends]:
        """Return the bounds at each step by the published rule, with the layers that set them.

        As in `bounds.estimate_bounds` a layer without finite non-zero entries, or with a NaN or infinite one, sets no
        bound, nor does one named in `leave_out`. Steps without any are left out. Raises ValueError where the series
        does not hold the percentiles of `tail_fraction`, or has no layer of such a name.
        """
        low, high = self._column(tail_fraction), self._column(1 - tail_fraction)
        left_out = {self._index(name) for name in leave_out}
        found = []
        for snapshot in self.snapshots:
            layers = [
                (self.names[index], layer.quantiles)
                for index, layer in enumerate(snapshot.layers)
                if layer is not None and layer.nonzero and not layer.nonfinite and index not in left_out
            ]
            if layers:
                least = min(quantiles[low] for _, quantiles in layers)
                greatest = max(quantiles[high] for _, quantiles in layers)
                low_layers = tuple(name for name, quantiles in layers if quantiles[low] == least)
                high_layers = tuple(name for name, quantiles in layers if quantiles[high] == greatest)
                found.append(_Ends(snapshot.step, least, greatest, low_layers, high_layers))
        return found

    def thinned(self, count: int) -> Series:
        """Return at most `count` of the snapshots, at least 2: evenly spread, the first and the last kept."""
        if len(self.snapshots) <= count:
            return self
        kept = np.linspace(0, len(self.snapshots) - 1, count).round().astype(int)
        return replace(self, snapshots=tuple(self.snapshots[index] for index in kept))

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values that read back exactly."""
        return {"version": VERSION, **to_document(self)}

    @classmethod
    def from_json(cls, document: Any) -> Series:
        """Return the series that `to_json` wrote; StoreError or CorruptRecordError where it is too new, or damaged."""
        return from_document(cls, fields_of(document, "series", VERSION), "series")

    def _column(self, fraction: float) -> int:
        """Return the position of a percentile in a snapshot; 1 − 0.02 and 0.98 are the same."""
        for column, held in enumerate(self.fractions):
            if math.isclose(held, fraction, rel_tol=0, abs_tol=1e-9):
                return column
        held_ones = ", ".join(f"{held:g}" for held in self.fractions)
        raise ValueError(f"this series holds no percentile at fraction {fraction:g}; it holds those at {held_ones}")

    def _index(self, layer_name: str) -> int:
        if layer_name in self.names:
            return self.names.index(layer_name)
        raise ValueError(f"this series has no layer {layer_name!r}; it has {', '.join(self.names)}")


def _rises(values: Sequence[float]) -> bool:
    return all(a < b for a, b in itertools.pairwise(values))
