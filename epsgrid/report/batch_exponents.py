"""How the bounds move with the batch size, as rows: exponents of each layer, and whether 1/√κ may scale the bounds.

`epsgrid.numerics.fits` has the fit and the meaning of its interval. Each percentile is fitted over all seeds; the
error of a scaled bound is taken seed by seed against the bound measured at that size.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from epsgrid.numerics.bounds import EpsilonBounds
from epsgrid.numerics.fits import Regime, fit_exponent, scaling_error
from epsgrid.numerics.magnitudes import LayerStatus
from epsgrid.numerics.statistics import mean_interval
from epsgrid.report.trust import MOSTLY
from epsgrid.selection.formatting import count
from epsgrid.selection.load import parsed_bounds
from epsgrid.store.paths import ExperimentFolder
from epsgrid.store.records import BatchBoundsRecord, ProbeRecord

Answer = Literal["safe", "safe for the lower bound only", "safe for the upper bound only", "not safe", "cannot tell"]
_ENDS = ("low", "median", "high")
_FEW_STEPS = 8
_LARGE_BATCH = 0.1
"""Share of the data from which on drawing without replacement shows."""

_Curve = Mapping[int, Mapping[int, float]]
"""Magnitudes of each seed by batch size."""


@dataclass(frozen=True)
class _MeasuredBatches:
    """Bounds at several batch sizes, as they are stored.

    Attributes:
        record: which sizes and seeds.
        bounds: by (batch size, seed).
        steps: of the probes at each batch size.
    """

    record: BatchBoundsRecord
    bounds: Mapping[tuple[int, int], EpsilonBounds]
    steps: Mapping[int, int]

    @property
    def first(self) -> EpsilonBounds:
        """The bounds of the first seed at the spec's own batch size."""
        return self.bounds[self.record.base_batch_size, self.record.seeds[0]]


@dataclass(frozen=True)
class _Fitted:
    """An exponent with its interval, and the law that it follows; see `epsgrid.numerics.fits`."""

    value: float
    low: float | None
    high: float | None
    regime: Regime


@dataclass(frozen=True)
class Miss:
    """By how many decades a scaled bound lies above the measured one: mean over seeds, and its t interval."""

    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class _SizeRow:
    """The bounds at one batch size, and the errors of the spec's own bounds scaled there by 1/√κ of their magnitude.

    Attributes:
        batch_size, steps: of the probes.
        kappa: the batch size over the spec's own.
        low, high: bounds of the first seed, ε of the optimizer, not rounded.
        low_decade, high_decade: the powers of ten a grid takes for them.
        low_miss, high_miss: scaling errors, in decades of the magnitude; None at the spec's own size.
    """

    batch_size: int
    steps: int
    kappa: float
    low: float
    high: float
    low_decade: float
    high_decade: float
    low_miss: Miss | None
    high_miss: Miss | None


@dataclass(frozen=True)
class _MovesRow:
    """How the percentiles of a layer move with the batch size.

    Attributes:
        name, kind, entries: of the layer.
        low, median, high: exponents of low tail, median and high tail; None where not measured at two sizes.
        is_rounding_noise: most of it is rounding noise.
    """

    name: str
    kind: str
    entries: int
    low: _Fitted | None
    median: _Fitted | None
    high: _Fitted | None
    is_rounding_noise: bool = False


@dataclass(frozen=True)
class ExponentRows:
    """How the bounds move with the batch size.

    Attributes:
        base_batch_size: the spec's own.
        sizes: rows of all sizes, rising.
        seeds: number of seeds that each size was probed with.
        tail_fraction: of the bounds.
        low, high: exponents of the bounds.
        layers: one row each, in the model's order.
        answer: whether the bounds may be scaled by 1/√κ.
        verdict: the answer with its reasons, one sentence without full stop.
        notes: what else to know, a sentence each.
    """

    base_batch_size: int
    sizes: tuple[_SizeRow, ...]
    seeds: int
    tail_fraction: float
    low: _Fitted
    high: _Fitted
    layers: tuple[_MovesRow, ...]
    answer: Answer
    verdict: str
    notes: tuple[str, ...]


def read_batches(folder: ExperimentFolder) -> _MeasuredBatches | None:
    """Return the bounds measured at several batch sizes; None where there are none.

    Raises:
        CorruptRecordError: a record is damaged.
        StoreError: one is missing, or a newer epsgrid wrote it.
    """
    if not folder.batch_bounds_json.exists():
        return None
    record = BatchBoundsRecord.read(folder.batch_bounds_json)
    bounds: dict[tuple[int, int], EpsilonBounds] = {}
    steps: dict[int, int] = {}
    for size in record.batch_sizes:
        for seed in record.seeds:
            path = folder.batch_probe(size, seed)
            probe = ProbeRecord.read(path)
            parsed = parsed_bounds(probe, path)
            assert parsed is not None
            bounds[size, seed] = parsed
            steps[size] = probe.steps
    return _MeasuredBatches(record, bounds, steps)


def exponent_rows(measured: _MeasuredBatches) -> ExponentRows:
    """Return the rows of bounds measured at several batch sizes."""
    record, base = measured.record, measured.record.base_batch_size
    first = measured.first
    low_curve, high_curve = _bound_curve(measured, "low"), _bound_curve(measured, "high")
    low, high = _fitted(low_curve), _fitted(high_curve)
    assert low is not None and high is not None
    sizes = tuple(_size_row(measured, size, low_curve, high_curve) for size in record.batch_sizes)
    noise = first.reliability.noise if first.reliability else {}
    curves, layers = _layer_curves(measured), []
    for layer in first.layers:
        ends = [_fitted(curves[layer.name][end]) for end in _ENDS]
        is_noise = noise.get(layer.name, 0.0) >= MOSTLY
        layers.append(_MovesRow(layer.name, layer.kind, layer.entries, ends[0], ends[1], ends[2], is_noise))
    answer: Answer = "cannot tell" if low.regime == high.regime == "undecided" else "not safe"
    if low.regime == high.regime == "noise-dominated":
        answer = "safe"
    elif low.regime == "noise-dominated":
        answer = "safe for the lower bound only"
    elif high.regime == "noise-dominated":
        answer = "safe for the upper bound only"
    return ExponentRows(
        base_batch_size=base,
        sizes=sizes,
        seeds=len(record.seeds),
        tail_fraction=first.tail_fraction,
        low=low,
        high=high,
        layers=tuple(layers),
        answer=answer,
        verdict=_verdict(answer, low, high, sizes, layers),
        notes=tuple(_notes(measured)),
    )


def _layer_curves(measured: _MeasuredBatches) -> dict[str, dict[str, _Curve]]:
    """Return the magnitudes of each layer's low tail, median and high tail, by seed and batch size.

    Layers that are measured at fewer than two sizes have curves too; a size where one is not measured is left out.
    """
    first = measured.first
    found: dict[str, dict[str, dict[int, dict[int, float]]]] = {
        layer.name: {end: {} for end in _ENDS} for layer in first.layers
    }
    for (size, seed), bounds in measured.bounds.items():
        for layer in bounds.layers:
            if layer.status is LayerStatus.MEASURED:
                median = layer.histogram.median if layer.histogram else None
                for end, value in zip(_ENDS, (layer.low, median, layer.high), strict=True):
                    if value:
                        found[layer.name][end].setdefault(seed, {})[size] = value
    return {name: dict(ends) for name, ends in found.items()}


def _bound_curve(measured: _MeasuredBatches, end: str) -> _Curve:
    """Return the magnitudes of a bound, by seed and batch size."""
    found: dict[int, dict[int, float]] = {}
    for (size, seed), bounds in measured.bounds.items():
        found.setdefault(seed, {})[size] = (bounds.low if end == "low" else bounds.high).magnitude
    return found


def _fitted(curve: _Curve) -> _Fitted | None:
    exponent = fit_exponent(curve)
    return None if exponent is None else _Fitted(exponent.value, exponent.low, exponent.high, exponent.regime)


def _size_row(measured: _MeasuredBatches, size: int, low_curve: _Curve, high_curve: _Curve) -> _SizeRow:
    here, base = measured.bounds[size, measured.record.seeds[0]], measured.record.base_batch_size
    misses: list[Miss | None] = [None, None]
    if size != base:
        for end, curve in enumerate((low_curve, high_curve)):
            error = mean_interval([scaling_error(own[base], own[size], size / base) for own in curve.values()])
            misses[end] = Miss(error.mean, error.low, error.high)
    return _SizeRow(
        batch_size=size,
        steps=measured.steps[size],
        kappa=size / base,
        low=here.low.epsilon,
        high=here.high.epsilon,
        low_decade=here.low.decade,
        high_decade=here.high.decade,
        low_miss=misses[0],
        high_miss=misses[1],
    )


def _verdict(
    answer: Answer, low: _Fitted, high: _Fitted, sizes: Sequence[_SizeRow], layers: Sequence[_MovesRow]
) -> str:
    question = f"scaling bounds by 1/√κ between batch {sizes[0].batch_size} and {sizes[-1].batch_size}: {answer}"
    ends = f"the lower bound goes as B^{exponent(low)} ({low.regime}), the upper as B^{exponent(high)} ({high.regime})"
    misses = [abs(miss.mean) for row in sizes for miss in (row.low_miss, row.high_miss) if miss is not None]
    regimes = Counter(row.median.regime for row in layers if row.median is not None)
    share = (
        f"in their median {regimes['noise-dominated']} of {count(sum(regimes.values()), 'layer')} are noise-dominated"
    )
    others = [f"{number} {regime}" for regime, number in regimes.most_common() if regime != "noise-dominated"]
    error = f"scaled bounds are off by at most {max(misses):.2f} decades"
    return f"{question}; {ends}; {error}; {', '.join([share, *others])}"


def exponent(fitted: _Fitted) -> str:
    """Write an exponent, with its interval where it has one.

    >>> exponent(_Fitted(-0.483, -0.51, -0.456, "noise-dominated"))
    '−0.48 [−0.51, −0.46]'
    """
    texts = [f"{value:.2f}".replace("-", "−") for value in (fitted.value, fitted.low, fitted.high) if value is not None]
    return f"{texts[0]} [{texts[1]}, {texts[2]}]" if len(texts) == 3 else texts[0]


def _notes(measured: _MeasuredBatches) -> Iterator[str]:
    record = measured.record
    yield "every size saw as many epochs, with frozen weights and with averages over as many epochs (β^κ)"
    largest = record.batch_sizes[-1]
    if measured.steps[largest] < _FEW_STEPS:
        yield (
            f"at batch {largest} v̂ is the mean square of only {count(measured.steps[largest], 'gradient')}, which "
            "draws its tails apart: more epochs (--epochs) help"
        )
    if len(record.batch_sizes) == 2 and len(record.seeds) == 1:
        yield "two sizes and one seed leave no interval: add a size, or seeds with probe.seeds"
    if record.examples is not None and largest >= _LARGE_BATCH * record.examples:
        smaller = 1 - math.sqrt(max(record.examples - largest, 0) / max(record.examples - 1, 1))
        yield (
            f"batch {largest} is {100 * largest / record.examples:.0f} % of the data: drawn without replacement, its "
            f"noise is {100 * smaller:.0f} % smaller than 1/√B says"
        )
