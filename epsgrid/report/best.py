"""The best setting that each way to search finds: what it scores, what it loses, what it costs.

The ways are the grids that were swept; the default ε; the two ends of the bounds alone, which is all that the published
algorithm asks to be trained; and the point estimates, each with its own decade of ε. All of them still choose their
learning rate. None is trained for itself: their cells are looked up among those of the grids, so that a way whose cells
no grid holds has no row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from epsgrid.numerics.statistics import Interval, mean_interval
from epsgrid.report.cells import Cell, Choice, best, of_grid, spread_of, tally
from epsgrid.report.load import StoredExperiment
from epsgrid.report.rows import (
    BOUNDARY,
    CONVENTIONAL,
    DEFAULT,
    ESTIMATE,
    NARROWED,
    TOLERANCE,
    BestRow,
    EstimateRow,
    OtherRow,
)
from epsgrid.report.spent import cost_row, trials_of
from epsgrid.report.verdict import difference
from epsgrid.report.words import Metric, power
from epsgrid.store.records import Scores


def best_rows(
    stored: StoredExperiment,
    cells: Sequence[Cell],
    names: Sequence[str],
    estimates: Sequence[EstimateRow],
    metric: Metric | None,
) -> tuple[BestRow, ...]:
    """Return the best setting of each way to search that has cells.

    Args:
        stored: the experiment.
        cells: all that was swept.
        names: of the grids.
        estimates: of ε, from the probe alone.
        metric: None while no trial has a result.
    """
    grids = [(name, of_grid(name, cells)) for name in names if name != DEFAULT]
    searches: list[_Search] = [(BestRow(name, best(own, metric), None), own) for name, own in grids]
    searches += [*_default(stored, cells, metric), *_boundary(stored, cells, metric)]
    searches += _estimates(cells, estimates, metric)
    everything = best(cells, metric)
    return tuple(_completed(row, own, cells, stored, everything, metric) for row, own in searches)


_Search = tuple[BestRow, Sequence[Cell]]


def _default(stored: StoredExperiment, cells: Sequence[Cell], metric: Metric | None) -> list[_Search]:
    epsilons = sorted({cell.epsilon for cell in cells if cell.epsilon is not None})
    if stored.grid is None or not epsilons:
        return []
    default = stored.grid.default_epsilon
    nearest = min(epsilons, key=lambda epsilon: abs(math.log10(epsilon / default)))
    is_default = math.isclose(nearest, default, rel_tol=TOLERANCE)
    note = None if is_default else f"default ε {power(default)} is in no grid; the nearest is {power(nearest)}"
    own = _at(cells, nearest)
    return [(BestRow(DEFAULT, best(own, metric), note), own)]


def _boundary(stored: StoredExperiment, cells: Sequence[Cell], metric: Metric | None) -> list[_Search]:
    if stored.bounds is None:
        return []
    ends = dict.fromkeys((stored.bounds.low.decade, stored.bounds.high.decade))
    missing = [f"ε {power(end)}" for end in ends if not _at(cells, end)]
    own = [cell for end in ends for cell in _at(cells, end)]
    if not own:
        return []
    note = f"of the two ends, {' and '.join(missing)} was not trained" if missing else None
    return [(BestRow(BOUNDARY, best(own, metric), note), own)]


def _estimates(cells: Sequence[Cell], estimates: Sequence[EstimateRow], metric: Metric | None) -> list[_Search]:
    """Return a row for each decade that an estimate names and a grid holds; estimates that agree share one."""
    named: dict[float, list[str]] = {}
    for row in estimates:
        if row.is_trained:
            named.setdefault(row.decade, []).append(row.name)
    found = [(", ".join(names), _at(cells, decade)) for decade, names in named.items()]
    return [(BestRow(ESTIMATE, best(own, metric), None, label=label), own) for label, own in found]


def _at(cells: Sequence[Cell], epsilon: float) -> list[Cell]:
    return [
        cell for cell in cells if cell.epsilon is not None and math.isclose(cell.epsilon, epsilon, rel_tol=TOLERANCE)
    ]


def _completed(
    row: BestRow,
    own: Sequence[Cell],
    cells: Sequence[Cell],
    stored: StoredExperiment,
    everything: Choice,
    metric: Metric | None,
) -> BestRow:
    conventional = of_grid(CONVENTIONAL, cells)
    probe = stored.probe.cost_seconds if stored.probe else None
    return replace(
        row,
        others=_others(stored, row.choice.cell),
        interval=_interval(row.choice.cell),
        regret=difference(everything, row.choice, ("best swept setting", row.words), metric),
        cost=cost_row(
            own,
            tally(trials_of(conventional)) if conventional else None,
            probe,
            needs_probe=row.name in (NARROWED, BOUNDARY, ESTIMATE),
        ),
    )


def _interval(cell: Cell | None) -> Interval | None:
    """Return the interval of a cell's mean test metric; None without a test score."""
    scores = list(cell.test_by_seed().values()) if cell else []
    return mean_interval(scores) if scores else None


def _others(stored: StoredExperiment, cell: Cell | None) -> tuple[OtherRow, ...]:
    """Return what else the trials of a cell were scored by, over its done seeds."""
    done = [stored.results[trial.id] for trial in cell.trials if trial.state == "done"] if cell else []
    names = dict.fromkeys(name for result in done for name in _other_scores(result.selecting))
    return tuple(
        OtherRow(
            name,
            spread_of(_other_scores(result.selecting).get(name) for result in done),
            spread_of(_other_scores(result.test).get(name) for result in done),
        )
        for name in names
    )


def _other_scores(scores: Scores | None) -> dict[str, float]:
    return {name: value for name, value in scores.others.items() if math.isfinite(value)} if scores else {}
