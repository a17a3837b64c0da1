"""Other batch sizes, as rows: how the bounds move, and how one setting that each rule scales trains there.

The setting and its seeds are the same everywhere, and so are the epochs. A gap is the metric at another batch size less
that at the base, in the metric's good direction and paired by seed, on the test split at the selected epoch: the "test
gap across batch sizes" of arXiv 2205.10287.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from epsgrid.report.batch_exponents import ExponentRows, exponent_rows, read_batches
from epsgrid.selection.cells import Cell, Choice, Difference, difference, read_cells, read_metric
from epsgrid.selection.formatting import Metric
from epsgrid.selection.load import StoredExperiment, of_trials
from epsgrid.spec.trial import Trial
from epsgrid.store.records import GridRecord

BASE = "base"
_WITH_EPSILON, _WITHOUT_EPSILON = "sqrt", "sqrt-keep-epsilon"


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
