"""The ε range of an optimizer, from the gradient magnitudes of its layers.

This is the published estimate: in each parameter tensor drop the exact zeros, sort the n others, take the entries at
the indices int(0.02·n) and int(0.98·n); the least of the former over all tensors and the greatest of the latter bound
ε, each rounded to a power of ten. A single bias may set a bound, so each bound names the layers that set it.

The order statistics are exact, and magnitudes are converted into the optimizer's own ε before they are rounded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from epsgrid.codec import from_document, to_document
from epsgrid.errors import NoBoundsError
from epsgrid.numerics.histogram import fields_of
from epsgrid.numerics.magnitudes import TAIL_FRACTION, Bound, LayerStatistics, LayerStatus, bounds_of
from epsgrid.numerics.placement import Placement
from epsgrid.numerics.trajectory import Trajectory

VERSION = 1
_LAYERS_IN_A_MESSAGE = 8

Verdict = Literal["high", "medium", "low"]
_EARLIER_VERDICTS = {"firm": "high", "soft": "medium", "not to be trusted": "low"}
"""The words that files of earlier versions hold."""


VariantKind = Literal["tail", "seed", "weights", "without", "kind", "betas"]
"""Files of earlier versions hold the last two."""


@dataclass(frozen=True)
class Variant:
    """The bounds as they come out where one choice is made differently.

    Attributes:
        kind: which choice: another tail fraction, seed, moving weights, or layers or entries left out.
        label: the choice, such as "5 %", "seed 1", "moving at lr 0.001" or "rounding noise".
        low, high: the ends.
    """

    kind: VariantKind
    label: str
    low: Bound
    high: Bound


@dataclass(frozen=True)
class Reliability:
    """How far the bounds can be trusted; `epsgrid.numerics.reliability` has the rules.

    Attributes:
        verdict: the confidence in the bounds.
        reasons: a sentence each; for high confidence they say what it rests on.
        variants: the bounds under other choices.
        course: the bounds over the probe's steps; None where they were not recorded.
        noise: share of the non-zero entries that are only rounding noise, by name of layer; layers without any are
            left out.
        noise_checked: whether the layers were checked for rounding noise.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    variants: tuple[Variant, ...] = ()
    course: Trajectory | None = None
    noise: dict[str, float] = field(default_factory=dict)
    noise_checked: bool = False

    def of_kind(self, kind: VariantKind) -> tuple[Variant, ...]:
        """Return the variants in which one sort of choice is made differently."""
        return tuple(variant for variant in self.variants if variant.kind == kind)


@dataclass(frozen=True)
class EpsilonBounds:
    """The ε range of an optimizer on a task, and the statistics it was estimated from.

    Attributes:
        low, high: the ends.
        tail_fraction: share of the non-zero entries beyond each order statistic, 0.02 as published.
        layers: every layer, also those that were skipped.
        reliability: how far the range can be trusted, and why; None where that was not judged.
    """

    low: Bound
    high: Bound
    tail_fraction: float
    layers: tuple[LayerStatistics, ...]
    reliability: Reliability | None = None

    @property
    def skipped(self) -> tuple[LayerStatistics, ...]:
        """The layers that do not count for the bounds; their status says why."""
        return tuple(layer for layer in self.layers if layer.status is not LayerStatus.MEASURED)

    @property
    def decades(self) -> tuple[float, ...]:
        """The powers of ten from the lower to the upper end, both included, rising."""
        first, last = (round(math.log10(bound.decade)) for bound in (self.low, self.high))
        return tuple(float(f"1e{exponent}") for exponent in range(first, last + 1))

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"version": VERSION, **to_document(self)}

    @classmethod
    def from_json(cls, document: Any) -> EpsilonBounds:
        """Return the bounds that `to_json` wrote.

        Raises:
            StoreError, CorruptRecordError: a newer version of epsgrid wrote them, or they are damaged.
        """
        fields = fields_of(document, "set of bounds", VERSION)
        reliability = fields.get("reliability")
        if isinstance(reliability, dict) and reliability.get("verdict") in _EARLIER_VERDICTS:
            fields["reliability"] = {**reliability, "verdict": _EARLIER_VERDICTS[reliability["verdict"]]}
        return from_document(cls, fields, "bounds")


def estimate_bounds(
    layers: Sequence[LayerStatistics], placement: Placement, tail_fraction: float = TAIL_FRACTION
) -> EpsilonBounds:
    """Estimate the ε range from the layers' order statistics.

    Args:
        layers: statistics of all layers; those that are not measured set no bound.
        placement: where the optimizer adds its ε.
        tail_fraction: the tail that the layers were measured with.

    Raises:
        NoBoundsError: no layer was measured.
    """
    ends = bounds_of(layers, placement)
    if ends is not None:
        return EpsilonBounds(*ends, tail_fraction, tuple(layers))
    if not layers:
        raise NoBoundsError("no bounds: the optimizer holds no parameters; give it those of the model")
    shown = [f"{layer.name}: {layer.status}" for layer in layers[:_LAYERS_IN_A_MESSAGE]]
    if len(layers) > len(shown):
        shown.append(f"and {len(layers) - len(shown)} more")
    raise NoBoundsError(
        f"no bounds: none of the {len(layers)} layers has finite non-zero second moments ({'; '.join(shown)}); "
        "check that the loss is finite and depends on parameters that require gradients"
    )
