"""The best setting that each way to search finds: what it scores, what it loses, what it costs.

The ways are the grids that were swept; the default ε; the two ends of the bounds alone, which is all that the published
algorithm asks to be trained; and the point estimates, each with its own decade of ε. All of them still choose their
learning rate. None is trained for itself: their cells are looked up among those of the grids, so that a way whose cells
no grid holds has no row.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from epsgrid.numerics.statistics import Interval, mean_interval
from epsgrid.selection.cells import (
    CONVENTIONAL,
    DEFAULT,
    NARROWED,
    TOLERANCE,
    Cell,
    Choice,
    Difference,
    Spread,
    Tally,
    at_epsilon,
    best,
    difference,
    of_grid,
    spread_of,
    tally,
)
from epsgrid.selection.formatting import Metric, count, power
from epsgrid.selection.load import StoredExperiment
from epsgrid.store.records import Scores

BOUNDARY, ESTIMATE = "boundary", "estimate"


@dataclass(frozen=True)
class _OtherRow:
    """A score kept beside the metric, such as a second way to compute BLEU, over the done seeds of a cell.

    Attributes:
        name: of the score.
        selecting, test: on the split that selects and on the test split; None where no seed has a finite one.
    """

    name: str
    selecting: Spread | None
    test: Spread | None


@dataclass(frozen=True)
class CostRow:
    """What it costs to choose a setting in one way, as if that were the only one.

    Attributes:
        trials: all it asks for.
        device_seconds: of training, summed over its trials with a result: the time devices were busy.
        wall_seconds: how long at least one of them was training; it depends on how many ran at once. None where that is
            not known.
        probe_seconds: of the probe that it needs; 0 where it needs none, None where it was not measured.
        saved_trials: those of the conventional grid − these; None where that was not swept.
        saved_seconds: device seconds of the conventional grid − these − the probe's; may be negative. None where it is
            not known.
        unknown: why it is not known; None where it is.
    """

    trials: int
    device_seconds: float
    wall_seconds: float | None
    probe_seconds: float | None
    saved_trials: int | None
    saved_seconds: float | None
    unknown: str | None


@dataclass(frozen=True)
class BestRow:
    """The best cell of one way to search: a grid, the default ε, the two ends of the bounds, or a point estimate.

    Attributes:
        name: "narrowed", "conventional", "reference", "default", "boundary" or "estimate".
        choice: the cell and how many there were to choose from.
        note: what a reader must know about it; None otherwise.
        others: what else its trials were scored by.
        label: the point estimates that name this ε; "your list" for a narrowed grid that the spec lists; else "".
        interval: of the mean test metric over the seeds; None without a score.
        regret: best swept setting − this one, on test: positive where this way of searching loses.
        cost: what the search takes by itself.
    """

    name: str
    choice: Choice
    note: str | None
    others: tuple[_OtherRow, ...]
    label: str
    interval: Interval | None
    regret: Difference
    cost: CostRow

    @property
    def is_grid(self) -> bool:
        """Whether the way to search is a grid that was swept."""
        return self.name not in (DEFAULT, BOUNDARY, ESTIMATE)

    @property
    def words(self) -> str:
        """A label for tables and messages."""
        return _words(self.name, self.label)


def _words(name: str, label: str) -> str:
    named = {DEFAULT: "default ε", BOUNDARY: "bounds' two ends", ESTIMATE: f"estimate: {label}"}
    return named.get(name, label or name)


def grid_names(stored: StoredExperiment, cells: Sequence[Cell]) -> tuple[str, ...]:
    """Return the names of all grids: those that were planned, in their order, then any others that cells name."""
    planned = stored.grid.epsilons if stored.grid else ()
    return tuple(dict.fromkeys([*planned, *(name for cell in cells for name in cell.grids)]))


def best_rows(
    stored: StoredExperiment, cells: Sequence[Cell], metric: Metric | None, estimates: Sequence[tuple[str, float]] = ()
) -> tuple[BestRow, ...]:
    """Return the best setting of each way to search that has cells: grids first.

    Args:
        stored: the experiment.
        cells: all that was swept.
        metric: None while no trial has a result.
        estimates: names of point estimates of ε, each with its power of ten.
    """
    everything, conventional = best(cells, metric), of_grid(CONVENTIONAL, cells)
    conventional_tally = tally_cells(conventional) if conventional else None
    rows = []
    for name, label, note, own in _searches(stored, cells, estimates):
        choice = best(own, metric)
        needs_probe = name in (BOUNDARY, ESTIMATE) or (name == NARROWED and not stored.is_listed)
        probe = (stored.probe.cost_seconds if stored.probe else None) if needs_probe else 0.0
        scores = list(choice.cell.test_by_seed().values()) if choice.cell else []
        rows.append(
            BestRow(
                name=name,
                choice=choice,
                note=note,
                others=_others(stored, choice.cell),
                label=label,
                interval=mean_interval(scores) if scores else None,
                regret=difference(everything, choice, ("best swept setting", _words(name, label)), metric),
                cost=_cost_row(tally_cells(own), conventional_tally, probe),
            )
        )
    return tuple(rows)


def _searches(
    stored: StoredExperiment, cells: Sequence[Cell], estimates: Sequence[tuple[str, float]]
) -> Iterator[tuple[str, str, str | None, list[Cell]]]:
    """Yield the name, the label, the note and the cells of each way to search."""
    for name in grid_names(stored, cells):
        if name != DEFAULT:
            yield name, "your list" if name == NARROWED and stored.is_listed else "", None, of_grid(name, cells)
    epsilons = sorted({cell.epsilon for cell in cells if cell.epsilon is not None})
    if stored.grid is not None and epsilons:
        default = stored.grid.default_epsilon
        nearest = min(epsilons, key=lambda epsilon: abs(math.log10(epsilon / default)))
        is_default = math.isclose(nearest, default, rel_tol=TOLERANCE)
        note = None if is_default else f"default ε {power(default)} is in no grid; the nearest is {power(nearest)}"
        yield DEFAULT, "", note, at_epsilon(nearest, cells)
    if stored.bounds is not None:
        ends = dict.fromkeys((stored.bounds.low.decade, stored.bounds.high.decade))
        missing = [f"ε {power(end)}" for end in ends if not at_epsilon(end, cells)]
        note = f"of the two ends, {' and '.join(missing)} was not trained" if missing else None
        if own := [cell for end in ends for cell in at_epsilon(end, cells)]:
            yield BOUNDARY, "", note, own
    named: dict[float, list[str]] = {}
    for name, decade in estimates:
        named.setdefault(decade, []).append(name)
    for decade, names in named.items():  # estimates that agree share a row
        if own := at_epsilon(decade, cells):
            yield ESTIMATE, ", ".join(names), None, own


def _others(stored: StoredExperiment, cell: Cell | None) -> tuple[_OtherRow, ...]:
    """Return what else the trials of a cell were scored by, over its done seeds."""
    done = [stored.results[trial.id] for trial in cell.trials if trial.state == "done"] if cell else []
    names = dict.fromkeys(name for result in done for name in _other_scores(result.selecting))
    return tuple(
        _OtherRow(
            name,
            spread_of(_other_scores(result.selecting).get(name) for result in done),
            spread_of(_other_scores(result.test).get(name) for result in done),
        )
        for name in names
    )


def _other_scores(scores: Scores | None) -> dict[str, float]:
    return {name: value for name, value in scores.others.items() if math.isfinite(value)} if scores else {}


def tally_cells(cells: Iterable[Cell]) -> Tally:
    """Tally the trials of some cells."""
    return tally(trial for cell in cells for trial in cell.trials)


def _cost_row(own: Tally, conventional: Tally | None, probe_seconds: float | None) -> CostRow:
    """Return what a search costs and saves.

    Args:
        own: the trials it asks for.
        conventional: the conventional grid's trials; None where it was not swept.
        probe_seconds: what the probe it needs cost; 0 where it needs none, None where it was not measured.
    """
    saved = unknown = None
    if conventional is None:
        unknown = "the conventional grid was not swept"
    elif not (conventional.complete and own.complete):
        name, open_one = ("search", own) if conventional.complete else ("conventional grid", conventional)
        without = f"{open_one.trials - open_one.done - open_one.diverged} of {count(open_one.trials, 'trial')}"
        unknown = f"{without} of the {name} have no result"
    elif probe_seconds is None:
        unknown = "the probe's record is missing"
    else:
        saved = conventional.seconds - own.seconds - probe_seconds
    return CostRow(
        trials=own.trials,
        device_seconds=own.seconds,
        wall_seconds=own.wall_seconds,
        probe_seconds=probe_seconds,
        saved_trials=None if conventional is None else conventional.trials - own.trials,
        saved_seconds=saved,
        unknown=unknown,
    )
