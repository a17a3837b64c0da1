"""Compare narrowed, conventional and default ε of one experiment.

Differences and regrets are on the test metric, in its good direction, paired by seed; cells are chosen on the split
that selects (see `epsgrid.report.cells`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from epsgrid.numerics.bounds import EpsilonBounds
from epsgrid.numerics.estimates import PointEstimate
from epsgrid.numerics.magnitudes import Bound, decade_of, high_rank, low_rank
from epsgrid.numerics.placement import Placement
from epsgrid.report.adaptive import adaptive_share
from epsgrid.report.batches import batches_row
from epsgrid.report.best import best_rows
from epsgrid.report.cells import Cell, Choice, best, of_grid, read_cells, read_metric, tally
from epsgrid.report.confirm import confirmation
from epsgrid.report.load import StoredExperiment
from epsgrid.report.notes import loose_ends, notes, obstacle, provenance, scoring
from epsgrid.report.rows import (
    CONVENTIONAL,
    DEFAULT,
    NARROWED,
    TOLERANCE,
    AdaptiveRow,
    BoundRow,
    BoundsRow,
    Comparison,
    Costs,
    EstimateRow,
    GridRow,
    LayerRow,
)
from epsgrid.report.spent import trials_of, unknown_saving
from epsgrid.report.trust import estimates, kind_rows, reliability_row
from epsgrid.report.verdict import Difference, difference, judge, unknown_difference
from epsgrid.report.words import Metric, power


def compare(stored: StoredExperiment) -> Comparison:
    """Compare the grids of an experiment.

    Works at any time: what is not there yet is None, with the reason beside it.

    Raises:
        CorruptRecordError: records contradict each other; the message names them.
    """
    metric, cells = read_metric(stored), read_cells(stored, _insideness(stored.bounds))
    grids = _grids(stored, cells)
    estimated = _estimates(stored, cells, metric)
    rows = best_rows(stored, cells, [row.name for row in grids], estimated, metric)
    choices = {row.name: row.choice for row in rows}
    spec = stored.experiment.spec
    return Comparison(
        experiment=stored.experiment.name,
        task=spec["task"]["name"],
        model=spec["model"]["name"],
        optimizer=spec["optimizer"]["name"],
        data_description=stored.experiment.data_description,
        selection=spec["training"]["selection"],
        metric=metric,
        verdict=judge(cells, metric, obstacle=obstacle(stored, cells)),
        bounds=_bounds(stored),
        reliability=reliability_row(stored.bounds) if stored.bounds else None,
        kinds=kind_rows(stored.bounds, stored.probe.placement) if stored.bounds and stored.probe else (),
        estimates=estimated,
        grids=grids,
        decades_ratio=_decades_ratio(grids),
        best=rows,
        regret=_difference(choices, CONVENTIONAL, NARROWED, metric),
        gain_over_default=_difference(choices, NARROWED, DEFAULT, metric),
        confirmed=confirmation(stored, cells, rows, metric),
        costs=_costs(stored, cells, grids),
        adaptive=_adaptive(stored, cells),
        observed=(),
        cells=cells,
        loose_ends=loose_ends(cells),
        notes=notes(stored, cells, rows),
        scoring=scoring(stored),
        provenance=provenance(stored),
        batches=batches_row(stored),
    )


def _insideness(bounds: EpsilonBounds | None) -> _Inside | None:
    return None if bounds is None else _Inside(bounds.low.decade, bounds.high.decade)


@dataclass(frozen=True)
class _Inside:
    """Whether an ε lies within the decades of the bounds, ends included."""

    low: float
    high: float

    def __call__(self, epsilon: float) -> bool:
        return self.low * (1 - TOLERANCE) <= epsilon <= self.high * (1 + TOLERANCE)


def _grids(stored: StoredExperiment, cells: Sequence[Cell]) -> tuple[GridRow, ...]:
    if stored.grid is None:
        return ()
    named = dict.fromkeys([*stored.grid.epsilons, *(name for cell in cells for name in cell.grids)])
    return tuple(_grid(name, stored.grid.epsilons.get(name, ()), of_grid(name, cells)) for name in named)


def _grid(name: str, epsilons: tuple[float, ...], cells: Sequence[Cell]) -> GridRow:
    return GridRow(name, epsilons, len(set(map(decade_of, epsilons))), tally(trials_of(cells)))


def _decades_ratio(grids: Sequence[GridRow]) -> float | None:
    decades = {row.name: row.decades for row in grids}
    if not decades.get(NARROWED) or not decades.get(CONVENTIONAL):
        return None
    return decades[CONVENTIONAL] / decades[NARROWED]


def _estimates(stored: StoredExperiment, cells: Sequence[Cell], metric: Metric | None) -> tuple[EstimateRow, ...]:
    if stored.bounds is None or stored.probe is None:
        return ()
    return estimate_rows(stored.bounds, stored.probe.placement, cells, metric)


def estimate_rows(
    bounds: EpsilonBounds, placement: Placement, cells: Sequence[Cell] = (), metric: Metric | None = None
) -> tuple[EstimateRow, ...]:
    """Return the point estimates of ε, each with what its decade lost against the best swept setting.

    Args:
        bounds: with their layers.
        placement: where the optimizer adds its ε.
        cells: what was swept; none before a sweep.
        metric: None while no trial has a result.
    """
    swept = [cell for cell in cells if cell.epsilon is not None]
    return tuple(_estimate(found, swept, metric) for found in estimates(bounds, placement))


def _estimate(found: PointEstimate, swept: Sequence[Cell], metric: Metric | None) -> EstimateRow:
    there = [cell for cell in swept if math.isclose(cell.epsilon or 0.0, found.decade, rel_tol=TOLERANCE)]
    choice = best(there, metric)
    regret = (
        difference(best(swept, metric), choice, ("best swept setting", f"ε {power(found.decade)}"), metric)
        if there
        else unknown_difference(f"ε {power(found.decade)} was not trained")
    )
    return EstimateRow(
        name=found.name,
        formula=found.formula,
        epsilon=found.epsilon,
        decade=found.decade,
        is_trained=bool(there),
        learning_rate=choice.cell.learning_rate if choice.cell else None,
        test=choice.cell.test if choice.cell else None,
        regret=regret,
    )


def _difference(choices: dict[str, Choice], better: str, worse: str, metric: Metric | None) -> Difference:
    for name in (better, worse):
        if name not in choices:
            return unknown_difference("no ε was swept" if name == DEFAULT else f"the {name} grid was not swept")
    words = (_words(better), _words(worse))
    return difference(choices[better], choices[worse], words, metric)


def _words(name: str) -> str:
    return "default ε" if name == DEFAULT else f"{name} grid"


def _costs(stored: StoredExperiment, cells: Sequence[Cell], grids: Sequence[GridRow]) -> Costs:
    probe = stored.probe.cost_seconds if stored.probe else None
    shared = sum(cell.tally.trials for cell in cells if {NARROWED, CONVENTIONAL} <= set(cell.grids))
    tallies = {row.name: row.tally for row in grids}
    parts = [(f"{name} grid", tallies.get(name)) for name in (NARROWED, CONVENTIONAL)]
    unknown = unknown_saving(parts)
    if NARROWED not in tallies or CONVENTIONAL not in tallies:
        return Costs(probe, shared, None, None, unknown)
    narrowed, conventional = tallies[NARROWED], tallies[CONVENTIONAL]
    saved = conventional.trials - narrowed.trials
    if unknown is not None:
        return Costs(probe, shared, saved, None, unknown)
    if probe is None:
        return Costs(None, shared, saved, None, "the probe's record is missing")
    return Costs(probe, shared, saved, conventional.seconds - narrowed.seconds - probe, None)


def _adaptive(stored: StoredExperiment, cells: Sequence[Cell]) -> tuple[AdaptiveRow, ...]:
    if stored.bounds is None or stored.probe is None:
        return ()
    placement = stored.probe.placement
    moving = adaptive_share(stored.bounds, 0.0)
    rows = []
    for epsilon in sorted({cell.epsilon for cell in cells if cell.epsilon is not None}):
        magnitude = placement.magnitude_from_epsilon(epsilon)
        share = adaptive_share(stored.bounds, magnitude)
        if share is not None and moving:
            rows.append(AdaptiveRow(epsilon, magnitude, share, share / moving))
    return tuple(rows)


def _bounds(stored: StoredExperiment) -> BoundsRow | None:
    bounds = stored.bounds
    if bounds is None or stored.probe is None:
        return None
    tail = bounds.tail_fraction
    return BoundsRow(
        low=_bound(bounds.low, is_extreme=low_rank(bounds.low.entries, tail) == 0),
        high=_bound(bounds.high, is_extreme=high_rank(bounds.high.entries, tail) == bounds.high.entries - 1),
        decades=bounds.decades,
        tail_fraction=tail,
        placement=stored.probe.placement.description,
        layers=tuple(
            LayerRow(
                name=layer.name,
                shape=layer.shape,
                entries=layer.entries,
                nonzero=layer.nonzero,
                low=layer.low,
                high=layer.high,
                status=layer.status.value,
                kind=layer.kind,
            )
            for layer in bounds.layers
        ),
        skipped=tuple((layer.name, layer.status.value) for layer in bounds.skipped),
    )


def _bound(bound: Bound, *, is_extreme: bool) -> BoundRow:
    return BoundRow(bound.magnitude, bound.epsilon, bound.decade, bound.layers, bound.entries, is_extreme)
