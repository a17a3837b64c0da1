"""Read what the questions are answered from: the settings of the grids, and the contenders with their fresh seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from epsgrid.numerics.statistics import LEVEL
from epsgrid.selection.cells import Cell, at_epsilon, read_cells, read_metric
from epsgrid.selection.formatting import Metric, power
from epsgrid.selection.load import StoredExperiment, of_trials
from epsgrid.selection.trained import Trained, margin_of, trained
from epsgrid.spec.trial import Trial
from epsgrid.store.cells import code_of
from epsgrid.store.records import AddedRate
from epsgrid.store.state import FINISHED, trial_state

if TYPE_CHECKING:
    from epsgrid.numerics.bounds import EpsilonBounds
    from epsgrid.numerics.layout import Loss
    from epsgrid.numerics.placement import Placement


MAX_ADDED = 4
"""Learning rates that are added on one side of a grid at most."""
_FAR = 10.0
"""Margins that are lost where nothing is learned, at least."""


@dataclass(frozen=True)
class _Edge:
    """A learning rate at the "lowest" or "highest" end of those tried, the "only" one, or one of a "flat" range.

    It `matters` where the next one may gain the margin or more; `is_unsure` where more seeds can show that it does not.
    """

    name: str
    matters: bool
    is_unsure: bool


@dataclass(frozen=True)
class Evidence:
    """What the questions are answered from.

    Attributes:
        cells: all settings of the grids.
        metric: None while no trial has a result.
        default_epsilon: the ε one would use without a search.
        margin_asked: as in the spec; None means the usual one.
        contenders: the settings that were trained with more seeds than the grids, each with all its seeds.
        level: probability with which each bound holds; higher where results are looked at several times.
        is_exhausted: whether all fresh seeds that were planned are trained.
        measured, bounds, placement: what the probe measured, which of it made the narrowed grid, and where the
            optimizer adds its ε; None without a probe.
        estimates: names and decades of the point estimates of ε.
        added: learning rates that were tried beyond those of the spec.
    """

    cells: Sequence[Cell]
    metric: Metric | None
    default_epsilon: float
    margin_asked: float | str | None = None
    contenders: Sequence[Cell] = ()
    level: float = LEVEL
    is_exhausted: bool = False
    measured: EpsilonBounds | None = None
    bounds: EpsilonBounds | None = None
    placement: Placement | None = None
    estimates: Sequence[tuple[str, float]] = ()
    added: Sequence[AddedRate] = ()

    @cached_property
    def trained(self) -> Trained:
        """The settings that can be compared."""
        return trained(self.cells, self.contenders, self.metric)

    @cached_property
    def margin(self) -> float | None:
        """The difference that does not matter, in the metric's stored unit; None while there is no score."""
        layout = self.trained.layout
        if layout is None or self.metric is None:
            return None
        best = float(layout.test[:, : layout.seeds].mean(1).max())
        return margin_of(self.margin_asked, self.metric, best)

    @property
    def epsilons(self) -> list[float]:
        """All ε of the grids, rising."""
        return sorted({cell.epsilon for cell in self.cells if cell.epsilon is not None})

    @property
    def baseline(self) -> list[Cell]:
        """The settings at the default ε."""
        return at_epsilon(self.default_epsilon, self.cells)

    def without(self, cells: Sequence[Cell]) -> list[Cell]:
        """Return the settings of the grids that are not among some."""
        return [cell for cell in self.cells if cell.epsilon is not None and cell not in cells]

    def loss(self, better: Sequence[Cell], other: Sequence[Cell]) -> Loss | None:
        """Return by how much the best of some settings beats the best of others; None where one side has no scores."""
        from epsgrid.numerics.layout import loss

        first, second = self.trained.places(better), self.trained.places(other)
        if self.trained.layout is None or not first or not second:
            return None
        return loss(self.trained.layout, first, second, self.level)

    def edge(self, cell: Cell) -> _Edge | None:
        """Return at which end of the learning rates tried a setting is; None where others lie on both sides.

        At an end a better rate may lie beyond. Between the best rate inside and the end the curve rises by some amount,
        and where learning rates are equally far apart and the curve is concave it rises by less over the next step.
        Near its top it is, and not where nothing is learned, whatever the rate: see `is_flat`.
        """
        if self.is_flat(cell):
            return _Edge("flat", True, False)
        name = self._end(cell)
        if name is None:
            return None
        inner = self.inner(cell)
        rise = None if inner is None else self.loss([cell], [inner])
        if rise is None or self.margin is None or rise.n < 2:
            return _Edge(name, True, False)
        return _Edge(name, rise.high >= self.margin, rise.low <= 0 and rise.high >= self.margin)

    def is_flat(self, cell: Cell) -> bool:
        """Whether a setting's ε loses more than ten margins, and its learning rates differ by less than one.

        So it is where none of them trains: they say nothing of others.
        """
        own, layout = self.rates(cell), self.trained.layout
        places = self.trained.places(own)
        if layout is None or self.margin is None or cell.epsilon is None or not 1 < len(own) == len(places):
            return False
        means = layout.test[places, : layout.seeds].mean(1)
        lost = self.loss(self.without(own), own)
        is_far = lost is not None and lost.n > 1 and lost.low > _FAR * self.margin
        return is_far and bool(means.max() - means.min() < self.margin)

    def inner(self, cell: Cell) -> Cell | None:
        """Return the best setting of the same ε whose learning rate is not at an end; None where there is none."""
        return self.trained.top([each for each in self.rates(cell) if self._end(each) is None])

    def rates(self, cell: Cell) -> list[Cell]:
        """Return the settings that differ from one in nothing but the learning rate, and the setting itself."""
        return [*self.cells] if cell.epsilon is None else at_epsilon(cell.epsilon, self.cells)

    def tried_lower(self, diverged: Sequence[Cell]) -> bool:
        """Whether all lower learning rates were tried that ever are where all of some settings diverged."""
        cell = at_largest(diverged)
        added = {each.learning_rate for each in self.added if each.epsilon == cell.epsilon}
        lowest = min({other.learning_rate for other in self.rates(cell)} - added, default=math.inf)
        return sum(rate < lowest for rate in added) >= MAX_ADDED

    def _end(self, cell: Cell) -> str | None:
        rates = sorted({other.learning_rate for other in self.rates(cell)})
        if len(rates) < 2:
            return "only"
        return "lowest" if cell.learning_rate == rates[0] else "highest" if cell.learning_rate == rates[-1] else None

    def edge_note(self, chosen: Iterable[Cell]) -> str:
        """Say of which of some settings a better learning rate may lie beyond those tried; "" where of none."""
        found: dict[str, list[str]] = {}
        for cell in dict.fromkeys(chosen):
            if (edge := self.edge(cell)) is not None:
                of = "the optimizer" if cell.epsilon is None else f"ε {power(cell.epsilon)}"
                rate = "" if edge.name == "flat" else f" ({power(cell.learning_rate)})"
                found.setdefault(edge.name, []).append(f"{of}{rate}")
        texts = {
            "only": "only one learning rate was tried at {}",
            "flat": "no learning rate tried at {} makes a difference",
        }
        usual = "the best learning rate of {} is the {} tried"
        return "; ".join(texts.get(name, usual).format(" and ".join(who), name) for name, who in found.items())

    def open_note(self, better: Sequence[Cell]) -> str:
        """Return such a note about the best of some settings where a better rate may gain the margin; "" elsewhere.

        Where all of them diverged there is no best, and another rate may train.
        """
        top = self.trained.top(better)
        if top is None:
            if not better or not all(cell.tally.complete for cell in better):
                return ""
            return f"every learning rate tried at ε {power(better[0].epsilon)} diverged on some seed"
        edge = self.edge(top)
        return self.edge_note([top]) if edge is not None and edge.matters else ""


def at_largest(diverged: Sequence[Cell]) -> Cell:
    """Return one of the settings with the largest ε, where lower learning rates are tried if all diverged."""
    return max(diverged, key=lambda cell: cell.epsilon or 0.0)


def evidence(stored: StoredExperiment, estimates: Sequence[tuple[str, float]] = ()) -> Evidence:
    """Return what the questions of an experiment are answered from.

    `estimates` are names and decades of point estimates of ε, to compare with them.

    Raises:
        CorruptRecordError, StoreError: trials are judged by different metrics, or a record cannot be read.
    """
    fresh, record = counted(stored), stored.confirm
    contenders: tuple[Cell, ...] = ()
    if fresh and stored.grid is not None:
        settings = {(cell.grid_rate, cell.epsilon) for cell in fresh}
        own = (cell for cell in stored.grid.cells if (cell.grid_rate, cell.epsilon) in settings)
        both = replace(stored.grid, cells=(*own, *(replace(cell, grids=()) for cell in fresh)))
        contenders = read_cells(of_trials(stored, both), stored.bounds)
    return Evidence(
        cells=read_cells(stored, stored.bounds),
        metric=read_metric(stored),
        default_epsilon=stored.grid.default_epsilon if stored.grid else 1e-8,
        margin_asked=stored.experiment.spec.get("report", {}).get("margin"),
        contenders=contenders,
        level=LEVEL if record is None else record.level,
        is_exhausted=record is not None and len({cell.seed for cell in fresh}) == max(record.looks, default=-1),
        measured=stored.measured,
        bounds=stored.bounds,
        placement=stored.probe.placement if stored.probe else None,
        estimates=estimates,
        added=stored.grid.added_rates if stored.grid else (),
    )


def counted(stored: StoredExperiment) -> tuple[Trial, ...]:
    """Return the trials on fresh seeds that count: those up to the last look for which all of them have ended.

    Trials between two looks do not count yet, whoever looks. Trials of settings that no grid holds any more, and of
    seeds that a grid has used since, do not count at all, nor does one of other code of the user's than the grid's.
    """
    record, grid = stored.confirm, stored.grid
    if record is None or grid is None or not record.cells or not grid.cells:
        return ()
    if code_of(stored.folder.trial(record.cells[0].id)) != code_of(stored.folder.trial(grid.cells[0].id)):
        return ()
    settings = {(cell.grid_rate, cell.learning_rate, cell.epsilon) for cell in grid.cells}
    used = {cell.seed for cell in grid.cells}
    by_seed: dict[int, list[Trial]] = {}
    for cell in record.cells:
        if cell.seed not in used and (cell.grid_rate, cell.learning_rate, cell.epsilon) in settings:
            by_seed.setdefault(cell.seed, []).append(cell)
    ended = {
        seed
        for seed, cells in by_seed.items()
        if all(trial_state(stored.folder.trial(cell.id)) in FINISHED for cell in cells)
    }
    reached = [look for look in record.looks if ended.issuperset(record.seeds[:look])]
    seeds = record.seeds[: max(reached, default=0)] if record.looks else record.seeds
    return tuple(cell for seed in seeds if seed in ended for cell in by_seed[seed])
