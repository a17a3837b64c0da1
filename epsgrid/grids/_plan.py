"""Make the plan of a sweep: from a spec, its data and the bounds to all trials.

A point that two grids ask for is trained once. Useful results come early: all points of the first seed before any of
the second; within a seed the grids as they were named; within a grid ε rises, and at each ε all learning rates come in
the order of the spec, then those that were added there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from epsgrid import grids
from epsgrid.errors import SpecError
from epsgrid.grids import DEFAULT, NARROWED, REFERENCE
from epsgrid.grids._rates import EffectiveRates
from epsgrid.numerics.precision import power
from epsgrid.spec.model import Spec
from epsgrid.spec.trial import Trial, identity, trial_identity
from epsgrid.store.records import AddedRate

if TYPE_CHECKING:
    from epsgrid.numerics.bounds import EpsilonBounds
    from epsgrid.numerics.placement import Placement


@dataclass(frozen=True)
class Plan:
    """The ε of each grid, rising (none without ε), and every distinct trial once, in the order of training."""

    epsilons: Mapping[str, tuple[float, ...]]
    trials: tuple[Trial, ...]


def plan(
    spec: Spec,
    data_checksum: str,
    bounds: EpsilonBounds | None,
    names: Sequence[str],
    *,
    placement: Placement | None,
    rates: EffectiveRates | None = None,
    added: Sequence[AddedRate] = (),
    parameters: str = "",
) -> Plan:
    """Return all trials that the grids ask for, each distinct one once.

    Where the conventional grid with the spec's default ε in it is not asked for, that ε forms a grid of its own,
    "default", so that there is always something to compare with. An optimizer without ε has one grid, "reference":
    its learning rates and seeds.

    Args:
        spec: what to train.
        data_checksum: sha256 of the prepared data.
        bounds: measured for this spec; None where no grid needs them.
        names: the grids asked for; a list of ε in the spec takes the place of the narrowed one.
        placement: where the optimizer adds its ε; None where it has none.
        rates: the learning rates to train with in place of those of the spec; None keeps these.
        added: learning rates beyond those of the spec, each at its ε.
        parameters: see `epsgrid.spec.trial.identity`.

    Raises SpecError where two learning rates become the same one.
    """
    asked: dict[str, tuple[float | None, ...]] = {REFERENCE: (None,)}
    if placement is not None:
        own = spec.sweep.epsilons
        asked = {
            name: tuple(sorted(own)) if own and name == NARROWED else grids.load(name).epsilons(bounds, placement)
            for name in names
        }
        if spec.sweep.default_epsilon not in asked.get("conventional", ()):
            asked[DEFAULT] = (spec.sweep.default_epsilon,)
    belongs_to: dict[tuple[int, float | None, float], tuple[str, ...]] = {}
    for seed in spec.sweep.seeds:
        for name, epsilons in asked.items():
            for epsilon in epsilons:
                more = (each.learning_rate for each in added if each.epsilon == epsilon)
                for rate in dict.fromkeys((*spec.sweep.learning_rates, *more)):
                    point = seed, epsilon, rate
                    belongs_to[point] = (*belongs_to.get(point, ()), name)
    common = identity(spec, parameters)
    trials: dict[str, Trial] = {}
    for (seed, epsilon, grid_rate), of_grids in belongs_to.items():
        learning_rate = grid_rate if rates is None else rates.trained(grid_rate, epsilon)
        trial = Trial.of(trial_identity(common, data_checksum, learning_rate, epsilon, seed), of_grids, grid_rate)
        same = trials.setdefault(trial.id, trial)
        if same is not trial:
            at = "" if epsilon is None else f" at ε = {power(epsilon)}"
            raise SpecError(
                f"sweep.learning_rates: with lr_mode: effective, which rounds to three digits,"
                f" {power(same.grid_rate, 6)} and {power(grid_rate, 6)} both become {power(learning_rate)}{at};"
                " leave one out"
            )
    shown = {name: tuple(value for value in values if value is not None) for name, values in asked.items()}
    return Plan(shown, tuple(trials.values()))
