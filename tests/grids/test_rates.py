"""Effective learning rates: a step lowers the loss as much as with an ε of next to nothing."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from epsgrid.errors import NoBoundsError, SpecError
from epsgrid.grids._plan import plan
from epsgrid.grids._rates import EffectiveRates
from epsgrid.numerics.bounds import estimate_bounds
from epsgrid.numerics.placement import Placement
from epsgrid.spec.loading import parse_spec
from epsgrid.store.records import AddedRate
from tests.grids.samples import bounds_between
from tests.report.simulate import layer, two_layers
from tests.spec.fakes import MINIMAL

BOUNDS = estimate_bounds(two_layers(), Placement.outside())
FIXED = parse_spec(MINIMAL, overrides=("sweep.learning_rates=[1e-3, 1e-2]", "sweep.seeds=[0]"))


def planned(rates: EffectiveRates | None, *overrides: str):
    spec = parse_spec(MINIMAL, overrides=("sweep.learning_rates=[1e-3, 1e-2]", "sweep.seeds=[0]", *overrides))
    return plan(spec, "abc", None, ("conventional",), placement=Placement.outside(), rates=rates).trials


def rates_of(*entries: tuple[float, int]) -> EffectiveRates:
    """The rates of layers with so many entries of one magnitude."""
    magnitudes, counts = np.array(entries).T
    return EffectiveRates(magnitudes, magnitudes * counts, Placement.outside())


ONE = rates_of((1e-3, 100))


@pytest.mark.parametrize(
    ("placement", "damping"),
    [
        (Placement.outside(), lambda s, epsilon: s / (s + epsilon)),
        (Placement.inside(), lambda s, epsilon: s / math.sqrt(s * s + epsilon)),
        (Placement.in_place(0.999), lambda s, epsilon: s / math.sqrt(s * s + epsilon / 0.001)),
    ],
)
def test_a_step_lowers_the_loss_as_much_whatever_the_epsilon(placement, damping) -> None:
    """Entry by entry, of the sample whose magnitudes are known."""
    entries = np.concatenate([10 ** np.linspace(-4, -2.4, 5000), 10 ** np.linspace(-2.3, -2.0, 10)])
    for trial in planned(EffectiveRates.of(BOUNDS, placement)):
        decrease = math.fsum(s * trial.learning_rate * damping(s, trial.epsilon) for s in entries)
        assert decrease == pytest.approx(trial.grid_rate * math.fsum(entries), rel=0.012), "bins, three digits"
        assert trial.learning_rate == float(f"{trial.learning_rate:.2e}") == trial.identity["learning_rate"]
    assert {trial.grid_rate for trial in planned(ONE)} == {1e-3, 1e-2}


def test_entries_that_hardly_move_have_no_say() -> None:
    """As in an embedding: of the median entry the rate would be a thousand times higher."""
    most_still = rates_of((1e-8, 10_000), (1e-3, 100))
    for epsilon in (1e-8, 1e-6, 1e-5, 1e-3, 1.0):
        assert most_still.trained(0.01, epsilon) == pytest.approx(ONE.trained(0.01, epsilon), rel=0.01)


def test_small_epsilons_share_their_trials_with_the_fixed_mode() -> None:
    fixed, effective = planned(None), planned(EffectiveRates.of(BOUNDS, Placement.outside()))
    shared = {trial.id for trial in fixed} & {trial.id for trial in effective}
    assert {trial.epsilon for trial in fixed if trial.id in shared} == {1e-10, 1e-9, 1e-8, 1e-7, 1e-6}
    assert all(trial.learning_rate == trial.grid_rate for trial in fixed)


def test_a_probe_measured_again_gives_the_same_trials() -> None:
    one, other = (rates_of((magnitude, 9)) for magnitude in (6.3e-4, 6.3e-4 * (1 + 1e-9)))
    assert [trial.id for trial in planned(one)] == [trial.id for trial in planned(other)]


def test_all_digits_of_a_learning_rate_stay_where_epsilon_does_not_matter() -> None:
    assert ONE.trained(0.0012345, 1e-8) == 0.0012345
    assert ONE.trained(0.0012345, 1e-3) == 0.00247
    assert ONE.trained(0.0012345, None) == 0.0012345


@given(st.floats(1e-6, 1.0), st.floats(1e-12, 1e3), st.floats(1e-12, 1e3))
def test_a_larger_epsilon_never_has_a_smaller_rate(rate: float, one: float, other: float) -> None:
    small, large = sorted((one, other))
    assert ONE.trained(rate, small) <= ONE.trained(rate, large) * 1.01, "but for rounding"


def test_an_added_rate_is_one_of_the_spec_scaled_as_those_are() -> None:
    rates, added = EffectiveRates.of(BOUNDS, Placement.outside()), (AddedRate(1e-2, 0.1),)
    trials = plan(FIXED, "abc", None, ("conventional",), placement=Placement.outside(), rates=rates, added=added).trials
    (found,) = [trial for trial in trials if trial.grid_rate == 0.1]
    assert (found.epsilon, found.learning_rate) == (1e-2, rates.trained(0.1, 1e-2))
    assert len(trials) == len(planned(rates)) + 1


def test_rates_that_rounding_makes_equal_are_told() -> None:
    with pytest.raises(SpecError, match=r"2\.001e-2 and 2\.002e-2 both become 2\.02e-2 at ε = 1e-5"):
        planned(ONE, "sweep.learning_rates=[0.02001, 0.02002]")
    assert len(planned(None, "sweep.learning_rates=[0.02001, 0.02002]")) == 26


def test_only_measured_layers_have_a_say() -> None:
    dead = layer("dead", (30, 30), -3, zero_share=1.0)
    with_dead = EffectiveRates.of(estimate_bounds([*two_layers(), dead], Placement.outside()), Placement.outside())
    assert with_dead.gradients.sum() == EffectiveRates.of(BOUNDS, Placement.outside()).gradients.sum()
    with pytest.raises(NoBoundsError, match="no layer was measured"):
        EffectiveRates.of(bounds_between(1e-7, 1e-5), Placement.outside())
