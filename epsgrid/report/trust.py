"""How far the bounds can be trusted and what they are for each kind of layer, as rows.

What the rows say was worked out and stored by the probe; here it is only put into an order a reader can follow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from epsgrid.numerics.bounds import EpsilonBounds, Reliability, Verdict
from epsgrid.numerics.estimates import PointEstimate, point_estimates
from epsgrid.numerics.magnitudes import OTHER, Bound, LayerStatus, bounds_of
from epsgrid.numerics.placement import Placement
from epsgrid.numerics.trajectory import settled_after
from epsgrid.numerics.variants import Variant

AS_MEASURED = "as measured"
MOSTLY = 0.5
"""Share of rounding noise from which on a layer has no say in a point estimate."""

_CHOICES = {
    "tail": "tail of {}",
    "seed": "{}",
    "weights": "weights {}",
    "without": "without {}",
    "kind": "{} layers alone",
    "betas": "{}",
}


@dataclass(frozen=True)
class VariantRow:
    """The bounds where one choice is made differently.

    Attributes:
        kind: which choice, as in `Variant.kind`; "" for the bounds as they were measured.
        choice: the choice in words.
        low: lower end, the power of ten.
        high: upper end, likewise.
        decades: powers of ten from end to end.
        low_moved: decades by which the unrounded lower end lies above that of the bounds; negative below.
        high_moved: likewise, the upper end.
    """

    kind: str
    choice: str
    low: float
    high: float
    decades: int
    low_moved: float
    high_moved: float


@dataclass(frozen=True)
class NoiseRow:
    """A layer with entries whose gradient is only rounding noise, and which share of its non-zero entries they are."""

    layer: str
    share: float


@dataclass(frozen=True)
class ReliabilityRow:
    """How far the bounds can be trusted.

    Attributes:
        verdict: the confidence: "high", "medium" or "low".
        reasons: why, a sentence each.
        variants: the bounds as they were measured, then those under other choices; without those of single kinds of
            layer, which are `KindRow`s.
        settled_after: steps of the probe after which the decades of the bounds were those of the end; None where they
            were not followed.
        steps: steps of the probe; None likewise.
        noise: the layers with rounding noise.
        noise_checked: whether it was looked for and could be told.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    variants: tuple[VariantRow, ...]
    settled_after: int | None
    steps: int | None
    noise: tuple[NoiseRow, ...]
    noise_checked: bool


@dataclass(frozen=True)
class KindRow:
    """The bounds that one kind of layer would set alone.

    Attributes:
        kind: such as "convolution".
        layers: number of layers of that kind that were measured.
        entries: their finite non-zero entries together.
        low: lower end, ε of the optimizer, not rounded.
        high: upper end, likewise.
        low_layer: the layer that sets it, the first where they tie.
        high_layer: likewise.
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
    return ReliabilityRow(
        verdict=found.verdict,
        reasons=found.reasons,
        variants=_variants(bounds, found),
        settled_after=settled_after(found.course) if found.course else None,
        steps=found.course.steps[-1] if found.course and found.course.steps else None,
        noise=tuple(NoiseRow(layer, share) for layer, share in found.noise.items()),
        noise_checked=found.noise_checked,
    )


def kind_rows(bounds: EpsilonBounds, placement: Placement) -> tuple[KindRow, ...]:
    """Return the bounds of each kind of layer, in the order in which the model has them; none where kinds are unknown.

    Args:
        bounds: with their layers.
        placement: where the optimizer adds its ε.
    """
    kinds = dict.fromkeys(layer.kind for layer in bounds.layers if layer.status is LayerStatus.MEASURED)
    if not set(kinds) - {OTHER}:
        return ()
    return tuple(_kind_row(kind, bounds, placement) for kind in kinds)


def _kind_row(kind: str, bounds: EpsilonBounds, placement: Placement) -> KindRow:
    layers = [layer for layer in bounds.layers if layer.kind == kind and layer.status is LayerStatus.MEASURED]
    ends = bounds_of(layers, placement)
    assert ends is not None
    low, high = ends
    nonzero = sum(layer.nonzero for layer in layers)
    return KindRow(kind, len(layers), nonzero, low.epsilon, high.epsilon, low.layers[0], high.layers[0])


def _variants(bounds: EpsilonBounds, found: Reliability) -> tuple[VariantRow, ...]:
    variants = [variant for variant in found.variants if variant.kind != "kind"]
    if not variants:
        return ()
    return (_variant_row("", AS_MEASURED, bounds.low, bounds.high, bounds), *(_varied(v, bounds) for v in variants))


def _varied(variant: Variant, bounds: EpsilonBounds) -> VariantRow:
    choice = _CHOICES[variant.kind].format(variant.label)
    return _variant_row(variant.kind, choice, variant.low, variant.high, bounds)


def _variant_row(kind: str, choice: str, low: Bound, high: Bound, bounds: EpsilonBounds) -> VariantRow:
    return VariantRow(
        kind=kind,
        choice=choice,
        low=low.decade,
        high=high.decade,
        decades=round(math.log10(high.decade / low.decade)) + 1,
        low_moved=math.log10(low.epsilon / bounds.low.epsilon),
        high_moved=math.log10(high.epsilon / bounds.high.epsilon),
    )


def estimates(bounds: EpsilonBounds, placement: Placement) -> tuple[PointEstimate, ...]:
    """Return ε as it would be chosen without a sweep; layers that are mostly rounding noise have no say.

    Args:
        bounds: with their layers.
        placement: where the optimizer adds its ε.
    """
    noise = bounds.reliability.noise if bounds.reliability else {}
    return point_estimates(bounds.layers, placement, [layer for layer, share in noise.items() if share >= MOSTLY])
