"""Other batch sizes, as rows: how the bounds move, and how one setting that each rule scales trains there.

Whether 1/√κ may scale the bounds is told by the bounds measured there, seed by seed. The law of each layer,
m² = a + b/B of signal and noise (`epsgrid.numerics.laws`), says why: 1/√κ holds where v̂ is noise.

The setting that is trained has the same seeds and epochs everywhere. A gap is the metric at another batch size less
that at the base, in the metric's good direction and paired by seed, on the test split at the selected epoch: the "test
gap across batch sizes" of arXiv 2205.10287.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from epsgrid.errors import NoBoundsError
from epsgrid.numerics.bounds import EpsilonBounds
from epsgrid.numerics.laws import FEWEST_SIZES, Law
from epsgrid.numerics.predicting import predict
from epsgrid.numerics.scaling import scaled_magnitude
from epsgrid.numerics.statistics import Interval, mean_interval
from epsgrid.selection.cells import Cell, Choice, Difference, difference, read_cells, read_metric
from epsgrid.selection.formatting import Metric, count, percent
from epsgrid.selection.load import StoredExperiment, of_trials, parsed_bounds
from epsgrid.spec.trial import Trial
from epsgrid.store.paths import ExperimentFolder
from epsgrid.store.records import GridRecord, ProbeRecord, VariedRecord

BASE = "base"
_FEW_STEPS = 8
_LARGE_BATCH = 0.1
"""Share of the data from which on drawing without replacement shows."""
_TOLERATED = 0.25
"""Decades by which a scaled bound may be off: a quarter of a grid's step."""
_ANSWERS = {
    (True, True): "safe",
    (True, False): "safe for the lower bound only",
    (True, None): "safe for the lower bound only",
    (False, True): "safe for the upper bound only",
    (None, True): "safe for the upper bound only",
    (None, None): "cannot tell",
}
"""Whether bounds may be scaled by 1/√κ, by whether the lower and the upper one may; None: the seeds leave it open."""


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
    low_scaling_error: Interval | None
    high_scaling_error: Interval | None


@dataclass(frozen=True)
class NoiseRows:
    """How the bounds move with the batch size.

    Attributes:
        base_batch_size: the spec's own.
        seeds: number of seeds that each size was probed with.
        laws: of each layer, at the spec's own size; empty with fewer than three sizes, or where none fits.
        answer: whether the bounds may be scaled by 1/√κ.
        verdict: the answer with its reasons, one sentence without full stop.
        notes: what else to know, a sentence each.
    """

    base_batch_size: int
    sizes: tuple[_SizeRow, ...]
    seeds: int
    tail_fraction: float
    laws: tuple[Law, ...]
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


def noise_rows(measured: _MeasuredBatches) -> NoiseRows:
    """Return the rows of bounds measured at several batch sizes."""
    seeds, base = measured.record.seeds, int(measured.record.own[0])
    by_size = {float(size): [measured.bounds[size, seed] for seed in seeds] for size in measured.steps}

    def error(end: str, size: int) -> Interval | None:
        if size == base:
            return None
        own, there = ([getattr(bounds, end).magnitude for bounds in by_size[each]] for each in (base, size))
        scaled = [scaled_magnitude(magnitude, size / base) for magnitude in own]
        return mean_interval([math.log10(a / b) for a, b in zip(scaled, there, strict=True)])

    sizes = tuple(
        _SizeRow(
            batch_size=size,
            steps=steps,
            kappa=size / base,
            low=by_size[size][0].low.epsilon,
            high=by_size[size][0].high.epsilon,
            low_scaling_error=error("low", size),
            high_scaling_error=error("high", size),
        )
        for size, steps in measured.steps.items()
    )
    lows, highs = (
        [each for each in errors if each]
        for errors in zip(*((row.low_scaling_error, row.high_scaling_error) for row in sizes), strict=True)
    )
    answer = _ANSWERS.get((_is_tolerated(lows), _is_tolerated(highs)), "not safe")
    verdict = (
        f"scaling bounds by 1/√κ between batch {min(measured.steps)} and {max(measured.steps)}: {answer};"
        f" scaled bounds are off by at most {max(abs(each.mean) for each in (*lows, *highs)):.2f} decades"
    )
    laws: tuple[Law, ...] = ()
    notes = list(_notes(measured))
    try:
        predicted = predict(by_size, base, batch_sizes=True)
    except NoBoundsError as why:
        is_short = len(sizes) < FEWEST_SIZES
        notes.append("two sizes do not tell noise from signal: add a third" if is_short else str(why))
    else:
        laws, (low, *_), (high, *_) = predicted.laws, predicted.bounds.low.layers, predicted.bounds.high.layers
        shares = [_noise_share(predicted.law(layer, end)) for layer, end in ((low, "low"), (high, "high"))]
        verdict += f"; noise is {shares[0]} of v̂ at the lower bound and {shares[1]} at the upper, at batch {base}"
    return NoiseRows(base, sizes, len(seeds), by_size[base][0].tail_fraction, laws, answer, verdict, tuple(notes))


def _is_tolerated(errors: Sequence[Interval]) -> bool | None:
    """Return whether a scaled bound is close enough at every size, with its interval; None where that is open."""
    ends = [
        (each.mean if each.low is None else each.low, each.mean if each.high is None else each.high) for each in errors
    ]
    if all(low >= -_TOLERATED and high <= _TOLERATED for low, high in ends):
        return True
    return False if any(low > _TOLERATED or high < -_TOLERATED for low, high in ends) else None


def _noise_share(law: Law) -> str:
    """Write which share of v̂ is noise: of m² = a + b/B the slope of log m is −½ of it."""
    shifts = (law.exponent_within, 0, -law.exponent_within)
    share_low, share, share_high = (percent(min(max(-2 * (law.exponent + shift), 0), 1)) for shift in shifts)
    return f"{share} ({share_low.removesuffix(' %')} to {share_high})"


def _notes(measured: _MeasuredBatches) -> Iterator[str]:
    yield "every size saw as many epochs, with frozen weights and with averages over as many epochs (β^κ)"
    if len(measured.record.seeds) == 1:
        yield "one seed: errors have no interval; --seeds 3 gives them one"
    largest = max(measured.steps)
    if measured.steps[largest] < _FEW_STEPS:
        yield (
            f"at batch {largest} v̂ is the mean square of only {count(measured.steps[largest], 'gradient')}, which "
            "draws its tails apart: more epochs (--epochs) help"
        )
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

    noise: NoiseRows | None
    trained: TrainedBatches | None


def batches_row(stored: StoredExperiment) -> BatchesRow | None:
    """Return bounds and trials at other batch sizes; None where there are none.

    Raises:
        CorruptRecordError: a record is damaged.
        StoreError: one is missing, or a newer epsgrid wrote it.
    """
    measured = read_batches(stored.folder)
    noise = None if measured is None else noise_rows(measured)
    trained = _trained_batches(stored)
    return None if noise is None and trained is None else BatchesRow(noise, trained)


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
