"""Gradient magnitudes over time: snapshots of all layers at chosen steps, and what can be read from them later.

A snapshot keeps percentiles from the fine histogram (m = 5) and, of the histogram itself, only a folded copy: enough to
say at any later time which share of the entries lies above an ε, in a few hundred bytes a layer.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from epsgrid.numerics.histogram import LogHistogram, check_version
from epsgrid.numerics.magnitudes import TAIL_FRACTION, read_document
from epsgrid.numerics.packing import number, pack_histogram, pack_quantile, unpack_histogram, unpack_quantile, whole

FRACTIONS = (0.01, 0.02, 0.05, 0.25, 0.5, 0.75, 0.95, 0.98, 0.99)
"""The percentiles of a snapshot: the tails that a probe's reliability looks at, the published 2 % among them."""

STORED_MANTISSA_BITS = 1
VERSION = 1

_NAMES_IN_A_MESSAGE = 8


@dataclass(frozen=True)
class LayerSnapshot:
    """One layer at one step.

    Attributes:
        scale: v̂ = v · scale at that step.
        zeros: entries that are exactly zero.
        nonzero: finite entries other than zero.
        nonfinite: entries that are NaN or infinite.
        quantiles: √v̂ at the series' fractions of the non-zero entries, by the published index; each is the midpoint of
            its bin, within 0.8 %. Empty where no entry is non-zero.
        histogram: folded to `STORED_MANTISSA_BITS`, of the same scale; None where only the percentiles are kept.
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
        quantiles = (histogram.quantile(fraction) for fraction in FRACTIONS)
        return cls(
            scale=histogram.scale,
            zeros=histogram.zeros,
            nonzero=histogram.nonzero,
            nonfinite=histogram.nonfinite,
            quantiles=tuple(value for value in quantiles if value is not None),
            histogram=histogram.fold(STORED_MANTISSA_BITS),
        )

    def __post_init__(self) -> None:
        assert bool(self.quantiles) == bool(self.nonzero), f"{len(self.quantiles)} quantiles of {self.nonzero} entries"
        assert self.histogram is None or self.histogram.scale == self.scale, "histogram of another scale"

    def to_json(self) -> list[Any]:
        """Return plain JSON values that read back exactly: counts, percentiles, histogram, in the fields' order.

        A whole number among the percentiles is a bin at m = 5 whose midpoint is meant, a broken one the magnitude.
        """
        quantiles = [pack_quantile(value, self.scale) for value in self.quantiles]
        histogram = None if self.histogram is None else pack_histogram(self.histogram)
        return [self.scale, self.zeros, self.nonzero, self.nonfinite, quantiles, histogram]

    @classmethod
    def from_json(cls, document: Any) -> LayerSnapshot:
        """Return what `to_json` wrote; raises CorruptRecordError where it is no such document."""
        return read_document("layer snapshot", document, cls._from_json)

    @classmethod
    def _from_json(cls, document: Any) -> LayerSnapshot:
        scale, zeros, nonzero, nonfinite, quantiles, histogram = document
        return cls(
            scale=number(scale),
            zeros=whole(zeros),
            nonzero=whole(nonzero),
            nonfinite=whole(nonfinite),
            quantiles=tuple(unpack_quantile(value, scale) for value in quantiles),
            histogram=None if histogram is None else unpack_histogram(histogram, scale),
        )


@dataclass(frozen=True)
class Snapshot:
    """All layers at one step.

    Attributes:
        step: optimizer steps taken, from 1.
        epoch: epochs done, a fraction within an epoch; None where they are not known.
        threshold: the magnitude, in √v̂ units, that the optimizer's own ε weighs as much as at this step; None where it
            is not known or the optimizer has none.
        layers: in the series' order; None for a layer without state.
    """

    step: int
    epoch: float | None
    threshold: float | None
    layers: tuple[LayerSnapshot | None, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values that read back exactly."""
        layers = [None if layer is None else layer.to_json() for layer in self.layers]
        return {"step": self.step, "epoch": self.epoch, "threshold": self.threshold, "layers": layers}

    @classmethod
    def from_json(cls, document: Any) -> Snapshot:
        """Return what `to_json` wrote; raises CorruptRecordError where it is no such document."""
        return read_document("snapshot", document, cls._from_json)

    @classmethod
    def _from_json(cls, document: Mapping[str, Any]) -> Snapshot:
        layers = tuple(None if layer is None else LayerSnapshot.from_json(layer) for layer in document["layers"])
        epoch, threshold = (
            None if value is None else number(value) for value in (document["epoch"], document["threshold"])
        )
        return cls(whole(document["step"]), epoch, threshold, layers)


class Ends(NamedTuple):
    """The bounds at one step, in √v̂ units, and the layers that set them.

    Attributes:
        step: of the snapshot.
        low: least lower order statistic of the layers.
        high: greatest upper one.
        low_layers: the layers that set `low`; several where theirs lie in the same bin, which percentiles cannot tell
            apart.
        high_layers: likewise for `high`.
    """

    step: int
    low: float
    high: float
    low_layers: tuple[str, ...]
    high_layers: tuple[str, ...]


@dataclass(frozen=True)
class Series:
    """Snapshots of the same layers, in rising order of steps.

    Attributes:
        names: of the layers.
        kinds: what each layer does, as in `LayerStatistics.kind`.
        entries: number of entries of each layer.
        fractions: the percentiles that each snapshot holds, rising.
        snapshots: may be none.
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

    def at(self, fraction: float) -> npt.NDArray[np.float64]:
        """Return one percentile of all layers at all snapshots.

        Args:
            fraction: one of `fractions`.

        Returns:
            √v̂, shape (snapshots, layers); NaN where a layer has no finite non-zero entry.

        Raises:
            ValueError: the series does not hold that percentile.
        """
        column = self._column(fraction)
        rows = [
            [
                layer.quantiles[column] if layer is not None and layer.quantiles else math.nan
                for layer in snapshot.layers
            ]
            for snapshot in self.snapshots
        ]
        return np.array(rows, dtype=np.float64).reshape(len(self.snapshots), len(self.names))

    def over_time(self, layer_name: str, fraction: float) -> list[tuple[int, float]]:
        """Return a layer's percentile at each step where it has one, as (step, √v̂).

        Raises:
            ValueError: there is no such layer, or no such percentile.
        """
        index, column = self._index(layer_name), self._column(fraction)
        layers = ((snapshot.step, snapshot.layers[index]) for snapshot in self.snapshots)
        return [(step, layer.quantiles[column]) for step, layer in layers if layer is not None and layer.quantiles]

    def adaptable(self, layer_name: str | None = None, magnitude: float | None = None) -> list[tuple[int, float]]:
        """Return the share of the finite entries, zeros included, with √v̂ above a magnitude, over time.

        Such entries have a step size of their own; in the others ε decides. Within the bin that holds the magnitude the
        entries are taken to be spread evenly over √v̂, so the share is exact at bin edges and elsewhere off by at most
        that bin's share.

        Args:
            layer_name: a layer; None pools the entries of all.
            magnitude: in √v̂ units; None takes each snapshot's own threshold, the optimizer's ε.

        Returns:
            (step, share in [0, 1]) of each snapshot that keeps histograms, has a threshold or is given a magnitude, and
            has finite entries.

        Raises:
            ValueError: there is no such layer.
        """
        chosen = range(len(self.names)) if layer_name is None else [self._index(layer_name)]
        shares = []
        for snapshot in self.snapshots:
            threshold = snapshot.threshold if magnitude is None else magnitude
            layers = [layer for index in chosen if (layer := snapshot.layers[index]) is not None]
            share = None if threshold is None else _share_above(layers, threshold)
            if share is not None:
                shares.append((snapshot.step, share))
        return shares

    def ends_over_time(
        self,
        tail_fraction: float = TAIL_FRACTION,
        *,
        kinds: Collection[str] | None = None,
        names: Collection[str] | None = None,
        leave_out: Collection[str] = (),
    ) -> list[Ends]:
        """Return the bounds at each step by the published rule, with the layers that set them.

        The rule is that of `bounds.estimate_bounds`, with percentiles in place of exact order statistics: a layer
        without finite non-zero entries, or with a NaN or infinite one, sets no bound. Steps where no layer does are
        left out.

        Args:
            tail_fraction: share of the non-zero entries beyond each order statistic.
            kinds: only layers of these kinds; None takes all.
            names: only these layers; None takes all.
            leave_out: names of layers that set no bound.

        Raises:
            ValueError: the series does not hold the percentiles of that tail, or has no layer of such a name or kind.
        """
        low, high = self._column(tail_fraction), self._column(1 - tail_fraction)
        chosen = self._chosen(kinds, names, leave_out)
        rows = ((snapshot.step, self._measured(snapshot, chosen)) for snapshot in self.snapshots)
        return [_ends(step, layers, low, high) for step, layers in rows if layers]

    def bounds_over_time(
        self,
        tail_fraction: float = TAIL_FRACTION,
        *,
        kinds: Collection[str] | None = None,
        names: Collection[str] | None = None,
        leave_out: Collection[str] = (),
    ) -> list[tuple[int, float, float]]:
        """Return (step, lower bound, upper bound) in √v̂ units; see `ends_over_time`, also for what it raises."""
        ends = self.ends_over_time(tail_fraction, kinds=kinds, names=names, leave_out=leave_out)
        return [(end.step, end.low, end.high) for end in ends]

    def step_at(self, epoch: float) -> int | None:
        """Return the step of the last snapshot within the first `epoch` epochs; None where there is none.

        With `drift`, `step_at(1)` is the reference for how the bounds of the first epoch hold later.
        """
        within = [s.step for s in self.snapshots if s.epoch is not None and s.epoch <= epoch]
        return within[-1] if within else None

    def thinned(self, count: int) -> Series:
        """Return the series with at most `count` snapshots, spread evenly, the first and the last among them.

        Raises:
            ValueError: `count` is below 2.
        """
        if count < 2:
            raise ValueError(
                f"a thinned series keeps its first and last snapshot: count must be at least 2, got {count}"
            )
        if len(self.snapshots) <= count:
            return self
        kept = np.linspace(0, len(self.snapshots) - 1, count).round().astype(int)
        return replace(self, snapshots=tuple(self.snapshots[index] for index in kept))

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values that read back exactly."""
        return {
            "version": VERSION,
            "names": list(self.names),
            "kinds": list(self.kinds),
            "entries": list(self.entries),
            "fractions": list(self.fractions),
            "snapshots": [snapshot.to_json() for snapshot in self.snapshots],
        }

    @classmethod
    def from_json(cls, document: Any) -> Series:
        """Return the series that `to_json` wrote.

        Raises:
            StoreError: a newer version of epsgrid wrote it.
            CorruptRecordError: it is not such a document.
        """
        check_version("series", document, VERSION)
        return read_document("series", document, cls._from_json)

    @classmethod
    def _from_json(cls, document: Mapping[str, Any]) -> Series:
        fields = {name: value for name, value in document.items() if name != "version"}
        snapshots = tuple(Snapshot.from_json(snapshot) for snapshot in fields.pop("snapshots"))
        return cls(snapshots=snapshots, **{name: tuple(values) for name, values in fields.items()})

    def _column(self, fraction: float) -> int:
        """Return where a snapshot keeps a percentile; 1 − 0.02 and 0.98 are the same."""
        for column, held in enumerate(self.fractions):
            if math.isclose(held, fraction, rel_tol=0, abs_tol=1e-9):
                return column
        held_ones = ", ".join(f"{held:g}" for held in self.fractions)
        raise ValueError(f"this series holds no percentile at fraction {fraction:g}; it holds those at {held_ones}")

    def _index(self, layer_name: str) -> int:
        self._check_known("layer", [layer_name], self.names)
        return self.names.index(layer_name)

    def _chosen(
        self, kinds: Collection[str] | None, names: Collection[str] | None, leave_out: Collection[str]
    ) -> list[int]:
        self._check_known("kind", kinds or (), self.kinds)
        self._check_known("layer", [*(names or ()), *leave_out], self.names)
        return [
            index
            for index, (name, kind) in enumerate(zip(self.names, self.kinds, strict=True))
            if (kinds is None or kind in kinds) and (names is None or name in names) and name not in leave_out
        ]

    def _check_known(self, what: str, asked: Collection[str], known: Sequence[str]) -> None:
        if unknown := [name for name in asked if name not in known]:
            valid = list(dict.fromkeys(known))
            more = f" and {len(valid) - _NAMES_IN_A_MESSAGE} more" if len(valid) > _NAMES_IN_A_MESSAGE else ""
            raise ValueError(
                f"this series has no {what} {unknown[0]!r}; it has {', '.join(valid[:_NAMES_IN_A_MESSAGE])}{more}"
            )

    def _measured(self, snapshot: Snapshot, chosen: Sequence[int]) -> list[tuple[str, LayerSnapshot]]:
        """Return name and snapshot of the chosen layers that count for the bounds."""
        layers = ((self.names[index], snapshot.layers[index]) for index in chosen)
        return [(name, layer) for name, layer in layers if layer is not None and layer.nonzero and not layer.nonfinite]


def drift(bounds: Sequence[tuple[int, float, float]], reference_step: int) -> list[tuple[int, float, float]]:
    """Return how far bounds have moved since a reference step, so that "do they hold later" is a number.

    >>> drift([(10, 1e-6, 1e-3), (20, 1e-6, 1e-2), (30, 1e-7, 1e-2)], 15)
    [(10, 0.0, 0.0), (20, 0.0, 1.0), (30, -1.0, 1.0)]

    Args:
        bounds: what `Series.bounds_over_time` returned, or the same as ε.
        reference_step: the last row up to this step is the reference.

    Returns:
        (step, log10 of low over the reference's low, the same of high) for every row; positive means larger.

    Raises:
        ValueError: all rows lie behind the reference step.
    """
    before = [row for row in bounds if row[0] <= reference_step]
    if not before:
        first = f"the first is at step {bounds[0][0]}" if bounds else "there are none at all"
        raise ValueError(f"no bounds up to the reference step {reference_step}; {first}")
    _, low_then, high_then = before[-1]
    return [(step, _decades(low, low_then), _decades(high, high_then)) for step, low, high in bounds]


def _decades(value: float, reference: float) -> float:
    """Return log10(value / reference), 0 for equals; the difference of logarithms, for the ratio may overflow."""
    return math.log10(value) - math.log10(reference)


def _ends(step: int, layers: Sequence[tuple[str, LayerSnapshot]], low: int, high: int) -> Ends:
    lows = [(layer.quantiles[low], name) for name, layer in layers]
    highs = [(layer.quantiles[high], name) for name, layer in layers]
    least, greatest = min(lows)[0], max(highs)[0]
    return Ends(
        step,
        least,
        greatest,
        tuple(name for value, name in lows if value == least),
        tuple(name for value, name in highs if value == greatest),
    )


def _share_above(layers: Sequence[LayerSnapshot], magnitude: float) -> float | None:
    """Return the share of the layers' finite entries above a magnitude; None without histograms or finite entries."""
    histograms = [layer.histogram for layer in layers if layer.histogram is not None]
    finite = sum(histogram.zeros + histogram.nonzero for histogram in histograms)
    return sum(_entries_above(histogram, magnitude) for histogram in histograms) / finite if finite else None


def _entries_above(histogram: LogHistogram, magnitude: float) -> float:
    """Return how many finite entries lie above a magnitude, a bin's entries spread evenly between its edges."""
    edges = histogram.edges()
    above = histogram.counts.sum() - np.interp(magnitude, edges, np.cumsum(histogram.counts))
    above += histogram.below_range * (magnitude**2 < 2.0**-149 * histogram.scale)
    return float(above + histogram.above_range * (magnitude < edges[-1]))


def _rises(values: Sequence[float]) -> bool:
    return all(a < b for a, b in itertools.pairwise(values))
