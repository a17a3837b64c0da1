"""Other batch sizes, as rows: how the bounds move, and how one setting that each rule scales trains there.

The exponents of layers tell whether 1/√κ may scale the bounds: `epsgrid.numerics.fits` has the fit and the meaning of
its interval. Each percentile is fitted over all seeds; the error of a scaled bound is taken seed by seed.

The setting that is trained has the same seeds and epochs everywhere. A gap is the metric at another batch size less
that at the base, in the metric's good direction and paired by seed, on the test split at the selected epoch: the "test
gap across batch sizes" of arXiv 2205.10287.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from epsgrid.numerics.bounds import EpsilonBounds
from epsgrid.numerics.fits import Exponent, fit_exponent, scaling_error
from epsgrid.numerics.groups import MOSTLY_NOISE
from epsgrid.numerics.magnitudes import LayerStatus
from epsgrid.numerics.statistics import Interval, mean_interval
from epsgrid.selection.cells import Cell, Choice, Difference, difference, read_cells, read_metric
from epsgrid.selection.formatting import Metric, count
from epsgrid.selection.load import StoredExperiment, of_trials, parsed_bounds
from epsgrid.spec.trial import Trial
from epsgrid.store.paths import ExperimentFolder
from epsgrid.store.records import GridRecord, ProbeRecord, VariedRecord

BASE = "base"
_FEW_STEPS = 8
_LARGE_BATCH = 0.1
"""Share of the data from which on drawing without replacement shows."""
_SAFE = {
    (True, True): "safe",
    (True, False): "safe for the lower bound only",
    (False, True): "safe for the upper bound only",
}
"""Whether bounds may be scaled by 1/√κ, by whether noise dominates the lower and the upper one."""


@dataclass(frozen=True)
class _MeasuredBatches:
    """Stored bounds by (batch size, seed), and the steps of the probes at each batch size."""

    record: VariedRecord
    bounds: Mapping[tuple[int, int], EpsilonBounds]
    steps: Mapping[int, int]


@dataclass(frozen=True)
class _SizeRow:
    """The bounds of the first seed at one batch size, and the errors of the spec's own bounds scaled there by 1/√κ.

    `kappa` is the batch size over the spec's own. `low` and `high` are ε, not rounded. Errors are in decades of the
    magnitude, None at the spec's own size.
    """

    batch_size: int
    steps: int
    kappa: float
    low: float
    high: float
    low_decade: float
    high_decade: float
    low_scaling_error: Interval | None
    high_scaling_error: Interval | None


@dataclass(frozen=True)
class _MovesRow:
    """The exponents of a layer's low tail, median and high tail; None where not measured at two sizes."""

    name: str
    kind: str
    entries: int
    low: Exponent | None
    median: Exponent | None
    high: Exponent | None
    is_rounding_noise: bool


@dataclass(frozen=True)
class ExponentRows:
    """How the bounds move with the batch size.

    Attributes:
        base_batch_size: the spec's own.
        seeds: number of seeds that each size was probed with.
        answer: whether the bounds may be scaled by 1/√κ.
        verdict: the answer with its reasons, one sentence without full stop.
        notes: what else to know, a sentence each.
    """

    base_batch_size: int
    sizes: tuple[_SizeRow, ...]
    seeds: int
    tail_fraction: float
    low: Exponent
    high: Exponent
    layers: tuple[_MovesRow, ...]
    answer: str
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
    record = VariedRecord.read(folder.batch_bounds_json)
    bounds: dict[tuple[int, int], EpsilonBounds] = {}
    steps: dict[int, int] = {}
    for point in record.points:
        for seed in record.seeds:
            path, size = record.probe(folder, point, seed), int(point[0])
            probe = ProbeRecord.read(path)
            parsed = parsed_bounds(probe, path)
            assert parsed is not None
            bounds[size, seed] = parsed
            steps[size] = probe.steps
    return _MeasuredBatches(record, bounds, steps)


def exponent_rows(measured: _MeasuredBatches) -> ExponentRows:
    """Return the rows of bounds measured at several batch sizes."""
    seeds, base = measured.record.seeds, int(measured.record.own[0])
    lows = {place: bounds.low.magnitude for place, bounds in measured.bounds.items()}
    highs = {place: bounds.high.magnitude for place, bounds in measured.bounds.items()}
    low, high = _fitted(lows), _fitted(highs)
    assert low is not None and high is not None

    def error(magnitudes: Mapping[tuple[int, int], float], size: int) -> Interval | None:
        errors = [scaling_error(magnitudes[base, seed], magnitudes[size, seed], size / base) for seed in seeds]
        return None if size == base else mean_interval(errors)

    sizes = tuple(
        _SizeRow(
            batch_size=size,
            steps=steps,
            kappa=size / base,
            low=here.low.epsilon,
            high=here.high.epsilon,
            low_decade=here.low.decade,
            high_decade=here.high.decade,
            low_scaling_error=error(lows, size),
            high_scaling_error=error(highs, size),
        )
        for size, steps in measured.steps.items()
        for here in [measured.bounds[size, seeds[0]]]
    )
    layers = _layer_rows(measured.bounds, measured.bounds[base, seeds[0]])
    unsafe = "cannot tell" if low.regime == high.regime == "undecided" else "not safe"
    answer = _SAFE.get((low.regime == "noise-dominated", high.regime == "noise-dominated"), unsafe)
    return ExponentRows(
        base_batch_size=base,
        sizes=sizes,
        seeds=len(seeds),
        tail_fraction=measured.bounds[base, seeds[0]].tail_fraction,
        low=low,
        high=high,
        layers=layers,
        answer=answer,
        verdict=_verdict(answer, low, high, sizes, layers),
        notes=tuple(_notes(measured)),
    )


def _fitted(magnitudes: Mapping[tuple[int, int], float | None]) -> Exponent | None:
    """Fit the exponent of magnitudes by (batch size, seed); those that are not known are left out."""
    by_seed: dict[int, dict[int, float]] = {}
    for (size, seed), magnitude in magnitudes.items():
        if magnitude:
            by_seed.setdefault(seed, {})[size] = magnitude
    return fit_exponent(by_seed)


def _layer_rows(bounds: Mapping[tuple[int, int], EpsilonBounds], first: EpsilonBounds) -> tuple[_MovesRow, ...]:
    """Return the exponents of all layers, in the model's order."""
    noise = first.reliability.noise if first.reliability else {}
    measured: dict[str, dict[tuple[int, int], tuple[float | None, ...]]] = {}
    for place, own in bounds.items():
        for layer in own.layers:
            if layer.status is LayerStatus.MEASURED:
                median = layer.histogram.median if layer.histogram else None
                measured.setdefault(layer.name, {})[place] = (layer.low, median, layer.high)
    rows = []
    for layer in first.layers:
        found = measured.get(layer.name, {})
        low, middle, high = (_fitted({place: each[end] for place, each in found.items()}) for end in range(3))
        is_noise = noise.get(layer.name, 0.0) >= MOSTLY_NOISE
        rows.append(_MovesRow(layer.name, layer.kind, layer.entries, low, middle, high, is_noise))
    return tuple(rows)


def _verdict(answer: str, low: Exponent, high: Exponent, sizes: Sequence[_SizeRow], layers: Sequence[_MovesRow]) -> str:
    errors = [abs(each.mean) for row in sizes for each in (row.low_scaling_error, row.high_scaling_error) if each]
    regimes = Counter(row.median.regime for row in layers if row.median is not None)
    noisy = f"{regimes['noise-dominated']} of {count(regimes.total(), 'layer')} are noise-dominated"
    others = [f"{number} {regime}" for regime, number in regimes.most_common() if regime != "noise-dominated"]
    return (
        f"scaling bounds by 1/√κ between batch {sizes[0].batch_size} and {sizes[-1].batch_size}: {answer};"
        f" the lower bound goes as B^{exponent(low)} ({low.regime}), the upper as B^{exponent(high)} ({high.regime});"
        f" scaled bounds are off by at most {max(errors):.2f} decades; in their median {', '.join([noisy, *others])}"
    )


def exponent(fitted: Exponent) -> str:
    """Write an exponent, with its interval where it has one.

    >>> exponent(Exponent(-0.483, -0.51, -0.456, "noise-dominated"))
    '−0.48 [−0.51, −0.46]'
    """
    texts = [f"{value:.2f}".replace("-", "−") for value in (fitted.value, fitted.low, fitted.high) if value is not None]
    return f"{texts[0]} [{texts[1]}, {texts[2]}]" if len(texts) == 3 else texts[0]


def _notes(measured: _MeasuredBatches) -> Iterator[str]:
    yield "every size saw as many epochs, with frozen weights and with averages over as many epochs (β^κ)"
    largest = max(measured.steps)
    if measured.steps[largest] < _FEW_STEPS:
        yield (
            f"at batch {largest} v̂ is the mean square of only {count(measured.steps[largest], 'gradient')}, which "
            "draws its tails apart: more epochs (--epochs) help"
        )
    if len(measured.steps) == 2 and len(measured.record.seeds) == 1:
        yield "two sizes and one seed leave no interval: add a size, or seeds with probe.seeds"
    examples = measured.record.examples or math.inf
    if largest >= _LARGE_BATCH * examples:
        smaller = 1 - math.sqrt(max(examples - largest, 0) / max(examples - 1, 1))
        yield (
            f"batch {largest} is {100 * largest / examples:.0f} % of the data: drawn without replacement, its noise is "
            f"{100 * smaller:.0f} % smaller than 1/√B says"
        )


@dataclass(frozen=True)
class _TrainedRow:
    """One setting at one batch size.

    Attributes:
        rule: that scaled it, or "base".
        changes: what the rule changed beside learning rate and ε; "" for nothing.
        gap: on test, this less the base; of the base itself zero.
    """

    batch_size: int
    rule: str
    cell: Cell
    changes: str
    gap: Difference


@dataclass(frozen=True)
class _ForgettingRow:
    """What it costs to forget ε: on test, the square-root rule with ε less the one without, at a batch size."""

    batch_size: int
    gain: Difference


@dataclass(frozen=True)
class TrainedBatches:
    """One setting at several batch sizes.

    Attributes:
        base_batch_size: that the setting comes from.
        setting: its label.
        origin: how it was chosen.
        rows: the base, then each rule at each batch size.
        forgetting: empty unless both square-root rules were trained.
        skipped: batch sizes that a rule does not reach, as (where, why).
    """

    base_batch_size: int
    setting: str
    origin: str
    metric: Metric
    selection: str
    rows: tuple[_TrainedRow, ...]
    forgetting: tuple[_ForgettingRow, ...]
    skipped: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class BatchesRow:
    """How the bounds move with the batch size, and one setting trained at several; None where that is not known."""

    exponents: ExponentRows | None
    trained: TrainedBatches | None


def batches_row(stored: StoredExperiment) -> BatchesRow | None:
    """Return bounds and trials at other batch sizes; None where there are none.

    Raises:
        CorruptRecordError: a record is damaged.
        StoreError: one is missing, or a newer epsgrid wrote it.
    """
    measured = read_batches(stored.folder)
    exponents = None if measured is None else exponent_rows(measured)
    trained = _trained_batches(stored)
    return None if exponents is None and trained is None else BatchesRow(exponents, trained)


def _trained_batches(stored: StoredExperiment) -> TrainedBatches | None:
    """Return one setting at several batch sizes; None while no trial of it has a result."""
    record = stored.batches
    if record is None:
        return None
    groups: dict[tuple[int, str], list[Trial]] = {}
    for each in record.cells:
        groups.setdefault((each.batch_size, each.rule), []).append(each)
    rules = [BASE, *dict.fromkeys(rule for _, rule in groups)]
    places = sorted(groups, key=lambda place: (rules.index(place[1]), place[0]))
    cells = {place: read_cells(_as_swept(stored, groups[place]))[0] for place in places}
    metric = read_metric(_as_swept(stored, record.cells))
    if metric is None or (record.base_batch_size, BASE) not in cells:
        return None
    base = cells[record.base_batch_size, BASE]
    rows, forgetting = [], []
    for (size, rule), cell in cells.items():
        where = f"batch {size}, {rule}"
        gap = difference(_choice(cell), _choice(base), (where, "the base"), metric)
        rows.append(_TrainedRow(size, rule, cell, record.changes.get(where, ""), gap))
        kept = cells.get((size, rule.replace("sqrt", "sqrt-keep-epsilon", 1)))  # half-life forms are compared, too
        if rule.split(",")[0] == "sqrt" and kept is not None:
            names = (f"batch {size}, with ε scaled", f"batch {size}, with ε kept")
            forgetting.append(_ForgettingRow(size, difference(_choice(cell), _choice(kept), names, metric)))
    return TrainedBatches(
        base_batch_size=record.base_batch_size,
        setting=base.label,
        origin=record.origin,
        metric=metric,
        selection=stored.experiment.spec["training"]["selection"],
        rows=tuple(rows),
        forgetting=tuple(forgetting),
        skipped=tuple(record.skipped.items()),
    )


def _as_swept(stored: StoredExperiment, cells: Sequence[Trial]) -> StoredExperiment:
    """Return the experiment as if its only grid held these trials."""
    named = tuple(replace(cell, grids=(f"batch {cell.batch_size}, {cell.rule}",)) for cell in cells)
    return of_trials(stored, GridRecord("", {}, 1.0, named, None))


def _choice(cell: Cell) -> Choice:
    return Choice(cell, None, 1, int(not cell.tally.complete))
