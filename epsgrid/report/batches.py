"""What is known of other batch sizes, as rows: how the bounds move, and what each rule made of one setting there.

The setting and its seeds are the same everywhere, and so are the epochs. A gap is the metric at another batch size less
that at the base, in the metric's good direction and paired by seed: on the test split at the selected epoch, which is
the "test gap across batch sizes" of arXiv 2205.10287, and on the split that selects along the whole course of training.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from epsgrid.report.batch_exponents import ExponentRows, MeasuredBatches, exponent_rows, read_batches
from epsgrid.report.cells import Cell, Choice, Spread, read_cells, read_metric, spread_of
from epsgrid.report.load import StoredExperiment, of_trials
from epsgrid.report.verdict import Difference, difference
from epsgrid.report.words import Metric
from epsgrid.spec.trial import Trial
from epsgrid.store.records import BatchesRecord, GridRecord, read_epochs

BASE = "base"
WITH_EPSILON, WITHOUT_EPSILON = "sqrt", "sqrt-keep-epsilon"

Course = Mapping[int, Mapping[int, float]]
"""The selecting metric of each seed by epoch; only finite ones."""


@dataclass(frozen=True)
class CurveGap:
    """Where along training a curve lies furthest from that of the base.

    Attributes:
        epoch: from 1.
        gap: mean over seeds, in the metric's good direction.
        seeds: that reached this epoch at both batch sizes.
    """

    epoch: int
    gap: float
    seeds: int


@dataclass(frozen=True)
class TrainedRow:
    """One setting at one batch size.

    Attributes:
        batch_size: there.
        rule: that carried it, or "base".
        cell: its trials.
        changes: what the rule changed beside learning rate and ε; "" for nothing.
        gap: on test, this less the base; of the base itself zero.
        widest: of the curve; None of the base itself, and where no epoch is common.
    """

    batch_size: int
    rule: str
    cell: Cell
    changes: str
    gap: Difference
    widest: CurveGap | None


@dataclass(frozen=True)
class RuleRow:
    """How well a rule keeps to the base over all batch sizes.

    Attributes:
        rule: which.
        sizes: batch sizes with a known gap.
        gap: the largest gap on test in size, with its sign; None where none is known.
        gap_at: its batch size; None likewise.
        widest: the largest gap of a curve; None likewise.
        widest_at: its batch size; None likewise.
        diverged: trials that diverged.
    """

    rule: str
    sizes: tuple[int, ...]
    gap: float | None
    gap_at: int | None
    widest: CurveGap | None
    widest_at: int | None
    diverged: int


@dataclass(frozen=True)
class ForgettingRow:
    """What it costs to forget ε: on test, the square-root rule with ε less the one without, at a batch size."""

    batch_size: int
    gain: Difference


@dataclass(frozen=True)
class TrainedBatches:
    """One setting at several batch sizes.

    Attributes:
        base_batch_size: where it comes from.
        setting: in words.
        origin: how it was chosen, in words.
        metric: what trials are judged by.
        selection: the split that selects.
        rows: the base, then each rule at each batch size.
        rules: one row each.
        forgetting: empty unless both square-root rules were trained.
        skipped: what a rule does not reach, as (where, why).
    """

    base_batch_size: int
    setting: str
    origin: str
    metric: Metric
    selection: str
    rows: tuple[TrainedRow, ...]
    rules: tuple[RuleRow, ...]
    forgetting: tuple[ForgettingRow, ...]
    skipped: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class BatchesRow:
    """What is known of other batch sizes.

    Attributes:
        exponents: how the bounds move; None where they were measured at one size only.
        trained: one setting at several sizes; None where no such trial has a result.
    """

    exponents: ExponentRows | None
    trained: TrainedBatches | None


def batches_row(stored: StoredExperiment) -> BatchesRow | None:
    """Return what is known of other batch sizes; None where nothing is.

    Raises:
        CorruptRecordError: a record is damaged.
        StoreError: one is missing, or a newer epsgrid wrote it.
    """
    measured = measured_batches(stored)
    exponents = None if measured is None else exponent_rows(measured)
    trained = trained_batches(stored)
    return None if exponents is None and trained is None else BatchesRow(exponents, trained)


def measured_batches(stored: StoredExperiment) -> MeasuredBatches | None:
    """Return the bounds measured at several batch sizes; None where there are none."""
    spec = stored.experiment.spec
    clipped = spec["training"].get("clip_norm") is not None
    return read_batches(stored.folder, spec["optimizer"]["name"], clipped=clipped)


def trained_batches(stored: StoredExperiment) -> TrainedBatches | None:
    """Return one setting at several batch sizes; None while no trial of it has a result."""
    record = stored.batches
    if record is None:
        return None
    cells = batch_cells(stored)
    metric = read_metric(of_trials(stored, _as_grid(record, record.cells)))
    base = cells.get((record.base_batch_size, BASE))
    if metric is None or base is None:
        return None
    courses = {place: course(stored, cell) for place, cell in cells.items()}
    own = courses[record.base_batch_size, BASE]
    rows = tuple(
        TrainedRow(
            batch_size=size,
            rule=rule,
            cell=cell,
            changes=record.changes.get(f"batch {size}, {rule}", ""),
            gap=difference(_choice(cell), _choice(base), (f"batch {size}, {rule}", "the base"), metric),
            widest=None if rule == BASE else widest_gap(courses[size, rule], own, metric),
        )
        for (size, rule), cell in cells.items()
    )
    return TrainedBatches(
        base_batch_size=record.base_batch_size,
        setting=base.words,
        origin=record.origin,
        metric=metric,
        selection=stored.experiment.spec["training"]["selection"],
        rows=rows,
        rules=tuple(_rule_row(rule, rows) for rule in dict.fromkeys(row.rule for row in rows if row.rule != BASE)),
        forgetting=tuple(_forgetting(rows, metric)),
        skipped=tuple(record.skipped.items()),
    )


def batch_cells(stored: StoredExperiment) -> dict[tuple[int, str], Cell]:
    """Return the cell of each (batch size, rule): the base first, then rule by rule with rising batch size."""
    record = stored.batches
    assert record is not None
    groups: dict[tuple[int, str], list[Trial]] = {}
    for cell in record.cells:
        groups.setdefault((cell.batch_size, cell.rule), []).append(cell)
    order = [rule for rule in dict.fromkeys(cell.rule for cell in record.cells) if rule != BASE]
    places = sorted(groups, key=lambda place: (-1 if place[1] == BASE else order.index(place[1]), place[0]))
    found = {}
    for place in places:
        (found[place],) = read_cells(of_trials(stored, _as_grid(record, groups[place])), None)
    return found


def course(stored: StoredExperiment, cell: Cell) -> Course:
    """Return the selecting metric of a cell's trials by epoch."""
    found: dict[int, dict[int, float]] = {}
    for trial in cell.trials:
        for epoch in read_epochs(stored.folder.trial(trial.id).metrics_jsonl):
            scores = epoch.selecting
            if scores is not None and math.isfinite(scores.metric):
                found.setdefault(trial.seed, {})[epoch.epoch] = scores.metric
    return found


def widest_gap(there: Course, base: Course, metric: Metric) -> CurveGap | None:
    """Return where the mean gap between two courses is largest in size; None where no seed and epoch is common.

    Epochs that not every common seed has reached are left out: a mean over other seeds would jump.
    """
    seeds = sorted(there.keys() & base.keys())
    if not seeds:
        return None
    epochs = set.intersection(*(there[seed].keys() & base[seed].keys() for seed in seeds))
    gaps = [
        CurveGap(
            epoch,
            metric.sign * math.fsum(there[seed][epoch] - base[seed][epoch] for seed in seeds) / len(seeds),
            len(seeds),
        )
        for epoch in sorted(epochs)
    ]
    return max(gaps, key=lambda gap: abs(gap.gap), default=None)


def mean_course(of_seeds: Course) -> dict[int, Spread]:
    """Return mean and standard deviation over the seeds that reached an epoch, by epoch."""
    epochs = sorted({epoch for of_seed in of_seeds.values() for epoch in of_seed})
    spreads = {epoch: spread_of(of_seed.get(epoch) for of_seed in of_seeds.values()) for epoch in epochs}
    return {epoch: spread for epoch, spread in spreads.items() if spread is not None}


def _as_grid(record: BatchesRecord, cells: Sequence[Trial]) -> GridRecord:
    """Return trials at some place as a grid of one cell, to be read as any other."""
    as_cells = tuple(replace(cell, grids=(f"batch {cell.batch_size}, {cell.rule}",)) for cell in cells)
    return GridRecord("", {}, record.epsilon or 0.0, as_cells, None)


def _choice(cell: Cell) -> Choice:
    return Choice(cell, None, 1, int(not cell.tally.complete))


def _rule_row(rule: str, rows: Sequence[TrainedRow]) -> RuleRow:
    own = [row for row in rows if row.rule == rule]
    known = [(row.gap.mean, row.batch_size) for row in own if row.gap.mean is not None]
    curves = [(row.widest, row.batch_size) for row in own if row.widest is not None]
    gap, gap_at = max(known, key=lambda pair: abs(pair[0]), default=(None, None))
    widest, widest_at = max(curves, key=lambda pair: abs(pair[0].gap), default=(None, None))
    diverged = sum(row.cell.tally.diverged for row in own)
    return RuleRow(rule, tuple(size for _, size in known), gap, gap_at, widest, widest_at, diverged)


def _forgetting(rows: Sequence[TrainedRow], metric: Metric) -> Iterator[ForgettingRow]:
    """Yield what forgetting ε costs at each size; half-life forms are compared with each other."""
    cells = {(row.batch_size, row.rule): row.cell for row in rows}
    for (size, rule), cell in cells.items():
        without = cells.get((size, rule.replace(WITH_EPSILON, WITHOUT_EPSILON, 1)))
        if rule.split(",")[0] == WITH_EPSILON and without is not None:
            names = (f"batch {size}, with ε scaled", f"batch {size}, with ε kept")
            yield ForgettingRow(size, difference(_choice(cell), _choice(without), names, metric))
