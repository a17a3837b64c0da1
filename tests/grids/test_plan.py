from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epsgrid import grids
from epsgrid.grids._plan import Plan, plan
from epsgrid.numerics.placement import Placement
from epsgrid.spec.loading import parse_spec
from epsgrid.spec.model import Spec
from epsgrid.spec.trial import identity, trial_id, trial_identity
from epsgrid.store.records import AddedRate
from tests.grids.samples import bounds_between
from tests.spec.fakes import MINIMAL

BOTH = ("narrowed", "conventional")
BOUNDS = bounds_between(1e-7, 1e-5)
CONVENTIONAL = grids.load("conventional").epsilons(None, Placement.outside())


def spec(*overrides: str) -> Spec:
    return parse_spec(MINIMAL, overrides=("sweep.learning_rates=[1e-3, 1e-2]", "sweep.seeds=[5, 3]", *overrides))


def planned(*names: str, asked: Spec | None = None) -> Plan:
    bounds = BOUNDS if "narrowed" in names else None
    return plan(asked or spec(), "abc", bounds, names, placement=Placement.outside())


def test_grids_share_trials() -> None:
    both = planned(*BOTH)  # the default lies in the conventional grid, and needs none of its own
    assert both.epsilons == {"narrowed": (1e-7, 1e-6, 1e-5), "conventional": CONVENTIONAL}
    assert len(both.trials) == 2 * 13 * 2
    assert len({trial.id for trial in both.trials}) == len(both.trials)
    belongs = {trial.epsilon: trial.grids for trial in both.trials}
    assert belongs[1e-6] == ("narrowed", "conventional")
    assert belongs[1e-8] == ("conventional",)


def test_a_trial_carries_its_identity_and_has_the_same_id_whichever_grid_asks() -> None:
    alone = planned("narrowed").trials
    for trial in alone:
        expected = trial_identity(identity(spec()), "abc", trial.learning_rate, trial.epsilon, trial.seed)
        assert trial.identity == expected
        assert trial.id == trial_id(expected)
    assert {trial.id for trial in alone} < {trial.id for trial in planned(*BOTH).trials}, "1e-8 is in the conventional"


def test_useful_trials_come_first() -> None:
    trials = planned(*BOTH).trials
    assert [trial.seed for trial in trials] == [5] * 26 + [3] * 26, "seeds in the order of the spec"
    first = [(trial.epsilon, trial.learning_rate) for trial in trials[:7]]
    narrowed = list(product((1e-7, 1e-6, 1e-5), (1e-3, 1e-2)))
    assert first == [*narrowed, (1e-10, 1e-3)], "the narrowed grid before the rest, learning rates together"


def test_an_added_rate_belongs_to_every_grid_that_holds_its_epsilon_and_follows_those_of_the_spec() -> None:
    added = (AddedRate(1e-6, 0.1), AddedRate(1e-8, 0.1), AddedRate(1e-6, 1e-2), AddedRate(3e-7, 0.1))
    trials = plan(spec(), "abc", BOUNDS, BOTH, placement=Placement.outside(), added=added).trials
    assert len(trials) == 2 * (13 * 2 + 2)
    assert [trial.seed for trial in trials] == [5] * 28 + [3] * 28
    found = [(trial.epsilon, trial.learning_rate, trial.grids) for trial in trials if trial.seed == 3]
    assert found[2:5] == [(1e-6, rate, ("narrowed", "conventional")) for rate in (1e-3, 1e-2, 0.1)]
    assert (1e-8, 0.1, ("conventional",)) in found


@pytest.mark.parametrize(
    ("names", "default", "count", "of_default"),
    [
        (("narrowed",), 1e-8, 4, ("default",)),  # a grid of its own beside the narrowed one
        (("narrowed",), 1e-6, 3, ("narrowed", "default")),  # inside it, it costs nothing more
        (BOTH, 3e-8, 14, ("default",)),  # between the decades of the conventional one
    ],
)
def test_the_default_is_trained_with_every_grid(
    names: tuple[str, ...], default: float, count: int, of_default: tuple[str, ...]
) -> None:
    found = planned(*names, asked=spec(f"sweep.default_epsilon={default}"))
    assert found.epsilons["narrowed"] == (1e-7, 1e-6, 1e-5) and found.epsilons["default"] == (default,)
    assert len(found.trials) == 2 * count * 2
    assert {trial.grids for trial in found.trials if trial.epsilon == default} == {of_default}


def test_a_list_takes_the_place_of_the_narrowed_grid() -> None:
    asked = spec("sweep.epsilons=[1e-4, 3e-9]")
    listed = plan(asked, "abc", None, BOTH, placement=Placement.outside())
    assert listed.epsilons == {"narrowed": (3e-9, 1e-4), "conventional": CONVENTIONAL}
    assert {trial.grids for trial in listed.trials if trial.epsilon == 1e-4} == {("narrowed", "conventional")}


def test_an_optimizer_without_epsilon_is_the_reference() -> None:
    reference = plan(spec(), "abc", None, BOTH, placement=None)
    assert reference.epsilons == {"reference": ()}
    points = [(trial.seed, trial.learning_rate, trial.epsilon, trial.grids) for trial in reference.trials]
    assert points == [(seed, rate, None, ("reference",)) for seed in (5, 3) for rate in (1e-3, 1e-2)]


def test_an_extended_sweep_keeps_the_trials_it_had() -> None:
    small = planned(*BOTH)
    large = planned(*BOTH, asked=spec("sweep.seeds=[5, 3, 9]", "sweep.learning_rates=[1e-3, 1e-2, 1]"))
    assert {trial.id for trial in small.trials} < {trial.id for trial in large.trials}
    assert len(large.trials) == 3 * 13 * 3


@given(
    st.lists(st.integers(0, 99), min_size=1, max_size=3, unique=True),
    st.lists(st.sampled_from([1e-4, 1e-3, 1e-2, 0.1]), min_size=1, max_size=3, unique=True),
    st.sampled_from([("narrowed",), ("conventional",), BOTH]),
)
def test_every_point_of_every_grid_is_planned_once(
    seeds: list[int], rates: list[float], names: tuple[str, ...]
) -> None:
    asked = spec(f"sweep.seeds={seeds}", f"sweep.learning_rates={rates}")
    result = planned(*names, asked=asked)
    got = {(trial.seed, trial.learning_rate, trial.epsilon, grid) for trial in result.trials for grid in trial.grids}
    wanted = {
        (seed, rate, epsilon, grid)
        for grid, epsilons in result.epsilons.items()
        for seed, rate, epsilon in product(seeds, rates, epsilons)
    }
    assert got == wanted
    assert len({trial.id for trial in result.trials}) == len(result.trials)
