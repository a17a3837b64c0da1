"""The statistics of a layer, and how an order statistic of it becomes a bound of ε."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from epsgrid.numerics.histogram import LogHistogram
from epsgrid.numerics.placement import Placement
from epsgrid.numerics.precision import shortened

TAIL_FRACTION = 0.02
OTHER = "other"


class LayerStatus(StrEnum):
    """Whether a layer counts for the bounds, and if not, why."""

    MEASURED = "measured"
    ALL_ZERO = "all zero"
    EMPTY = "empty"
    FROZEN = "frozen"
    NO_GRADIENT = "no gradient"
    NON_FINITE = "non-finite"
    LEFT_OUT = "left out"

    @classmethod
    def of(cls, histogram: LogHistogram) -> LayerStatus:
        """Return the status that follows from a layer's counts; a single NaN or infinity makes it non-finite."""
        if not histogram.total:
            return cls.EMPTY
        if histogram.nonfinite:
            return cls.NON_FINITE
        return cls.MEASURED if histogram.nonzero else cls.ALL_ZERO


@dataclass(frozen=True)
class LayerStatistics:
    """The measured statistics of one parameter tensor.

    Attributes:
        name, shape: of the parameter in its model.
        entries, nonzero: number of entries, and of finite ones other than zero.
        low, high: exact order statistics, in √v̂ units; None unless measured.
        histogram: counts of √v̂; None where nothing was counted.
        status: whether the layer counts for the bounds.
        kind: role of the parameter, such as "convolution", "bias" or "embedding"; "other" where it is not known.
    """

    name: str
    shape: tuple[int, ...]
    entries: int
    nonzero: int
    low: float | None
    high: float | None
    histogram: LogHistogram | None
    status: LayerStatus
    kind: str = OTHER

    def __post_init__(self) -> None:
        assert (self.low is not None) == (self.status is LayerStatus.MEASURED), (
            f"{self.name}: {self.status}, yet {self.low}"
        )

    def left_out(self) -> LayerStatistics:
        """Return the layer without a say in the bounds; its histogram stays."""
        return replace(self, low=None, high=None, status=LayerStatus.LEFT_OUT)

    @classmethod
    def unmeasured(cls, name: str, shape: Sequence[int], status: LayerStatus, kind: str = OTHER) -> LayerStatistics:
        """Return the statistics of a layer that has no second moment, such as a frozen one."""
        assert status is not LayerStatus.MEASURED
        return cls(name, tuple(shape), math.prod(shape), 0, None, None, None, status, kind)


@dataclass(frozen=True)
class Bound:
    """One end of the ε range.

    Attributes:
        magnitude: the order statistic that sets it, in √v̂ units.
        epsilon: the same as an ε of the optimizer, not rounded.
        decade: the power of ten to train with: that nearest to `epsilon` on a log scale; for an ε that is a square, the
            ε of the power of ten nearest to `magnitude`. See `Placement.epsilon_of_decade`.
        layers: names of the layers that set it; several where they tie.
        entries: number of finite non-zero entries of the first of them.
    """

    magnitude: float
    epsilon: float
    decade: float
    layers: tuple[str, ...]
    entries: int

    @property
    def set_by(self) -> str:
        """The first of the layers, and how many more there are."""
        return shortened(self.layers, 1)


def low_rank(entries: int, tail_fraction: float) -> int:
    """Return the index, from 0 in rising order, of the lower order statistic; the published int((1 - 0.98) * n) agrees.

    >>> low_rank(49, 0.02), low_rank(50, 0.02)
    (0, 1)
    """
    return int(tail_fraction * entries)


def high_rank(entries: int, tail_fraction: float) -> int:
    """Return the index, counted from 0 in rising order, of the upper order statistic."""
    return min(int((1 - tail_fraction) * entries), entries - 1)


def decade_of(value: float) -> float:
    """Return the power of ten nearest to a positive number on a log scale; halfway goes to the even exponent.

    >>> decade_of(3.1e-5), decade_of(3.2e-5)
    (1e-05, 0.0001)

    Raises ValueError where `value` is not positive and finite.
    """
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"only a positive finite number has a decade, got {value!r}")
    return float(f"1e{round(math.log10(value))}")


def bounds_of(layers: Sequence[LayerStatistics], placement: Placement) -> tuple[Bound, Bound] | None:
    """Return the lower and the upper bound that some layers set; None where none of them is measured."""
    lows = [(layer.low, layer) for layer in layers if layer.low is not None]
    highs = [(layer.high, layer) for layer in layers if layer.high is not None]
    return (_bound(min, lows, placement), _bound(max, highs, placement)) if lows else None


def _bound(
    extreme: Callable[[list[float]], float], statistics: list[tuple[float, LayerStatistics]], placement: Placement
) -> Bound:
    magnitude = extreme([value for value, _ in statistics])
    setters = [layer for value, layer in statistics if value == magnitude]
    epsilon = placement.epsilon_from_magnitude(magnitude)
    decade = placement.epsilon_of_decade(placement.decade_of(epsilon))
    return Bound(magnitude, epsilon, decade, tuple(layer.name for layer in setters), setters[0].nonzero)
