"""Gather all that a report says about one experiment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from epsgrid.grids import CONVENTIONAL, NARROWED
from epsgrid.numerics.bounds import EpsilonBounds
from epsgrid.numerics.estimates import PointEstimate, point_estimates
from epsgrid.numerics.groups import MOSTLY_NOISE
from epsgrid.numerics.placement import Placement
from epsgrid.report.batches import batches_row
from epsgrid.report.claims import Run, claims, run_of
from epsgrid.report.notes import notes, provenance, scoring, unfinished
from epsgrid.report.observed import Observed, most_moved, observed, observed_row
from epsgrid.report.rows import AdaptiveRow, BoundsRow, Comparison, GridRow
from epsgrid.report.trust import kind_rows, reliability_row, shares_above
from epsgrid.selection.answers import answer
from epsgrid.selection.best import best_rows, grid_names, tally_cells
from epsgrid.selection.cells import Cell, of_grid, tally
from epsgrid.selection.evidence import Evidence, evidence
from epsgrid.selection.load import StoredExperiment
from epsgrid.spec.trial import model_label


def whole(stored: StoredExperiment) -> tuple[Comparison, Run, tuple[Observed, ...]]:
    """Return the whole comparison of an experiment, the same as a run for claims, and the trials it shows.

    Raises:
        CorruptRecordError: records contradict each other, or what was observed is damaged.
    """
    comparison, asked = _compare(stored)
    seen = observed(stored, comparison.best)
    rows = tuple(observed_row(each, stored) for each in seen)
    comparison = replace(comparison, observed=rows, most_moved=most_moved(stored, comparison.best))
    run = run_of(stored, comparison, asked)
    return replace(comparison, claims=claims([run])), run, seen


def _compare(stored: StoredExperiment) -> tuple[Comparison, Evidence]:
    bounds, placement = stored.bounds, stored.probe.placement if stored.probe else None
    estimated = estimates(bounds, placement) if bounds and placement else ()
    asked = evidence(stored, [(row.name, row.decade) for row in estimated])
    metric, cells = asked.metric, tuple(asked.cells)
    planned = stored.grid.epsilons if stored.grid else {}
    unit = (stored.grid.placement if stored.grid else None) or placement or Placement.outside()
    grids = tuple(
        GridRow(
            name=name,
            epsilons=planned.get(name, ()),
            decades=len({unit.decade_of(epsilon) for epsilon in planned.get(name, ())}),
            tally=tally_cells(of_grid(name, cells)),
        )
        for name in grid_names(stored, cells)
    )
    rows = best_rows(stored, cells, metric)
    decades = {row.name: row.decades for row in grids}
    has_both = decades.get(NARROWED) and decades.get(CONVENTIONAL)
    spec = stored.experiment.spec
    comparison = Comparison(
        experiment=stored.experiment.name,
        task=spec["task"]["name"],
        model=model_label(spec),
        optimizer=spec["optimizer"]["name"],
        data_description=stored.experiment.data_description,
        selection=spec["training"]["selection"],
        metric=metric,
        answers=answer(asked),
        bounds=_bounds_row(bounds, placement) if bounds and placement else None,
        reliability=reliability_row(bounds) if bounds else None,
        kinds=kind_rows(bounds, placement) if bounds and placement else (),
        estimates=estimated,
        grids=grids,
        decades_ratio=decades[CONVENTIONAL] / decades[NARROWED] if has_both else None,
        best=rows,
        probe_seconds=(stored.probe.cost_seconds or None) if stored.probe else None,
        fresh=tally(trial for cell in asked.contenders for trial in cell.trials if trial.id not in stored.states),
        adaptive=_adaptive_rows(bounds, placement, cells) if bounds and placement else (),
        observed=(),
        cells=cells,
        unfinished=unfinished(cells),
        notes=notes(stored, cells),
        scoring=scoring(stored),
        provenance=provenance(stored),
        batches=batches_row(stored),
        is_listed=stored.is_listed,
    )
    return comparison, asked


def _bounds_row(bounds: EpsilonBounds, placement: Placement) -> BoundsRow:
    """Return the measured bounds as a report shows them."""
    return BoundsRow(
        low=bounds.low,
        high=bounds.high,
        decades=bounds.decades,
        tail_fraction=bounds.tail_fraction,
        placement=placement.description,
        layers=tuple(replace(layer, histogram=None) for layer in bounds.layers),
        skipped=tuple((layer.name, layer.status.value) for layer in bounds.skipped),
    )


def estimates(bounds: EpsilonBounds, placement: Placement) -> tuple[PointEstimate, ...]:
    """Return the point estimates of ε; layers that are mostly rounding noise have no say."""
    noise = bounds.reliability.noise if bounds.reliability else {}
    return tuple(point_estimates(bounds.layers, placement, [layer for layer in noise if noise[layer] >= MOSTLY_NOISE]))


def _adaptive_rows(bounds: EpsilonBounds, placement: Placement, cells: Sequence[Cell]) -> tuple[AdaptiveRow, ...]:
    epsilons = sorted({cell.epsilon for cell in cells if cell.epsilon is not None})
    if not epsilons or not any(layer.nonzero for layer in bounds.layers if layer.histogram):
        return ()
    magnitudes = [placement.magnitude_from_epsilon(epsilon) for epsilon in epsilons]
    moving, *shares = shares_above(bounds.layers, [0.0, *magnitudes]).tolist()
    rows = zip(epsilons, magnitudes, shares, strict=True)
    return tuple(AdaptiveRow(epsilon, magnitude, share, share / moving) for epsilon, magnitude, share in rows)
