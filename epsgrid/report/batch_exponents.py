"""How the bounds move with the batch size, as rows: exponents of each layer, and where 1/√κ may carry bounds.

`epsgrid.numerics.fits` has the fit and what its interval says. Each percentile is fitted over all seeds; what a
carried bound misses by is taken seed by seed against the bound measured at that size.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from epsgrid.numerics.bounds import EpsilonBounds
from epsgrid.numerics.fits import Exponent, Regime, fit_exponent, scaling_error
from epsgrid.numerics.magnitudes import LayerStatistics, LayerStatus, decade_of
from epsgrid.numerics.placement import Placement
from epsgrid.numerics.scaling import scaled_magnitude
from epsgrid.numerics.statistics import mean_interval
from epsgrid.report.load import parsed_bounds
from epsgrid.report.trust import MOSTLY
from epsgrid.report.words import count
from epsgrid.store.paths import ExperimentFolder
from epsgrid.store.records import BatchBoundsRecord, ProbeRecord

Answer = Literal["safe", "safe for the lower bound only", "safe for the upper bound only", "not safe", "cannot tell"]
ENDS = ("low", "median", "high")
_FEW_STEPS = 8
_LARGE_BATCH = 0.1
"""Share of the data from which on drawing without replacement shows."""

Curve = Mapping[int, Mapping[int, float]]
"""Magnitudes of each seed by batch size."""


@dataclass(frozen=True)
class MeasuredBatches:
    """Bounds at several batch sizes, as they are stored.

    Attributes:
        record: which sizes and seeds.
        bounds: by (batch size, seed).
        placements: where the optimizer adds its ε at each batch size, with the decays carried there.
        steps: of the probes at each batch size.
        optimizer: its name.
        clipped: whether gradients were clipped.
    """

    record: BatchBoundsRecord
    bounds: Mapping[tuple[int, int], EpsilonBounds]
    placements: Mapping[int, Placement]
    steps: Mapping[int, int]
    optimizer: str
    clipped: bool


@dataclass(frozen=True)
class Fitted:
    """An exponent with its interval, and what that says; see `epsgrid.numerics.fits`."""

    value: float
    low: float | None
    high: float | None
    regime: Regime


@dataclass(frozen=True)
class Miss:
    """By how many decades a carried bound lies above the measured one: mean over seeds, and its t interval."""

    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class SizeRow:
    """The bounds at one batch size.

    Attributes:
        batch_size: there.
        steps: that its probes took.
        kappa: over the spec's own.
        low: lower bound of the first seed, ε of the optimizer, not rounded.
        high: upper bound, likewise.
        low_decade: the power of ten a grid takes for it.
        high_decade: likewise.
        carried_low: the spec's own lower bound carried here by 1/√κ of the magnitude, an ε.
        carried_high: the upper one, likewise.
        carried_low_decade: the power of ten of it.
        carried_high_decade: likewise.
        low_miss: of the carried lower bound, in decades of the magnitude; None at the spec's own size.
        high_miss: of the upper one, likewise.
    """

    batch_size: int
    steps: int
    kappa: float
    low: float
    high: float
    low_decade: float
    high_decade: float
    carried_low: float
    carried_high: float
    carried_low_decade: float
    carried_high_decade: float
    low_miss: Miss | None
    high_miss: Miss | None


@dataclass(frozen=True)
class MovesRow:
    """How the percentiles of a layer, or the ends of a kind of layers, move with the batch size.

    Attributes:
        name: of the layer, or of the kind.
        kind: of the layer.
        layers: 1, or how many the kind has.
        entries: of the layer or of all of the kind's.
        low: exponent of the low tail; None where it was not measured at two sizes.
        median: likewise; of a kind that of the geometric mean of its layers' medians.
        high: likewise, of the high tail.
        miss: largest miss of the three when carried from the spec's size to any other, in decades; None likewise.
        is_rounding_noise: most of it is rounding noise.
    """

    name: str
    kind: str
    layers: int
    entries: int
    low: Fitted | None
    median: Fitted | None
    high: Fitted | None
    miss: float | None
    is_rounding_noise: bool = False


@dataclass(frozen=True)
class ExponentRows:
    """All that is known of how the bounds move with the batch size.

    Attributes:
        base_batch_size: the spec's own.
        sizes: rows of all sizes, rising.
        seeds: how many each size was probed with.
        tail_fraction: of the bounds.
        low: exponent of the lower bound.
        high: exponent of the upper bound.
        layers: one row each, in the model's order.
        kinds: one row for each kind; empty where kinds are not known.
        answer: whether the bounds may be carried by 1/√κ.
        verdict: the same with its reasons, one sentence without full stop.
        notes: what else to know, a sentence each.
    """

    base_batch_size: int
    sizes: tuple[SizeRow, ...]
    seeds: int
    tail_fraction: float
    low: Fitted
    high: Fitted
    layers: tuple[MovesRow, ...]
    kinds: tuple[MovesRow, ...]
    answer: Answer
    verdict: str
    notes: tuple[str, ...]


def read_batches(folder: ExperimentFolder, optimizer: str, *, clipped: bool) -> MeasuredBatches | None:
    """Return the bounds measured at several batch sizes; None where there are none.

    Args:
        folder: the experiment's folder.
        optimizer: its name.
        clipped: whether gradients are clipped.

    Raises:
        CorruptRecordError: a record is damaged.
        StoreError: one is missing, or a newer epsgrid wrote it.
    """
    if not folder.batch_bounds_json.exists():
        return None
    record = BatchBoundsRecord.read(folder.batch_bounds_json)
    bounds: dict[tuple[int, int], EpsilonBounds] = {}
    placements: dict[int, Placement] = {}
    steps: dict[int, int] = {}
    for size in record.batch_sizes:
        for seed in record.seeds:
            path = folder.batch_probe(size, seed)
            probe = ProbeRecord.read(path)
            parsed = parsed_bounds(probe, path)
            assert parsed is not None
            bounds[size, seed] = parsed
            placements[size], steps[size] = probe.placement, probe.steps
    return MeasuredBatches(record, bounds, placements, steps, optimizer, clipped)


def exponent_rows(measured: MeasuredBatches) -> ExponentRows:
    """Return the rows of bounds measured at several batch sizes."""
    record, base = measured.record, measured.record.base_batch_size
    curves = {
        "low": _curve(measured, lambda bounds: bounds.low.magnitude),
        "high": _curve(measured, lambda bounds: bounds.high.magnitude),
    }
    low, high = (_fitted(curves[end]) for end in ("low", "high"))
    assert low is not None and high is not None
    layers = _layer_rows(measured)
    kinds = _kind_rows(measured)
    sizes = tuple(_size_row(measured, size, curves) for size in record.batch_sizes)
    answer = _answer(low, high)
    return ExponentRows(
        base_batch_size=base,
        sizes=sizes,
        seeds=len(record.seeds),
        tail_fraction=measured.bounds[base, record.seeds[0]].tail_fraction,
        low=low,
        high=high,
        layers=layers,
        kinds=kinds,
        answer=answer,
        verdict=_verdict(answer, low, high, sizes, layers, kinds),
        notes=tuple(_notes(measured)),
    )


def layer_curves(measured: MeasuredBatches) -> dict[str, dict[str, Curve]]:
    """Return the magnitudes of each layer's low tail, median and high tail, by seed and batch size.

    Layers that are measured at fewer than two sizes have curves too; a size where one is not measured is left out.
    """
    first = measured.bounds[measured.record.base_batch_size, measured.record.seeds[0]]
    return {layer.name: _curves_of(measured, [layer.name]) for layer in first.layers}


def _curves_of(measured: MeasuredBatches, names: Collection[str]) -> dict[str, Curve]:
    """Return the curves of some layers together: the least low tail, the greatest high tail, the mean log median."""
    found: dict[str, dict[int, dict[int, float]]] = {end: {} for end in ENDS}
    for (size, seed), bounds in measured.bounds.items():
        layers = [layer for layer in bounds.layers if layer.status is LayerStatus.MEASURED and layer.name in names]
        for end, value in _ends(layers).items():
            found[end].setdefault(seed, {})[size] = value
    return dict(found)


def _ends(layers: Sequence[LayerStatistics]) -> dict[str, float]:
    lows = [layer.low for layer in layers if layer.low is not None]
    highs = [layer.high for layer in layers if layer.high is not None]
    medians = [value for layer in layers if layer.histogram and (value := layer.histogram.median)]
    found: dict[str, float] = {}
    if lows and highs:
        found |= {"low": min(lows), "high": max(highs)}
    if medians:
        found["median"] = math.exp(math.fsum(map(math.log, medians)) / len(medians))
    return found


def _curve(measured: MeasuredBatches, magnitude: Callable[[EpsilonBounds], float]) -> Curve:
    found: dict[int, dict[int, float]] = {}
    for (size, seed), bounds in measured.bounds.items():
        found.setdefault(seed, {})[size] = magnitude(bounds)
    return found


def _fitted(curve: Curve) -> Fitted | None:
    exponent: Exponent | None = fit_exponent(curve)
    return None if exponent is None else Fitted(exponent.value, exponent.low, exponent.high, exponent.regime)


def _misses(curve: Curve, base: int, size: int) -> list[float]:
    """Return the misses of each seed that was measured at both sizes."""
    pairs = [(of_seed[base], of_seed[size]) for of_seed in curve.values() if base in of_seed and size in of_seed]
    return [scaling_error(there, here, size / base) for there, here in pairs]


def _miss(curve: Curve, base: int, size: int) -> Miss | None:
    if size == base:
        return None
    found = mean_interval(_misses(curve, base, size))
    return Miss(found.mean, found.low, found.high)


def _size_row(measured: MeasuredBatches, size: int, curves: Mapping[str, Curve]) -> SizeRow:
    record, placement = measured.record, measured.placements[size]
    base, seed = record.base_batch_size, record.seeds[0]
    here, there = measured.bounds[size, seed], measured.bounds[base, seed]
    kappa = size / base
    low, high = (
        placement.epsilon_from_magnitude(scaled_magnitude(bound.magnitude, kappa)) for bound in (there.low, there.high)
    )
    return SizeRow(
        batch_size=size,
        steps=measured.steps[size],
        kappa=kappa,
        low=here.low.epsilon,
        high=here.high.epsilon,
        low_decade=here.low.decade,
        high_decade=here.high.decade,
        carried_low=low,
        carried_high=high,
        carried_low_decade=decade_of(low),
        carried_high_decade=decade_of(high),
        low_miss=_miss(curves["low"], base, size),
        high_miss=_miss(curves["high"], base, size),
    )


def _layer_rows(measured: MeasuredBatches) -> tuple[MovesRow, ...]:
    first = measured.bounds[measured.record.base_batch_size, measured.record.seeds[0]]
    noise = first.reliability.noise if first.reliability else {}
    curves = layer_curves(measured)
    return tuple(
        _moves(measured, curves[layer.name], layer.name, [layer], is_noise=noise.get(layer.name, 0.0) >= MOSTLY)
        for layer in first.layers
    )


def _kind_rows(measured: MeasuredBatches) -> tuple[MovesRow, ...]:
    first = measured.bounds[measured.record.base_batch_size, measured.record.seeds[0]]
    layers = [layer for layer in first.layers if layer.status is LayerStatus.MEASURED]
    kinds: dict[str, list[LayerStatistics]] = {}
    for layer in layers:
        kinds.setdefault(layer.kind, []).append(layer)
    if len(kinds) < 2:
        return ()
    return tuple(
        _moves(measured, _curves_of(measured, {layer.name for layer in alike}), kind, alike)
        for kind, alike in kinds.items()
    )


def _moves(
    measured: MeasuredBatches,
    curves: Mapping[str, Curve],
    name: str,
    layers: Sequence[LayerStatistics],
    *,
    is_noise: bool = False,
) -> MovesRow:
    base = measured.record.base_batch_size
    misses = [
        abs(math.fsum(found) / len(found))
        for curve in curves.values()
        for size in measured.record.batch_sizes
        if size != base and (found := _misses(curve, base, size))
    ]
    low, median, high = (_fitted(curves[end]) for end in ENDS)
    entries = sum(layer.entries for layer in layers)
    return MovesRow(name, layers[0].kind, len(layers), entries, low, median, high, max(misses, default=None), is_noise)


def _answer(low: Fitted, high: Fitted) -> Answer:
    regimes = (low.regime, high.regime)
    follows = [regime == "noise-dominated" for regime in regimes]
    if all(follows):
        return "safe"
    if follows[0]:
        return "safe for the lower bound only"
    if follows[1]:
        return "safe for the upper bound only"
    return "cannot tell" if set(regimes) == {"undecided"} else "not safe"


_LEADS: dict[Answer, str] = {
    "safe": "carrying bounds by 1/√κ is safe between batch {} and {}",
    "safe for the lower bound only": "carrying by 1/√κ is safe between batch {} and {} for the lower bound only",
    "safe for the upper bound only": "carrying by 1/√κ is safe between batch {} and {} for the upper bound only",
    "not safe": "carrying bounds by 1/√κ is not safe between batch {} and {}",
    "cannot tell": "whether carrying bounds by 1/√κ is safe between batch {} and {} cannot be told",
}


def _verdict(
    answer: Answer,
    low: Fitted,
    high: Fitted,
    sizes: Sequence[SizeRow],
    layers: Sequence[MovesRow],
    kinds: Sequence[MovesRow],
) -> str:
    lead = _LEADS[answer].format(sizes[0].batch_size, sizes[-1].batch_size)
    ends = f"the lower bound goes as B^{exponent(low)} ({low.regime}), the upper as B^{exponent(high)} ({high.regime})"
    misses = [abs(miss.mean) for row in sizes for miss in (row.low_miss, row.high_miss) if miss is not None]
    parts = [ends, f"carried ones miss those measured by at most {max(misses):.2f} decades", _share(layers)]
    if kinds:
        parts.append(_by_kind(kinds))
    return f"{lead}: {'; '.join(parts)}"


def exponent(fitted: Fitted) -> str:
    """Write an exponent, with its interval where it has one.

    >>> exponent(Fitted(-0.483, -0.51, -0.456, "noise-dominated"))
    '−0.48 [−0.51, −0.46]'
    """
    texts = [f"{value:.2f}".replace("-", "−") for value in (fitted.value, fitted.low, fitted.high) if value is not None]
    return f"{texts[0]} [{texts[1]}, {texts[2]}]" if len(texts) == 3 else texts[0]


def _share(layers: Sequence[MovesRow]) -> str:
    """Say how many layers are noise-dominated in their median, and what the others are."""
    regimes = Counter(row.median.regime for row in layers if row.median is not None)
    measured = sum(regimes.values())
    others = [f"{number} {regime}" for regime, number in regimes.most_common() if regime != "noise-dominated"]
    text = f"in their median {regimes['noise-dominated']} of {count(measured, 'layer')} are noise-dominated"
    return f"{text}, {', '.join(others)}" if others else text


def _by_kind(kinds: Sequence[MovesRow]) -> str:
    """Say for which kinds of layers alone both ends may be carried."""
    answers: dict[str, list[str]] = {}
    for row in kinds:
        if row.low is not None and row.high is not None:
            answers.setdefault(_answer(row.low, row.high), []).append(row.name)
    return "by kind of layer " + ", ".join(f"{answer}: {' and '.join(names)}" for answer, names in answers.items())


def _notes(measured: MeasuredBatches) -> list[str]:
    record = measured.record
    found = [
        "every size saw as many epochs, with frozen weights and with averages over as many epochs (β^κ)",
    ]
    fewest = measured.steps[record.batch_sizes[-1]]
    if fewest < _FEW_STEPS:
        found.append(
            f"at batch {record.batch_sizes[-1]} v̂ is the mean square of only {count(fewest, 'gradient')}, which draws "
            "its tails apart: more epochs (--epochs) mend that"
        )
    if len(record.batch_sizes) == 2 and len(record.seeds) == 1:
        found.append("two sizes and one seed leave no interval: add a size, or seeds with probe.seeds")
    if record.examples is not None and record.batch_sizes[-1] >= _LARGE_BATCH * record.examples:
        share = record.batch_sizes[-1] / record.examples
        lost = 1 - math.sqrt(max(record.examples - record.batch_sizes[-1], 0) / max(record.examples - 1, 1))
        found.append(
            f"batch {record.batch_sizes[-1]} is {100 * share:.0f} % of the data: drawn without replacement, its noise "
            f"is {100 * lost:.0f} % smaller than 1/√B says"
        )
    if measured.clipped:
        found.append("gradients are clipped in the probe as in training, which takes from the noise of small batches")
    return found
