"""From a spec, its data and the bounds to all trials of a sweep.

The grids share trials: a point that two of them ask for is trained once. Trials are ordered so that what is useful
comes early. All points of the first seed come before any of the second, so a sweep that is stopped holds a complete,
if noisy, picture; within a seed the grids follow each other as they were named, the narrowed one first where both are
asked for; within a grid ε rises, and at each ε all learning rates come in the order of the spec.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from epsgrid import grids
from epsgrid.errors import SpecError
from epsgrid.grids._rates import EffectiveRates
from epsgrid.numerics.bounds import EpsilonBounds
from epsgrid.spec.model import Spec
from epsgrid.spec.trial import Trial, at_point, identity

DEFAULT = "default"
REFERENCE = "reference"

_Point = tuple[int, float | None, float]


@dataclass(frozen=True)
class Plan:
    """What a sweep trains.

    Attributes:
        epsilons: the ε values of each grid, rising; empty for the reference of an optimizer without ε.
        trials: every distinct trial once, in the order in which they are to be trained.
    """

    epsilons: Mapping[str, tuple[float, ...]]
    trials: tuple[Trial, ...]


def plan(
    spec: Spec,
    data_checksum: str,
    bounds: EpsilonBounds | None,
    names: Sequence[str],
    *,
    has_epsilon: bool,
    rates: EffectiveRates | None = None,
) -> Plan:
    """Return all trials that the grids ask for, each distinct one once.

    Where the conventional grid with the spec's default ε in it is not asked for, that ε forms a grid of its own,
    "default", so that there is always something to compare with. An optimizer without ε has one grid, "reference":
    its learning rates and seeds.

    Args:
        spec: what to train.
        data_checksum: sha256 of the prepared data.
        bounds: measured for this spec; None where no grid needs them.
        names: the grids asked for; not looked at where the optimizer has no ε.
        has_epsilon: whether the spec's optimizer has an ε.
        rates: turn the learning rates of the spec into those to train with; None leaves them.

    Raises:
        SpecError: two learning rates become the same one.
    """
    asked = _asked(spec.sweep.default_epsilon, bounds, names) if has_epsilon else {REFERENCE: (None,)}
    common = identity(spec)
    trials = tuple(
        _trial(common, data_checksum, point, belongs_to, rates) for point, belongs_to in _points(spec, asked).items()
    )
    _require_distinct(trials)
    shown = {name: tuple(value for value in values if value is not None) for name, values in asked.items()}
    return Plan(shown, trials)


def _asked(
    default: float, bounds: EpsilonBounds | None, names: Sequence[str]
) -> Mapping[str, tuple[float | None, ...]]:
    """Return the ε values of each grid."""
    asked: dict[str, tuple[float | None, ...]] = {name: grids.load(name).epsilons(bounds) for name in names}
    return asked if default in asked.get("conventional", ()) else {**asked, DEFAULT: (default,)}


def _points(spec: Spec, asked: Mapping[str, tuple[float | None, ...]]) -> Mapping[_Point, tuple[str, ...]]:
    """Return the grids of each point, the points in the order of training."""
    points: dict[_Point, tuple[str, ...]] = {}
    for name, point in _in_order(spec, asked):
        points[point] = (*points.get(point, ()), name)
    return points


def _in_order(spec: Spec, asked: Mapping[str, tuple[float | None, ...]]) -> Iterator[tuple[str, _Point]]:
    for seed in spec.sweep.seeds:
        for name, epsilons in asked.items():
            for epsilon in epsilons:
                for learning_rate in spec.sweep.learning_rates:
                    yield name, (seed, epsilon, learning_rate)


def _trial(
    common: Mapping[str, Any],
    data_checksum: str,
    point: _Point,
    belongs_to: tuple[str, ...],
    rates: EffectiveRates | None,
) -> Trial:
    seed, epsilon, grid_rate = point
    learning_rate = grid_rate if rates is None else rates.trained(grid_rate, epsilon)
    return Trial.of(at_point(common, data_checksum, learning_rate, epsilon, seed), belongs_to, grid_rate)


def _require_distinct(trials: Sequence[Trial]) -> None:
    by_id: dict[str, Trial] = {}
    for trial in trials:
        same = by_id.setdefault(trial.id, trial)
        if same is not trial:
            raise SpecError(
                f"sweep.learning_rates: with lr_mode: effective, which rounds to three digits, {same.grid_rate:g} and"
                f" {trial.grid_rate:g} both become {trial.learning_rate:g} at ε = {trial.epsilon:g}; leave one out"
            )
