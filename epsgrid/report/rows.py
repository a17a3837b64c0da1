"""The rows of a comparison: plain frozen data that turn into JSON as they are.

Metrics stay in their stored unit, fractions where the unit is "%"; what is not known is None, with the reason
beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from epsgrid import codec
from epsgrid.numerics.estimates import PointEstimate
from epsgrid.numerics.magnitudes import Bound, LayerStatistics, high_rank, low_rank
from epsgrid.report.batches import BatchesRow
from epsgrid.report.trust import KindRow, ReliabilityRow
from epsgrid.selection.answers import Answers
from epsgrid.selection.best import BestRow
from epsgrid.selection.cells import Cell, Tally
from epsgrid.selection.formatting import Metric


@dataclass(frozen=True)
class BoundsRow:
    """The measured bounds.

    Attributes:
        decades: powers of ten from end to end.
        tail_fraction: share of the non-zero entries beyond each end, per layer.
        layers: without their histograms.
        skipped: layers that do not count, as (name, status).
    """

    low: Bound
    high: Bound
    decades: tuple[float, ...]
    tail_fraction: float
    placement: str
    layers: tuple[LayerStatistics, ...]
    skipped: tuple[tuple[str, str], ...]

    @property
    def low_is_minimum(self) -> bool:
        """Whether the layer that sets the lower end is so small that its minimum stands in for the percentile."""
        return low_rank(self.low.entries, self.tail_fraction) == 0

    @property
    def high_is_maximum(self) -> bool:
        """Whether the layer that sets the upper end is so small that its maximum stands in for the percentile."""
        return high_rank(self.high.entries, self.tail_fraction) == self.high.entries - 1

    def to_json(self) -> dict[str, Any]:
        """Return the bounds as plain JSON values."""
        document = codec.to_document(self)
        document["low"]["is_extreme"] = self.low_is_minimum
        document["high"]["is_extreme"] = self.high_is_maximum
        for layer in document["layers"]:
            del layer["histogram"]
        return document


@dataclass(frozen=True)
class GridRow:
    """One grid: its ε, rising (none for the ε-free reference), and the number of decades of √v̂ among them."""

    name: str
    epsilons: tuple[float, ...]
    decades: int
    tally: Tally


@dataclass(frozen=True)
class AdaptiveRow:
    """Share of the measured entries with √v̂ above an ε: those whose step still adapts; the rest move as in SGD.

    Attributes:
        epsilon, magnitude: in the optimizer's own ε and in units of √v̂.
        share: of all entries.
        of_moving: of those that are not zero; a zero, as of a word never read, adapts at no ε and never moves.
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
        snapshots: how many were kept.
        first, last: epochs done at the first and the last snapshot; None where not known.
        adaptable_first, adaptable_last: share of the entries with √v̂ above the trial's ε there; None if not kept.
        low_moved, high_moved: decades by which the published rule's bounds lie above those of the probe at the last
            snapshot; negative below; None where nothing was probed or could be measured.
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


@dataclass(frozen=True)
class MovedRow:
    """The training whose bounds moved farthest from the probe's, of `trainings` at the best settings.

    Those count that kept at least two snapshots. `decades` is how far either bound was off at any snapshot; `last` is
    the epoch of the last one, None if not known.
    """

    decades: float
    label: str
    last: float | None
    trainings: int


@dataclass(frozen=True)
class TrialNote:
    """A trial that did not end as it should: which cell, which seed, its state, and the error where there is one."""

    id: str
    cell: str
    seed: int
    state: str
    error: str | None


@dataclass(frozen=True)
class ClaimRow:
    """What a run, or several that were compared, say about a claim: what the answer rests on, or why there is none."""

    claim: str
    statement: str
    answer: Literal["reproduced", "not reproduced", "undecided"]
    numbers: str
    run: str


@dataclass(frozen=True)
class Comparison:
    """All that a report says about one experiment.

    Attributes:
        data_description: what the data are, in one line.
        selection: the split that selects: "validation", or "test" in the published protocol.
        metric: None while no trial has a result.
        reliability: None where that was not looked at.
        kinds: empty where kinds are not known.
        estimates: ε without a sweep; what they lose stands in `answers`.
        decades_ratio: decades of √v̂ of the conventional grid for each of the narrowed one; None unless both exist.
        best: the best setting of each grid and of the default ε.
        probe_seconds: None where it has not run.
        fresh: trials on seeds that no grid has.
        adaptive: one row per swept ε.
        unfinished: trials that failed, diverged or have no result.
        notes: what else a reader must know, a sentence each.
        scoring: how scores were computed where their names do not say it, as (what, how).
        provenance: where the numbers come from, as (what, value).
        most_moved: how far bounds moved in training, at worst.
        is_listed: whether the narrowed grid is a list of ε in the spec, and not made from bounds.
    """

    experiment: str
    task: str
    model: str
    optimizer: str
    data_description: str
    selection: str
    metric: Metric | None
    answers: Answers
    bounds: BoundsRow | None
    reliability: ReliabilityRow | None
    kinds: tuple[KindRow, ...]
    estimates: tuple[PointEstimate, ...]
    grids: tuple[GridRow, ...]
    decades_ratio: float | None
    best: tuple[BestRow, ...]
    probe_seconds: float | None
    fresh: Tally
    adaptive: tuple[AdaptiveRow, ...]
    observed: tuple[ObservedRow, ...]
    cells: tuple[Cell, ...]
    unfinished: tuple[TrialNote, ...]
    notes: tuple[str, ...]
    scoring: tuple[tuple[str, str], ...]
    provenance: tuple[tuple[str, str], ...]
    batches: BatchesRow | None = None
    most_moved: MovedRow | None = None
    claims: tuple[ClaimRow, ...] = ()
    is_listed: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as plain JSON values."""
        bounds = None if self.bounds is None else self.bounds.to_json()
        reliability = None if self.reliability is None else self.reliability.to_json()
        return {**codec.to_document(self), "bounds": bounds, "reliability": reliability}

    def grid(self, name: str) -> GridRow | None:
        """Return a grid by its name, or None where it was not swept."""
        return next((row for row in self.grids if row.name == name), None)

    def best_of(self, name: str) -> BestRow | None:
        """Return the best row of a name, or None where there is none."""
        return next((row for row in self.best if row.name == name), None)
