"""How far the bounds can be trusted and what they are for each kind of layer, as rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from epsgrid import codec
from epsgrid.numerics.bounds import EpsilonBounds, Verdict
from epsgrid.numerics.magnitudes import OTHER, LayerStatistics, LayerStatus, bounds_of
from epsgrid.numerics.placement import Placement
from epsgrid.numerics.trajectory import settled_after

_CHOICES = {
    "tail": "tail of {}",
    "seed": "{}",
    "weights": "weights {}",
    "without": "without {}",
    "betas": "{}",
}


@dataclass(frozen=True)
class _VariantRow:
    """The bounds, as powers of ten, where one choice is made differently; `kind` is "" for those that were measured.

    `low_moved` and `high_moved` are decades by which the unrounded ends lie above those that were measured.
    """

    kind: str
    choice: str
    low: float
    high: float
    decades: int
    low_moved: float
    high_moved: float


@dataclass(frozen=True)
class ReliabilityRow:
    """How far the bounds can be trusted.

    Attributes:
        variants: the bounds as they were measured, then those under other choices but single kinds of layer.
        settled_after, steps: steps of the probe after which the decades of the bounds were those of the end, and all
            its steps; None where they were not followed.
        noise: share of rounding noise among the non-zero entries, by layer; layers without any are left out.
        noise_checked: whether rounding noise was looked for and could be told.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    variants: tuple[_VariantRow, ...]
    settled_after: int | None
    steps: int | None
    noise: Mapping[str, float]
    noise_checked: bool

    def to_json(self) -> dict[str, Any]:
        """Return the row as plain JSON values."""
        noise = [{"layer": layer, "share": share} for layer, share in self.noise.items()]
        return {**codec.to_document(self), "noise": noise}


@dataclass(frozen=True)
class KindRow:
    """The bounds, ε not rounded, that one kind of layer would set alone, and the first layers that set them.

    `layers` and `entries` count its measured layers and their finite non-zero entries.
    """

    kind: str
    layers: int
    entries: int
    low: float
    high: float
    low_layer: str
    high_layer: str


def reliability_row(bounds: EpsilonBounds) -> ReliabilityRow | None:
    """Return how far some bounds can be trusted; None where that was not looked at."""
    found = bounds.reliability
    if found is None:
        return None
    choices = [("", "as measured", bounds.low, bounds.high)]
    choices += [
        (variant.kind, _CHOICES[variant.kind].format(variant.label), variant.low, variant.high)
        for variant in found.variants
        if variant.kind != "kind"
    ]
    variants = tuple(
        _VariantRow(
            kind=kind,
            choice=choice,
            low=low.decade,
            high=high.decade,
            decades=round(math.log10(high.decade / low.decade)) + 1,
            low_moved=math.log10(low.epsilon / bounds.low.epsilon),
            high_moved=math.log10(high.epsilon / bounds.high.epsilon),
        )
        for kind, choice, low, high in choices
    )
    return ReliabilityRow(
        verdict=found.verdict,
        reasons=found.reasons,
        variants=variants if len(variants) > 1 else (),
        settled_after=settled_after(found.course) if found.course else None,
        steps=found.course.steps[-1] if found.course and found.course.steps else None,
        noise=found.noise,
        noise_checked=found.noise_checked,
    )


def kind_rows(bounds: EpsilonBounds, placement: Placement) -> tuple[KindRow, ...]:
    """Return the bounds of each kind of layer, in the model's order; none where kinds are unknown."""
    measured = [layer for layer in bounds.layers if layer.status is LayerStatus.MEASURED]
    kinds = dict.fromkeys(layer.kind for layer in measured)
    if not set(kinds) - {OTHER}:
        return ()
    rows = []
    for kind in kinds:
        layers = [layer for layer in measured if layer.kind == kind]
        ends = bounds_of(layers, placement)
        assert ends is not None
        low, high = ends
        nonzero = sum(layer.nonzero for layer in layers)
        rows.append(KindRow(kind, len(layers), nonzero, low.epsilon, high.epsilon, low.layers[0], high.layers[0]))
    return tuple(rows)


def shares_above(layers: Sequence[LayerStatistics], magnitudes: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the share of the layers' finite entries, zeros included, with √v̂ above each of some magnitudes.

    These are the entries whose step still adapts. At least one layer has finite entries; magnitudes may have any shape.
    """
    histograms = [layer.histogram for layer in layers if layer.histogram is not None]
    above = np.sum([histogram.entries_above(magnitudes) for histogram in histograms], axis=0)
    return np.asarray(above / sum(histogram.finite for histogram in histograms))
