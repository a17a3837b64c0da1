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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from epsgrid.errors import CorruptRecordError, NoBoundsError
from epsgrid.numerics.histogram import LogHistogram, check_version
from epsgrid.numerics.placement import Placement

VERSION = 1
TAIL_FRACTION = 0.02
_LAYERS_IN_A_MESSAGE = 8

_T = TypeVar("_T")


class LayerStatus(StrEnum):
    """Whether a layer counts for the bounds, and why not."""

    MEASURED = "measured"
    ALL_ZERO = "all zero"
    EMPTY = "empty"
    FROZEN = "frozen"
    NO_GRADIENT = "no gradient"
    NON_FINITE = "non-finite"


@dataclass(frozen=True)
class LayerStatistics:
    """What was measured on one parameter tensor.

    Attributes:
        name: the parameter's name in its model.
        shape: the parameter's shape.
        entries: number of entries.
        nonzero: number of finite entries other than zero.
        low: exact lower order statistic, in √v̂ units; None unless measured.
        high: exact upper order statistic, likewise.
        histogram: counts of √v̂; None where there was nothing to count.
        status: whether the layer counts for the bounds.
    """

    name: str
    shape: tuple[int, ...]
    entries: int
    nonzero: int
    low: float | None
    high: float | None
    histogram: LogHistogram | None
    status: LayerStatus

    def __post_init__(self) -> None:
        measured = self.low is not None and self.high is not None
        assert measured == (self.status is LayerStatus.MEASURED), self

    @classmethod
    def unmeasured(cls, name: str, shape: Sequence[int], status: LayerStatus) -> LayerStatistics:
        """Return the statistics of a layer that has no second moment, such as a frozen one."""
        assert status is not LayerStatus.MEASURED
        return cls(name, tuple(shape), math.prod(shape), 0, None, None, None, status)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        histogram = None if self.histogram is None else self.histogram.to_json()
        return {
            "name": self.name,
            "shape": list(self.shape),
            "entries": self.entries,
            "nonzero": self.nonzero,
            "low": self.low,
            "high": self.high,
            "histogram": histogram,
            "status": self.status.value,
        }

    @classmethod
    def from_json(cls, document: Any) -> LayerStatistics:
        """Return the statistics that `to_json` wrote; raises as `EpsilonBounds.from_json`."""
        return _read("layer statistics", document, cls._from_json)

    @classmethod
    def _from_json(cls, document: Mapping[str, Any]) -> LayerStatistics:
        fields = dict(document)
        histogram = fields.pop("histogram")
        return cls(
            shape=tuple(fields.pop("shape")),
            histogram=None if histogram is None else LogHistogram.from_json(histogram),
            status=LayerStatus(fields.pop("status")),
            **fields,
        )


@dataclass(frozen=True)
class Bound:
    """One end of the ε range.

    Attributes:
        magnitude: the order statistic that sets it, in √v̂ units.
        epsilon: the same as an ε of the optimizer, not rounded.
        decade: the power of ten nearest to `epsilon` on a log scale.
        layers: names of the layers that set it; several where they tie.
        entries: number of finite non-zero entries of the first of them.
    """

    magnitude: float
    epsilon: float
    decade: float
    layers: tuple[str, ...]
    entries: int

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "magnitude": self.magnitude,
            "epsilon": self.epsilon,
            "decade": self.decade,
            "layers": list(self.layers),
            "entries": self.entries,
        }

    @classmethod
    def from_json(cls, document: Any) -> Bound:
        """Return the bound that `to_json` wrote; raises as `EpsilonBounds.from_json`."""
        return _read("bound", document, lambda fields: cls(**{**fields, "layers": tuple(fields["layers"])}))


@dataclass(frozen=True)
class EpsilonBounds:
    """The ε range of an optimizer on a task, and what it was estimated from.

    Attributes:
        low: lower end.
        high: upper end.
        tail_fraction: share of the non-zero entries beyond each order statistic, 0.02 as published.
        layers: every layer, also those that were skipped.
    """

    low: Bound
    high: Bound
    tail_fraction: float
    layers: tuple[LayerStatistics, ...]

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
        }

    @classmethod
    def from_json(cls, document: Any) -> EpsilonBounds:
        """Return the bounds that `to_json` wrote.

        Raises:
            StoreError: a newer version of epsgrid wrote them.
            CorruptRecordError: it is not such a document.
        """
        return _read("bounds", document, cls._from_json)

    @classmethod
    def _from_json(cls, document: Mapping[str, Any]) -> EpsilonBounds:
        check_version("set of bounds", document, VERSION)
        fields = {name: value for name, value in document.items() if name != "version"}
        return cls(
            low=Bound.from_json(fields.pop("low")),
            high=Bound.from_json(fields.pop("high")),
            layers=tuple(LayerStatistics.from_json(layer) for layer in fields.pop("layers")),
            **fields,
        )


def low_rank(entries: int, tail_fraction: float) -> int:
    """Return the index, counted from 0 in rising order, of the lower order statistic.

    The authors' code writes int((1 - 0.98) * n) where their text has 2 %: the floats differ, the indices never do (a
    test compares them).

    >>> low_rank(49, 0.02), low_rank(50, 0.02)
    (0, 1)
    """
    return int(tail_fraction * entries)


def high_rank(entries: int, tail_fraction: float) -> int:
    """Return the index, counted from 0 in rising order, of the upper order statistic.

    >>> high_rank(50, 0.02), high_rank(51, 0.02)
    (49, 49)
    """
    return min(int((1 - tail_fraction) * entries), entries - 1)


def decade_of(value: float) -> float:
    """Return the power of ten nearest to a positive number on a log scale; halfway goes to the even exponent.

    >>> decade_of(3.1e-5), decade_of(3.2e-5)
    (1e-05, 0.0001)

    Raises:
        ValueError: `value` is not positive and finite.
    """
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"only a positive finite number has a decade, got {value!r}")
    return float(f"1e{round(math.log10(value))}")


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
    measured = [layer for layer in layers if layer.status is LayerStatus.MEASURED]
    if not measured:
        raise NoBoundsError(_why_no_bounds(layers))
    return EpsilonBounds(
        low=_bound(measured, min, lambda layer: layer.low, placement),
        high=_bound(measured, max, lambda layer: layer.high, placement),
        tail_fraction=tail_fraction,
        layers=tuple(layers),
    )


def _bound(
    layers: Sequence[LayerStatistics],
    extreme: Callable[[list[float]], float],
    statistic: Callable[[LayerStatistics], float | None],
    placement: Placement,
) -> Bound:
    magnitudes = [value for layer in layers if (value := statistic(layer)) is not None]
    magnitude = extreme(magnitudes)
    setters = [layer for layer, value in zip(layers, magnitudes, strict=True) if value == magnitude]
    epsilon = placement.epsilon_from_magnitude(magnitude)
    return Bound(magnitude, epsilon, decade_of(epsilon), tuple(layer.name for layer in setters), setters[0].nonzero)


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


def _read(what: str, document: Any, build: Callable[[Mapping[str, Any]], _T]) -> _T:
    """Build from a document; whatever is wrong with its shape is a corrupt record."""
    try:
        return build(document)
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise CorruptRecordError(f"damaged {what}: {type(error).__name__}: {error}") from error
