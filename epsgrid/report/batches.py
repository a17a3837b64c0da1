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
from dataclasses import dataclass
from typing import Literal

from epsgrid.numerics.bounds import EpsilonBounds
from epsgrid.numerics.fits import Exponent, fit_exponent, scaling_error
from epsgrid.numerics.magnitudes import LayerStatus
from epsgrid.numerics.statistics import Interval, mean_interval
from epsgrid.report.trust import MOSTLY
from epsgrid.selection.cells import Cell, Choice, Difference, difference, read_cells, read_metric
from epsgrid.selection.formatting import Metric, count
from epsgrid.selection.load import StoredExperiment, of_trials, parsed_bounds
from epsgrid.spec.trial import Trial
from epsgrid.store.paths import ExperimentFolder
from epsgrid.store.records import GridRecord, ProbeRecord, VariedRecord

BASE = "base"
_WITH_EPSILON, _WITHOUT_EPSILON = "sqrt", "sqrt-keep-epsilon"
_Answer = Literal["safe", "safe for the lower bound only", "safe for the upper bound only", "not safe", "cannot tell"]
_FEW_STEPS = 8
_LARGE_BATCH = 0.1
"""Share of the data from which on drawing without replacement shows."""


@dataclass(frozen=True)
class _MeasuredBatches:
    """Stored bounds by (batch size, seed), and the steps of the probes at each batch size."""

    record: VariedRecord
    bounds: Mapping[tuple[int, int], EpsilonBounds]
    steps: Mapping[int, int]

    @property
    def base(self) -> int:
        """The spec's own batch size."""
        return int(self.record.own[0])


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
    is_rounding_noise: bool = False


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
    answer: _Answer
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
    record = measured.record
    first = measured.bounds[measured.base, record.seeds[0]]
    lows = {place: bounds.low.magnitude for place, bounds in measured.bounds.items()}
    highs = {place: bounds.high.magnitude for place, bounds in measured.bounds.items()}
    low, high = _fitted(lows), _fitted(highs)
    assert low is not None and high is not None
    sizes = tuple(_size_row(measured, size, lows, highs) for size in measured.steps)
    layers = _layer_rows(measured, first)
    answer: _Answer = "cannot tell" if low.regime == high.regime == "undecided" else "not safe"
    if low.regime == high.regime == "noise-dominated":
        answer = "safe"
    elif low.regime == "noise-dominated":
        answer = "safe for the lower bound only"
    elif high.regime == "noise-dominated":
        answer = "safe for the upper bound only"
    return ExponentRows(
        base_batch_size=measured.base,
        sizes=sizes,
        seeds=len(record.seeds),
        tail_fraction=first.tail_fraction,
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


def _layer_rows(measured: _MeasuredBatches, first: EpsilonBounds) -> tuple[_MovesRow, ...]:
    """Return the exponents of all layers, in the model's order."""
    noise = first.reliability.noise if first.reliability else {}
    by_name = {
        place: {layer.name: layer for layer in bounds.layers if layer.status is LayerStatus.MEASURED}
        for place, bounds in measured.bounds.items()
    }
    rows = []
    for layer in first.layers:
        found = {place: layers[layer.name] for place, layers in by_name.items() if layer.name in layers}
        low = _fitted({place: own.low for place, own in found.items()})
        median = _fitted({place: own.histogram.median for place, own in found.items() if own.histogram})
        high = _fitted({place: own.high for place, own in found.items()})
        is_noise = noise.get(layer.name, 0.0) >= MOSTLY
        rows.append(_MovesRow(layer.name, layer.kind, layer.entries, low, median, high, is_noise))
    return tuple(rows)


def _size_row(
    measured: _MeasuredBatches,
    size: int,
    lows: Mapping[tuple[int, int], float],
    highs: Mapping[tuple[int, int], float],
) -> _SizeRow:
    seeds, base = measured.record.seeds, measured.base
    here = measured.bounds[size, seeds[0]]

    def error(magnitudes: Mapping[tuple[int, int], float]) -> Interval | None:
        if size == base:
            return None
        return mean_interval(
            [scaling_error(magnitudes[base, seed], magnitudes[size, seed], size / base) for seed in seeds]
        )

    return _SizeRow(
        batch_size=size,
        steps=measured.steps[size],
        kappa=size / base,
        low=here.low.epsilon,
        high=here.high.epsilon,
        low_decade=here.low.decade,
        high_decade=here.high.decade,
        low_scaling_error=error(lows),
        high_scaling_error=error(highs),
    )


def _verdict(
    answer: _Answer, low: Exponent, high: Exponent, sizes: Sequence[_SizeRow], layers: Sequence[_MovesRow]
) -> str:
    question = f"scaling bounds by 1/√κ between batch {sizes[0].batch_size} and {sizes[-1].batch_size}: {answer}"
    ends = f"the lower bound goes as B^{exponent(low)} ({low.regime}), the upper as B^{exponent(high)} ({high.regime})"
    errors = [abs(each.mean) for row in sizes for each in (row.low_scaling_error, row.high_scaling_error) if each]
    regimes = Counter(row.median.regime for row in layers if row.median is not None)
    share = (
        f"in their median {regimes['noise-dominated']} of {count(sum(regimes.values()), 'layer')} are noise-dominated"
    )
    others = [f"{number} {regime}" for regime, number in regimes.most_common() if regime != "noise-dominated"]
    error = f"scaled bounds are off by at most {max(errors):.2f} decades"
    return f"{question}; {ends}; {error}; {', '.join([share, *others])}"


def exponent(fitted: Exponent) -> str:
    """Write an exponent, with its interval where it has one.

    >>> exponent(Exponent(-0.483, -0.51, -0.456, "noise-dominated"))
    '−0.48 [−0.51, −0.46]'
    """
    texts = [f"{value:.2f}".replace("-", "−") for value in (fitted.value, fitted.low, fitted.high) if value is not None]
    return f"{texts[0]} [{texts[1]}, {texts[2]}]" if len(texts) == 3 else texts[0]


def _notes(measured: _MeasuredBatches) -> Iterator[str]:
    record = measured.record
    yield "every size saw as many epochs, with frozen weights and with averages over as many epochs (β^κ)"
    largest = max(measured.steps)
    if measured.steps[largest] < _FEW_STEPS:
        yield (
            f"at batch {largest} v̂ is the mean square of only {count(measured.steps[largest], 'gradient')}, which "
            "draws its tails apart: more epochs (--epochs) help"
        )
    if len(record.points) == 2 and len(record.seeds) == 1:
        yield "two sizes and one seed leave no interval: add a size, or seeds with probe.seeds"
    if record.examples is not None and largest >= _LARGE_BATCH * record.examples:
        smaller = 1 - math.sqrt(max(record.examples - largest, 0) / max(record.examples - 1, 1))
        yield (
            f"batch {largest} is {100 * largest / record.examples:.0f} % of the data: drawn without replacement, its "
            f"noise is {100 * smaller:.0f} % smaller than 1/√B says"
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
    rules = sorted(dict.fromkeys(rule for _, rule in groups), key=lambda rule: rule != BASE)
    places = sorted(groups, key=lambda place: (rules.index(place[1]), place[0]))
    cells = {place: read_cells(_as_swept(stored, groups[place]))[0] for place in places}
    metric = read_metric(_as_swept(stored, record.cells))
    base = cells.get((record.base_batch_size, BASE))
    if metric is None or base is None:
        return None
    rows = tuple(
        _TrainedRow(
            batch_size=size,
            rule=rule,
            cell=cell,
            changes=record.changes.get(f"batch {size}, {rule}", ""),
            gap=difference(_choice(cell), _choice(base), (f"batch {size}, {rule}", "the base"), metric),
        )
        for (size, rule), cell in cells.items()
    )
    forgetting = []
    for (size, rule), cell in cells.items():  # half-life forms are compared with each other
        without = cells.get((size, rule.replace(_WITH_EPSILON, _WITHOUT_EPSILON, 1)))
        if rule.split(",")[0] == _WITH_EPSILON and without is not None:
            names = (f"batch {size}, with ε scaled", f"batch {size}, with ε kept")
            forgetting.append(_ForgettingRow(size, difference(_choice(cell), _choice(without), names, metric)))
    return TrainedBatches(
        base_batch_size=record.base_batch_size,
        setting=base.label,
        origin=record.origin,
        metric=metric,
        selection=stored.experiment.spec["training"]["selection"],
        rows=rows,
        forgetting=tuple(forgetting),
        skipped=tuple(record.skipped.items()),
    )


def _as_swept(stored: StoredExperiment, cells: Sequence[Trial]) -> StoredExperiment:
    """Return the experiment as if its only grid held these trials."""
    as_cells = tuple(
        Trial(cell.id, cell.learning_rate, cell.epsilon, cell.seed, (f"batch {cell.batch_size}, {cell.rule}",))
        for cell in cells
    )
    return of_trials(stored, GridRecord("", {}, 1.0, as_cells, None))


def _choice(cell: Cell) -> Choice:
    return Choice(cell, None, 1, int(not cell.tally.complete))
