"""The rows of a difference between two experiments: plain frozen data that turn into JSON as they are.

What is not there is None; A is the first experiment, B the second.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from epsgrid.report.verdict import Difference
from epsgrid.report.words import Metric

Matters = Literal["numbers of a trial", "bounds", "which trials", "what is kept", "where it runs", "nothing"]
"""What a field of the spec matters to."""


@dataclass(frozen=True)
class Change:
    """Something that differs.

    Attributes:
        what: such as "training.epochs".
        a: its value in the first experiment, a plain JSON value; None where there is none.
        b: likewise, in the second.
    """

    what: str
    a: Any
    b: Any


@dataclass(frozen=True)
class SpecChange:
    """A field of the spec that differs; `matters` says to what. Values as in `Change`."""

    what: str
    a: Any
    b: Any
    matters: Matters


@dataclass(frozen=True)
class BoundChange:
    """One end of the bounds in both experiments.

    Attributes:
        end: "low" or "high".
        magnitude_a: in √v̂ units; None without bounds. `_b`: in the second experiment, here as below.
        epsilon_a: as an ε of the optimizer, not rounded.
        decade_a: the power of ten that the grid uses.
        layers_a: the layers that set it.
        moved: decades from the first magnitude to the second; None where one is missing.
    """

    end: str
    magnitude_a: float | None
    magnitude_b: float | None
    epsilon_a: float | None
    epsilon_b: float | None
    decade_a: float | None
    decade_b: float | None
    layers_a: tuple[str, ...]
    layers_b: tuple[str, ...]
    moved: float | None


@dataclass(frozen=True)
class LayerMove:
    """A layer whose order statistics moved: decades from the first experiment to the second, positive upwards."""

    name: str
    low: float
    high: float

    @property
    def most(self) -> float:
        """The larger of the two moves, without its sign."""
        return max(abs(self.low), abs(self.high))


@dataclass(frozen=True)
class LayerChanges:
    """The layers of both experiments.

    Attributes:
        common: number of layers measured in both, by name.
        moves: those of them that moved most, the greatest move first.
        only_a: layers measured in the first alone.
        only_b: likewise, of the second.
    """

    common: int
    moves: tuple[LayerMove, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]

    @property
    def all(self) -> tuple[Any, ...]:
        """Every change in one row."""
        return (*self.moves, *self.only_a, *self.only_b)


@dataclass(frozen=True)
class WinnerChange:
    """The best setting of one way to search in both experiments.

    Attributes:
        name: such as "narrowed".
        a: the chosen cell in words; None where none can be chosen.
        b: likewise.
        test_a: its mean test metric, in the stored unit; None where it has none.
        test_b: likewise.
        difference: second − first in the metric's good direction, over the seeds that both have.
        changed: another cell, or another mean.
    """

    name: str
    a: str | None
    b: str | None
    test_a: float | None
    test_b: float | None
    difference: Difference
    changed: bool


@dataclass(frozen=True)
class CostChange:
    """What something took in both experiments; None where it is not known."""

    what: str
    trials_a: int | None
    trials_b: int | None
    seconds_a: float | None
    seconds_b: float | None


@dataclass(frozen=True)
class Diff:
    """All that differs between two experiments.

    Attributes:
        a: folder of the first.
        b: folder of the second.
        metric: what they are judged by; None while that is not known, or where it is not the same.
        spec: the fields that differ, defaults filled in.
        data: of the prepared data.
        environment: of what measured and trained.
        progress: how far they are.
        bounds: the two ends; empty where neither was probed, or they are the same.
        trust: verdict, steps and the like, where they differ.
        layers: None unless both were probed.
        winners: of each way to search that either has.
        costs: of the probe and each grid.
        notes: what a reader must know, a sentence each without full stop.
    """

    a: str
    b: str
    metric: Metric | None
    spec: tuple[SpecChange, ...]
    data: tuple[Change, ...]
    environment: tuple[Change, ...]
    progress: tuple[Change, ...]
    bounds: tuple[BoundChange, ...]
    trust: tuple[Change, ...]
    layers: LayerChanges | None
    winners: tuple[WinnerChange, ...]
    costs: tuple[CostChange, ...]
    notes: tuple[str, ...]

    @property
    def differing(self) -> tuple[str, ...]:
        """The parts in which the two differ; costs are none of them."""
        found = {
            "spec": self.spec,
            "data": self.data,
            "environment": self.environment,
            "progress": self.progress,
            "bounds": (*self.bounds, *self.trust, *(self.layers.all if self.layers else ())),
            "winners": [winner for winner in self.winners if winner.changed],
        }
        return tuple(name for name, part in found.items() if part)
