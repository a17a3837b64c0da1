"""Gradient magnitudes over time: snapshots of all layers at chosen steps, and what can be read from them later.

A snapshot keeps percentiles from the fine histogram (m = 5) and, of the histogram itself, only a folded copy: enough to
say at any later time which share of the entries lies above an ε, in a few hundred bytes a layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from epsgrid.numerics.histogram import LogHistogram
from epsgrid.numerics.magnitudes import read_document

FRACTIONS = (0.01, 0.02, 0.05, 0.25, 0.5, 0.75, 0.95, 0.98, 0.99)
"""The percentiles of a snapshot: the tails that a probe's reliability looks at, the published 2 % among them."""

STORED_MANTISSA_BITS = 1


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
        histogram: folded to `STORED_MANTISSA_BITS`; None where only the percentiles are kept.
    """

    scale: float
    zeros: int
    nonzero: int
    nonfinite: int
    quantiles: tuple[float, ...]
    histogram: LogHistogram | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; percentiles with four digits, for they are no more exact."""
        return {
            "scale": self.scale,
            "zeros": self.zeros,
            "nonzero": self.nonzero,
            "nonfinite": self.nonfinite,
            "quantiles": [float(f"{value:.4g}") for value in self.quantiles],
            "histogram": None if self.histogram is None else self.histogram.to_json(),
        }

    @classmethod
    def from_json(cls, document: Any) -> LayerSnapshot:
        """Return what `to_json` wrote; raises CorruptRecordError where it is no such document."""
        return read_document("layer snapshot", document, cls._from_json)

    @classmethod
    def _from_json(cls, document: Mapping[str, Any]) -> LayerSnapshot:
        fields = dict(document)
        histogram = fields.pop("histogram")
        return cls(
            quantiles=tuple(fields.pop("quantiles")),
            histogram=None if histogram is None else LogHistogram.from_json(histogram),
            **fields,
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
        """Return plain JSON values."""
        layers = [None if layer is None else layer.to_json() for layer in self.layers]
        return {"step": self.step, "epoch": self.epoch, "threshold": self.threshold, "layers": layers}

    @classmethod
    def from_json(cls, document: Any) -> Snapshot:
        """Return what `to_json` wrote; raises CorruptRecordError where it is no such document."""
        return read_document("snapshot", document, cls._from_json)

    @classmethod
    def _from_json(cls, document: Mapping[str, Any]) -> Snapshot:
        layers = tuple(None if layer is None else LayerSnapshot.from_json(layer) for layer in document["layers"])
        return cls(document["step"], document["epoch"], document["threshold"], layers)


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
