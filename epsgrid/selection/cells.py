"""Group trials by learning rate and ε, choose the best of a set of such cells, and compare two choices.

Only complete cells, with a result for every seed asked for, can be chosen: another could win or lose by the seeds it
lacks. The mean over seeds of the score that selects decides: validation, or test in the published protocol. A diverged
trial is worse than any score, so a cell with fewer diverged seeds goes before one with more, and a cell that diverged
on every seed cannot be chosen. Of equal cells the first is taken, by rising learning rate and ε.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from epsgrid.errors import CorruptRecordError
from epsgrid.grids import NARROWED
from epsgrid.numerics.statistics import LEVEL, mean_and_sd, paired_difference
from epsgrid.selection.formatting import Metric, count, power
from epsgrid.selection.load import StoredExperiment
from epsgrid.spec.trial import Trial
from epsgrid.store.pruning import Pruning
from epsgrid.store.records import Scores
from epsgrid.store.state import PRUNED

if TYPE_CHECKING:
    from epsgrid.numerics.bounds import EpsilonBounds


TOLERANCE = 1e-9
"""Relative; ε values are powers of ten, so anything between rounding and a decade would do."""
_DIVERGED = 1e15
"""A score so many times as large as the best one, or as 1, is that of a training that diverged without an overflow."""


@dataclass(frozen=True)
class TrialRow:
    """One trial with its scores.

    Attributes:
        state: "done", "diverged", "failed", "pruned", "pending", "running" or "interrupted".
        score, test: what it is selected by, and the test metric, at the selected epoch; finite, None unless done. A
            score beyond all measure is one of a training that diverged.
        selected_epoch: from 1; None unless done.
        seconds: what it cost; None without a result.
        error: why it failed, diverged or was pruned; None otherwise.
        started: when its last run began, in seconds since 1970; None where that is not known.
    """

    id: str
    seed: int
    state: str
    score: float | None
    test: float | None
    selected_epoch: int | None
    seconds: float | None
    error: str | None
    started: float | None = None


@dataclass(frozen=True)
class Spread:
    """Mean over seeds, sample standard deviation (None for one seed), and number of seeds."""

    mean: float
    sd: float | None
    n: int


@dataclass(frozen=True)
class Tally:
    """How many trials are in which state, and what they cost.

    Attributes:
        missing: those without any end: pending, running or interrupted.
        seconds: of training, summed over the trials with a result: the time their devices were busy.
        wall_seconds: how long at least one of them was training, by their own clocks; an interrupted trial counts from
            its last start. None where one does not say when it began.
    """

    trials: int
    done: int
    diverged: int
    failed: int
    missing: int
    seconds: float
    wall_seconds: float | None = None
    pruned: int = 0

    @property
    def complete(self) -> bool:
        """Whether every trial has a result."""
        return self.done + self.diverged == self.trials


@dataclass(frozen=True)
class Cell:
    """All seeds of one learning rate and ε.

    Attributes:
        learning_rate: as in the spec.
        trained_rate: the one its trials were trained with; another only with `sweep.lr_mode: effective`.
        epsilon: the optimizer's own ε; None for an optimizer without one.
        grids: the grids that ask for it.
        inside: whether ε lies within the bounds' decades, or on the list that stands for them; None without both.
        tally: the states of its trials.
        score, test: of the done seeds at the selected epoch, on the split that selects and on the test split, or None.
        trials: by seed.
    """

    learning_rate: float
    trained_rate: float
    epsilon: float | None
    grids: tuple[str, ...]
    inside: bool | None
    tally: Tally
    score: Spread | None
    test: Spread | None
    trials: tuple[TrialRow, ...]

    @property
    def label(self) -> str:
        """A label such as "lr 1e-3, ε 1e-8"."""
        rate = f"lr {power(self.learning_rate)}"
        if self.is_rescaled:
            rate += f" trained at {power(self.trained_rate)}"
        return rate if self.epsilon is None else f"{rate}, ε {power(self.epsilon)}"

    @property
    def is_rescaled(self) -> bool:
        """Whether its trials were trained with another learning rate than the spec's."""
        return self.trained_rate != self.learning_rate

    def test_by_seed(self) -> dict[int, float]:
        """Return the test metric of each done seed."""
        return {trial.seed: trial.test for trial in self.trials if trial.test is not None}


@dataclass(frozen=True)
class Choice:
    """The best of a set of cells; without one, `unknown` says why. Incomplete cells lack a result and were left out."""

    cell: Cell | None
    unknown: str | None
    candidates: int
    incomplete: int


def read_metric(stored: StoredExperiment) -> Metric | None:
    """Return what the trials are judged by; None while no trial has a result, a CorruptRecordError if it differs."""
    metrics: dict[Metric, str] = {}
    for trial, result in stored.results.items():
        metrics.setdefault(result.metric, trial)
    if len(metrics) > 1:
        (one, first), (other, second) = list(metrics.items())[:2]
        paths = [stored.folder.trial(trial).result_json for trial in (first, second)]
        raise CorruptRecordError(
            f"trials of one experiment are judged by different metrics: {one} in {paths[0]}, {other} in {paths[1]}; "
            "remove the result that does not belong here"
        )
    return next(iter(metrics), None)


def read_cells(stored: StoredExperiment, bounds: EpsilonBounds | None = None) -> tuple[Cell, ...]:
    """Return all cells of the grids, by rising learning rate and ε; `bounds` decide which lie inside."""
    groups: dict[tuple[float, float | None], dict[int, Trial]] = {}
    for cell in stored.grid.cells if stored.grid else ():
        groups.setdefault((cell.grid_rate, cell.epsilon), {})[cell.seed] = cell
    metric = read_metric(stored)
    known = [score for result in stored.results.values() if (score := _finite(result.selecting)) is not None]
    limit = _DIVERGED * max(1.0, abs((max if metric and metric.sign > 0 else min)(known, default=0.0)))
    cells = []
    for (rate, epsilon), by_seed in sorted(groups.items(), key=lambda item: (item[0][0], item[0][1] or 0.0)):
        trials = tuple(_trial(stored, by_seed[seed], limit) for seed in sorted(by_seed))
        inside = None
        if stored.is_listed and stored.grid and epsilon is not None:
            inside = epsilon in stored.grid.epsilons.get(NARROWED, ())
        elif bounds is not None and epsilon is not None:
            inside = bounds.low.decade * (1 - TOLERANCE) <= epsilon <= bounds.high.decade * (1 + TOLERANCE)
        cells.append(
            Cell(
                learning_rate=rate,
                trained_rate=next(iter(by_seed.values())).learning_rate,
                epsilon=epsilon,
                grids=tuple(dict.fromkeys(grid for cell in by_seed.values() for grid in cell.grids)),
                inside=inside,
                tally=tally(trials),
                score=spread_of(trial.score for trial in trials),
                test=spread_of(trial.test for trial in trials),
                trials=trials,
            )
        )
    return tuple(cells)


def _trial(stored: StoredExperiment, cell: Trial, limit: float) -> TrialRow:
    result, state = stored.results.get(cell.id), stored.states[cell.id]
    if result is None:
        failure = stored.failures.get(cell.id)
        pruning = Pruning.find(stored.folder.trial(cell.id).prune_json) if state == PRUNED else None
        error = failure.error if failure else pruning.label if pruning else None
        return TrialRow(cell.id, cell.seed, state, None, None, None, None, error)
    score, started = _finite(result.selecting), _started(result.provenance)
    # A training of the user's own may take no test score: then its settings are compared by what they are chosen by.
    test, epoch = score if result.test is None else _finite(result.test), result.selected_epoch
    if result.state == "diverged" or score is None or max(abs(score), abs(test or 0.0)) > limit:
        what = "not finite" if score is None else "beyond all measure"
        error = result.reason or f"its score is {what}"
        return TrialRow(cell.id, cell.seed, "diverged", None, None, None, result.seconds, error, started)
    return TrialRow(cell.id, cell.seed, "done", score, test, epoch, result.seconds, None, started)


def _finite(scores: Scores | None) -> float | None:
    return scores.metric if scores is not None and math.isfinite(scores.metric) else None


def _started(provenance: dict[str, Any]) -> float | None:
    """Return when a trial's last run began; None where its record does not say so."""
    try:
        return datetime.fromisoformat(provenance["started"]).timestamp()
    except (KeyError, TypeError, ValueError):
        return None


def of_grid(name: str, cells: Iterable[Cell]) -> list[Cell]:
    """Return the cells that a grid asks for."""
    return [cell for cell in cells if name in cell.grids]


def at_epsilon(epsilon: float, cells: Iterable[Cell]) -> list[Cell]:
    """Return the cells of an ε, up to rounding."""
    return [
        cell for cell in cells if cell.epsilon is not None and math.isclose(cell.epsilon, epsilon, rel_tol=TOLERANCE)
    ]


def tally(trials: Iterable[TrialRow]) -> Tally:
    """Count trials by state and add up what they cost; a trial given twice counts once."""
    rows = {trial.id: trial for trial in trials}.values()
    states = [trial.state for trial in rows]
    done, diverged, failed, pruned = (states.count(state) for state in ("done", "diverged", "failed", PRUNED))
    seconds = math.fsum(trial.seconds for trial in rows if trial.seconds is not None)
    runs = [(trial.started, trial.seconds) for trial in rows if trial.seconds is not None]
    missing = len(states) - done - diverged - failed - pruned
    return Tally(len(states), done, diverged, failed, missing, seconds, busy(runs), pruned)


def busy(runs: Iterable[tuple[float | None, float]]) -> float | None:
    """Return for how many seconds at least one of some runs, by start and seconds, was under way; None if not known.

    >>> busy([(0.0, 10.0), (5.0, 10.0), (20.0, 1.0)])
    16.0
    """
    known: list[tuple[float, float]] = []
    for start, seconds in runs:
        if start is None:
            return None
        known.append((start, start + seconds))
    total, until = 0.0, -math.inf
    for start, end in sorted(known):
        total += max(end - max(start, until), 0.0)
        until = max(until, end)
    return total


def best(cells: Sequence[Cell], metric: Metric | None) -> Choice:
    """Choose the best of some cells by the rules at the top of this module; a metric of None means no results."""
    complete = [cell for cell in cells if cell.tally.complete]
    incomplete = len(cells) - len(complete)
    if metric is not None:
        ranks = [
            (-cell.tally.diverged / cell.tally.trials, metric.sign * cell.score.mean, -place)
            for place, cell in enumerate(complete)
            if cell.score is not None
        ]
        if ranks:
            return Choice(complete[-max(ranks)[-1]], None, len(cells), incomplete)
    if not cells:
        why = "no cell was planned there"
    elif not complete:
        why = f"none of {count(len(cells), 'cell')} has a result for every seed"
    elif incomplete:
        why = f"every complete cell diverged, {incomplete} of {count(len(cells), 'cell')} incomplete"
    else:
        why = "every trial diverged"
    return Choice(None, why, len(cells), incomplete)


def spread_of(values: Iterable[float | None]) -> Spread | None:
    """Return mean and standard deviation of the values that are known; None where none is."""
    known = [value for value in values if value is not None]
    return Spread(*mean_and_sd(known), len(known)) if known else None


@dataclass(frozen=True)
class Difference:
    """How much better one cell is than another on the test metric, paired by seed.

    Attributes:
        mean, low, high: in the metric's good direction, in its stored unit; no interval without two common seeds.
        n: common seeds.
        same_cell: both are the same cell, so that the difference is zero by definition.
        unknown: why it is not known; None where it is.
    """

    mean: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    level: float = LEVEL
    same_cell: bool = False
    unknown: str | None = None


def difference(better: Choice, worse: Choice, names: tuple[str, str], metric: Metric | None) -> Difference:
    """Return by how much the first of two chosen cells beats the second on the test metric; `names` are for reasons."""
    for choice, name in zip((better, worse), names, strict=True):
        if choice.cell is None:
            return Difference(unknown=f"{name}: {choice.unknown}")
        if choice.cell.tally.diverged:
            shares = f"{choice.cell.tally.diverged} of {count(choice.cell.tally.trials, 'seed')}"
            return Difference(unknown=f"{name}: the best cell, {choice.cell.label}, diverged on {shares}")
    assert better.cell is not None and worse.cell is not None and metric is not None
    first, second = better.cell.test_by_seed(), worse.cell.test_by_seed()
    if not first.keys() & second.keys():
        return Difference(unknown=f"{names[0]} and {names[1]} share no seed with a test score")
    if better.cell is worse.cell:
        return Difference(0.0, 0.0, 0.0, len(first), same_cell=True)
    sign = metric.sign
    paired = paired_difference({k: sign * v for k, v in first.items()}, {k: sign * v for k, v in second.items()})
    return Difference(paired.mean, paired.low, paired.high, paired.n)
