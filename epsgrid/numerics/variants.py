"""The bounds of a probe as they come out where one choice is made differently.

The published rule chooses: 2 %, one epoch, one seed, frozen weights, every tensor whatever its size. Each choice made
differently once gives a `Variant`; those that need no further measuring are built here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from epsgrid.numerics.magnitudes import (
    TAIL_FRACTION,
    Bound,
    LayerStatistics,
    LayerStatus,
    bounds_of,
    low_rank,
    read_document,
)
from epsgrid.numerics.placement import Placement

VariantKind = Literal["tail", "seed", "weights", "without", "kind", "betas"]

ROUNDING_NOISE = "rounding noise"
"""Label of the "without" variant in which entries or layers that are only rounding noise are left out."""


@dataclass(frozen=True)
class Variant:
    """The bounds as they come out where one choice is made differently.

    Attributes:
        kind: which choice. "tail": another tail fraction; "seed": other initial weights and batches; "weights": moving
            instead of frozen, or the reverse; "without": layers or entries left out; "kind": one kind of layer alone;
            "betas": another decay of v or m.
        label: the choice in words, such as "5 %", "seed 1", "moving at lr 0.001", "rounding noise", "convolution" or
            "β₂ = 0.99".
        low: lower end.
        high: upper end.
    """

    kind: VariantKind
    label: str
    low: Bound
    high: Bound

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"kind": self.kind, "label": self.label, "low": self.low.to_json(), "high": self.high.to_json()}

    @classmethod
    def from_json(cls, document: Any) -> Variant:
        """Return the variant that `to_json` wrote; raises CorruptRecordError where it is no such document."""
        return read_document(
            "variant",
            document,
            lambda fields: cls(
                **{**fields, "low": Bound.from_json(fields["low"]), "high": Bound.from_json(fields["high"])}
            ),
        )


def tail_variants(
    layers: Sequence[LayerStatistics],
    placement: Placement,
    fractions: Sequence[float] = (0.01, 0.05),
    exact: Mapping[float, Sequence[LayerStatistics]] | None = None,
) -> tuple[Variant, ...]:
    """Return the bounds as other tail fractions give them.

    Args:
        layers: of the probe.
        placement: where the optimizer adds its ε.
        fractions: tails to try, each in (0, 0.5).
        exact: the same layers measured with some of these tails. For the other tails the order statistics come from
            the histograms, within 0.8 %; that moves a decade where a bound lies as close to where rounding turns.
    """
    variants = []
    for fraction in fractions:
        of_tail = (exact or {}).get(fraction) or [_with_tail(layer, fraction) for layer in layers]
        variants.append(_variant("tail", f"{100 * fraction:g} %", of_tail, placement))
    return tuple(variant for variant in variants if variant is not None)


def least_entries(tail_fraction: float) -> int:
    """Return the number of non-zero entries from which on a layer's low end is not simply its minimum.

    >>> least_entries(0.02), least_entries(0.05)
    (50, 20)
    """
    entries = 1
    while low_rank(entries, tail_fraction) < 1:
        entries += 1
    return entries


def without_small(
    layers: Sequence[LayerStatistics], placement: Placement, tail_fraction: float = TAIL_FRACTION
) -> Variant | None:
    """Return the bounds without the layers that are too small for the published index: they give minimum and maximum.

    Returns:
        The variant; None where no layer is so small, or all are.
    """
    least = least_entries(tail_fraction)
    small = [layer.name for layer in layers if layer.nonzero < least]
    return without(layers, placement, small, small_label(tail_fraction))


def small_label(tail_fraction: float) -> str:
    """Return the label of the variant of `without_small`."""
    return f"layers of fewer than {least_entries(tail_fraction)} entries"


def without(
    layers: Sequence[LayerStatistics], placement: Placement, names: Collection[str], label: str
) -> Variant | None:
    """Return the bounds without some layers; None where these are none of the measured ones, or all of them."""
    measured = [layer for layer in layers if layer.status is LayerStatus.MEASURED]
    left = [layer for layer in measured if layer.name not in names]
    return _variant("without", label, left, placement) if len(left) < len(measured) else None


def kind_variants(layers: Sequence[LayerStatistics], placement: Placement) -> tuple[Variant, ...]:
    """Return the bounds of each kind of layer alone, in the order in which kinds first occur."""
    kinds = dict.fromkeys(layer.kind for layer in layers)
    variants = (_variant("kind", kind, [layer for layer in layers if layer.kind == kind], placement) for kind in kinds)
    return tuple(variant for variant in variants if variant is not None)


def _with_tail(layer: LayerStatistics, tail_fraction: float) -> LayerStatistics:
    """Return a layer with the order statistics of another tail, from its histogram."""
    if layer.histogram is None or layer.status is not LayerStatus.MEASURED:
        return layer
    return replace(layer, low=layer.histogram.quantile(tail_fraction), high=layer.histogram.quantile(1 - tail_fraction))


def _variant(kind: VariantKind, label: str, layers: Sequence[LayerStatistics], placement: Placement) -> Variant | None:
    ends = bounds_of(layers, placement)
    return None if ends is None else Variant(kind, label, *ends)
