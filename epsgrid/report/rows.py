"""The rows of a comparison: plain frozen data that turn into JSON as they are.

Metrics stay in their stored unit, fractions where the unit is "%"; what is not known is None, with the reason
beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from epsgrid import codec
from epsgrid.numerics.statistics import Interval
from epsgrid.report.batches import BatchesRow
from epsgrid.report.cells import Cell, Choice, Spread, Tally
from epsgrid.report.spent import CostRow
from epsgrid.report.trust import KindRow, ReliabilityRow
from epsgrid.report.verdict import Difference, Verdict
from epsgrid.report.words import Metric

if TYPE_CHECKING:
    from epsgrid.report.claims import ClaimRow
    from epsgrid.report.confirm import Confirmation

NARROWED, CONVENTIONAL, DEFAULT, REFERENCE = "narrowed", "conventional", "default", "reference"
BOUNDARY, ESTIMATE = "boundary", "estimate"
TOLERANCE = 1e-9
"""Relative; ε values are powers of ten, so anything between rounding and a decade would do."""


@dataclass(frozen=True)
class BoundRow:
    """One end of the ε range.

    Attributes:
        magnitude: in √v̂ units.
        epsilon: the same as an ε of the optimizer, not rounded.
        decade: the power of ten the grid uses.
        layers: the layers that set it.
        entries: non-zero entries of the first of them.
        is_extreme: the layer is so small that its minimum or maximum stands in for the percentile.
    """

    magnitude: float
    epsilon: float
    decade: float
    layers: tuple[str, ...]
    entries: int
    is_extreme: bool


@dataclass(frozen=True)
class LayerRow:
    """What was measured on one parameter tensor; `low` and `high` in √v̂ units, None unless measured."""

    name: str
    shape: tuple[int, ...]
    entries: int
    nonzero: int
    low: float | None
    high: float | None
    status: str
    kind: str


@dataclass(frozen=True)
class BoundsRow:
    """The measured bounds.

    Attributes:
        low: lower end.
        high: upper end.
        decades: powers of ten from end to end.
        tail_fraction: share of the non-zero entries beyond each end, per layer.
        placement: where ε enters the optimizer's update.
        layers: all layers.
        skipped: layers that do not count, as (name, status).
    """

    low: BoundRow
    high: BoundRow
    decades: tuple[float, ...]
    tail_fraction: float
    placement: str
    layers: tuple[LayerRow, ...]
    skipped: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class GridRow:
    """One grid.

    Attributes:
        name: such as "narrowed".
        epsilons: its ε values, rising; empty for the ε-free reference.
        decades: number of powers of ten among them.
        tally: how its trials stand and what they cost.
    """

    name: str
    epsilons: tuple[float, ...]
    decades: int
    tally: Tally


@dataclass(frozen=True)
class OtherRow:
    """A score kept beside the metric, such as a second way to compute BLEU, over the done seeds of a cell.

    Attributes:
        name: of the score.
        selecting: on the split that selects; None where no seed has a finite one.
        test: on the test split, likewise.
    """

    name: str
    selecting: Spread | None
    test: Spread | None


@dataclass(frozen=True)
class BestRow:
    """The best cell of one way to search: a grid, the default ε, the two ends of the bounds, or a point estimate.

    Attributes:
        name: "narrowed", "conventional", "reference", "default", "boundary" or "estimate".
        choice: the cell and how many there were to choose from.
        note: what a reader must know about it; None otherwise.
        others: what else its trials were scored by.
        label: the point estimates that name this ε; "" for the other ways.
        interval: of the mean test metric over the seeds; None without a score.
        regret: best swept setting − this one, on test: positive where this way of searching loses; None until compared.
        cost: what the search takes by itself; None likewise.
    """

    name: str
    choice: Choice
    note: str | None
    others: tuple[OtherRow, ...] = ()
    label: str = ""
    interval: Interval | None = None
    regret: Difference | None = None
    cost: CostRow | None = None

    @property
    def is_grid(self) -> bool:
        """Whether the way to search is a grid that was swept."""
        return self.name not in (DEFAULT, BOUNDARY, ESTIMATE)

    @property
    def words(self) -> str:
        """The way to search, in words."""
        named = {DEFAULT: "default ε", BOUNDARY: "bounds' two ends", ESTIMATE: f"estimate: {self.label}"}
        return named.get(self.name, self.name)


@dataclass(frozen=True)
class EstimateRow:
    """An ε estimated from the probe alone, and what it loses against the swept optimum.

    Attributes:
        name: of the estimate.
        formula: how it is computed.
        epsilon: the optimizer's own ε, not rounded.
        decade: the power of ten nearest to it.
        is_trained: whether that decade is part of a grid.
        learning_rate: the one that is best there; None where nothing can be chosen.
        test: the test metric there; None likewise.
        regret: best swept − there, on test: positive where the estimate loses.
    """

    name: str
    formula: str
    epsilon: float
    decade: float
    is_trained: bool
    learning_rate: float | None
    test: Spread | None
    regret: Difference


@dataclass(frozen=True)
class Costs:
    """What was saved by narrowing.

    Attributes:
        probe_seconds: cost of the probe; None where it has not run.
        shared_trials: trials that belong to both grids; counted in both.
        saved_trials: conventional − narrowed, may be negative; None unless both grids were planned.
        saved_seconds: conventional − narrowed − probe, may be negative; None where that is not known yet.
        unknown: why the seconds are not known; None where they are.
    """

    probe_seconds: float | None
    shared_trials: int
    saved_trials: int | None
    saved_seconds: float | None
    unknown: str | None


@dataclass(frozen=True)
class AdaptiveRow:
    """Share of the measured entries with √v̂ above an ε: those whose step still adapts; the rest move as in SGD.

    Attributes:
        epsilon: the optimizer's own.
        magnitude: what it is in units of √v̂.
        share: of all entries.
        of_moving: of those that are not zero; a zero, as of a word that was never read, adapts at no ε and never moves.
    """

    epsilon: float
    magnitude: float
    share: float
    of_moving: float


@dataclass(frozen=True)
class ObservedRow:
    """What the snapshots of one trial say, from the first to the last.

    Attributes:
        name: whose trial it is: "narrowed" or "default".
        id: of the trial.
        cell: its setting in words.
        seed: as in the spec.
        snapshots: how many were kept.
        first: epochs done at the first; None where not known.
        last: likewise, at the last.
        adaptable_first: share of the entries with √v̂ above the trial's ε at the first, in [0, 1]; None if not kept.
        adaptable_last: likewise, at the last.
        low_moved: decades by which the published rule's lower bound lies above that of the probe at the last snapshot;
            negative below; None where nothing was probed or could be measured.
        high_moved: likewise, the upper bound.
        most_moved: decades by which either bound was farthest from the probe's at any snapshot; None likewise.
    """

    name: str
    id: str
    cell: str
    seed: int
    snapshots: int
    first: float | None
    last: float | None
    adaptable_first: float | None
    adaptable_last: float | None
    low_moved: float | None
    high_moved: float | None
    most_moved: float | None = None


@dataclass(frozen=True)
class TrialNote:
    """A trial that did not end as it should: which cell, which seed, its state, and the error where there is one."""

    id: str
    cell: str
    seed: int
    state: str
    error: str | None


@dataclass(frozen=True)
class Comparison:
    """All that a report says about one experiment.

    Attributes:
        experiment: its name.
        task: name of the task.
        model: name of the model.
        optimizer: name of the optimizer.
        data_description: what the data are, in one line.
        selection: the split that selects: "validation", or "test" in the published protocol.
        metric: None while no trial has a result.
        verdict: does the best ε lie inside the bounds?
        bounds: None where there are none.
        reliability: how far the bounds can be trusted; None where that was not looked at.
        kinds: the bounds of each kind of layer; empty where kinds are not known.
        estimates: ε without a sweep; empty without bounds.
        grids: in the order of the record.
        decades_ratio: decades of the conventional grid per decade of the narrowed one; None unless both were planned.
        best: the best cell of each grid, of the default ε, of the two ends of the bounds and of the point estimates.
        regret: conventional − narrowed: positive where the narrowed grid loses.
        gain_over_default: narrowed − default: positive where the narrowed grid wins.
        confirmed: the winners on fresh seeds; None where that was not asked for.
        costs: trials and seconds.
        adaptive: per swept ε, the share of entries that still adapt.
        observed: what was seen of the gradient magnitudes during training; empty where nothing was kept.
        cells: all cells.
        loose_ends: trials that failed, diverged or have no result.
        notes: what else a reader must know, a sentence each.
        scoring: how scores were computed where their names do not say it, as (what, how).
        provenance: where the numbers come from, as (what, value).
        batches: what is known of other batch sizes; None where nothing is.
        claims: what the experiment says about the paper's claims; filled in together with `observed`.
    """

    experiment: str
    task: str
    model: str
    optimizer: str
    data_description: str
    selection: str
    metric: Metric | None
    verdict: Verdict
    bounds: BoundsRow | None
    reliability: ReliabilityRow | None
    kinds: tuple[KindRow, ...]
    estimates: tuple[EstimateRow, ...]
    grids: tuple[GridRow, ...]
    decades_ratio: float | None
    best: tuple[BestRow, ...]
    regret: Difference
    gain_over_default: Difference
    confirmed: Confirmation | None
    costs: Costs
    adaptive: tuple[AdaptiveRow, ...]
    observed: tuple[ObservedRow, ...]
    cells: tuple[Cell, ...]
    loose_ends: tuple[TrialNote, ...]
    notes: tuple[str, ...]
    scoring: tuple[tuple[str, str], ...]
    provenance: tuple[tuple[str, str], ...]
    batches: BatchesRow | None = None
    claims: tuple[ClaimRow, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as plain JSON values."""
        return codec.to_document(self)

    def grid(self, name: str) -> GridRow | None:
        """Return a grid by its name, or None where it was not swept."""
        return next((row for row in self.grids if row.name == name), None)

    def sweeping(self, epsilon: float) -> tuple[str, ...]:
        """Return the names of the grids that have an ε."""
        return tuple(row.name for row in self.grids if epsilon in row.epsilons)

    def best_of(self, name: str) -> BestRow | None:
        """Return the best row of a name, or None where there is none."""
        return next((row for row in self.best if row.name == name), None)
