"""The bounds of a probe as they come out where one choice is made differently.

The published rule chooses: 2 %, one epoch, one seed, frozen weights, every tensor whatever its size. Each choice made
differently once gives a `Variant`; those that need no further measuring are built here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from epsgrid.numerics.magnitudes import TAIL_FRACTION, Bound, LayerStatistics, LayerStatus, bounds_of, low_rank
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
        label: the choice, such as "5 %", "seed 1", "moving at lr 0.001", "rounding noise", "convolution" or
            "β₂ = 0.99".
        low: lower end.
        high: upper end.
    """

    kind: VariantKind
    label: str
    low: Bound
    high: Bound


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
        measured = (exact or {}).get(fraction) or [
            replace(layer, low=layer.histogram.quantile(fraction), high=layer.histogram.quantile(1 - fraction))
            if layer.histogram is not None and layer.status is LayerStatus.MEASURED
            else layer
            for layer in layers
        ]
        variants.append(_variant("tail", f"{100 * fraction:g} %", measured, placement))
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


def small_label(tail_fraction: float) -> str:
    """Return the label of the variant of `without_small`."""
    return f"layers of fewer than {least_entries(tail_fraction)} entries"


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


def without(
    layers: Sequence[LayerStatistics], placement: Placement, names: Collection[str], label: str
) -> Variant | None:
    """Return the bounds without some layers; None where no measured layer is left out, or all are."""
    measured = [layer for layer in layers if layer.status is LayerStatus.MEASURED]
    kept = [layer for layer in measured if layer.name not in names]
    return _variant("without", label, kept, placement) if len(kept) < len(measured) else None


def kind_variants(layers: Sequence[LayerStatistics], placement: Placement) -> tuple[Variant, ...]:
    """Return the bounds of each kind of layer alone, in the order in which kinds first occur."""
    kinds = dict.fromkeys(layer.kind for layer in layers)
    variants = (_variant("kind", kind, [layer for layer in layers if layer.kind == kind], placement) for kind in kinds)
    return tuple(variant for variant in variants if variant is not None)


def _variant(kind: VariantKind, label: str, layers: Sequence[LayerStatistics], placement: Placement) -> Variant | None:
    ends = bounds_of(layers, placement)
    return None if ends is None else Variant(kind, label, *ends)
