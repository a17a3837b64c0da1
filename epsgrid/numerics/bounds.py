"""The ε range of an optimizer, from the gradient magnitudes of its layers.

This is the published estimate: in each parameter tensor drop the exact zeros, sort the n others, take the entries at
the indices int(0.02·n) and int(0.98·n); the least of the former over all tensors and the greatest of the latter bound
ε, each rounded to a power of ten. Tensors of fewer than fifty non-zero entries thus contribute their minimum and
maximum, and a single bias may set a bound: each bound names the layers that set it.

The order statistics are exact, and magnitudes are converted into the optimizer's own ε before they are rounded, so
that an optimizer which adds ε under its root gets a range of the decades of b², not the squared decades of b.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from epsgrid.errors import NoBoundsError
from epsgrid.numerics.histogram import check_version
from epsgrid.numerics.magnitudes import (
    TAIL_FRACTION,
    Bound,
    LayerStatistics,
    LayerStatus,
    bounds_of,
    read_document,
)
from epsgrid.numerics.placement import Placement
from epsgrid.numerics.reliability import Reliability

VERSION = 1
_LAYERS_IN_A_MESSAGE = 8


@dataclass(frozen=True)
class EpsilonBounds:
    """The ε range of an optimizer on a task, and what it was estimated from.

    Attributes:
        low: lower end.
        high: upper end.
        tail_fraction: share of the non-zero entries beyond each order statistic, 0.02 as published.
        layers: every layer, also those that were skipped.
        reliability: how far the range can be trusted, and why; None where that was not looked at.
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
        return {
            "version": VERSION,
            "low": self.low.to_json(),
            "high": self.high.to_json(),
            "tail_fraction": self.tail_fraction,
            "layers": [layer.to_json() for layer in self.layers],
            "reliability": None if self.reliability is None else self.reliability.to_json(),
        }

    @classmethod
    def from_json(cls, document: Any) -> EpsilonBounds:
        """Return the bounds that `to_json` wrote.

        Raises:
            StoreError: a newer version of epsgrid wrote them.
            CorruptRecordError: it is not such a document.
        """
        return read_document("bounds", document, cls._from_json)

    @classmethod
    def _from_json(cls, document: Mapping[str, Any]) -> EpsilonBounds:
        check_version("set of bounds", document, VERSION)
        fields = {name: value for name, value in document.items() if name != "version"}
        reliability = fields.pop("reliability")
        return cls(
            low=Bound.from_json(fields.pop("low")),
            high=Bound.from_json(fields.pop("high")),
            layers=tuple(LayerStatistics.from_json(layer) for layer in fields.pop("layers")),
            reliability=None if reliability is None else Reliability.from_json(reliability),
            **fields,
        )


def estimate_bounds(
    layers: Sequence[LayerStatistics], placement: Placement, tail_fraction: float = TAIL_FRACTION
) -> EpsilonBounds:
    """Estimate the ε range from the layers' order statistics.

    Args:
        layers: statistics of all layers; those not measured are passed on in the result and otherwise left out.
        placement: where the optimizer adds its ε.
        tail_fraction: the tail that the layers were measured with.

    Raises:
        NoBoundsError: no layer was measured.
    """
    ends = bounds_of(layers, placement)
    if ends is None:
        raise NoBoundsError(_why_no_bounds(layers))
    return EpsilonBounds(*ends, tail_fraction, tuple(layers))


def _why_no_bounds(layers: Sequence[LayerStatistics]) -> str:
    if not layers:
        return "no bounds: the optimizer holds no parameters; give it those of the model"
    shown = [f"{layer.name}: {layer.status}" for layer in layers[:_LAYERS_IN_A_MESSAGE]]
    if len(layers) > len(shown):
        shown.append(f"and {len(layers) - len(shown)} more")
    return (
        f"no bounds: none of the {len(layers)} layers has finite non-zero second moments ({'; '.join(shown)}); "
        "check that the loss is finite and depends on parameters that require gradients"
    )
