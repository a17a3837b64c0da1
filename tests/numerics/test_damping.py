"""Damping: against every optimizer's own steps, and from histograms against every entry."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from epsgrid import optimizers, plugins
from epsgrid.numerics import counting
from epsgrid.numerics.damping import NOT_SHORTENED, damping_of, decades_of_fall, largest_harmless, pooled
from epsgrid.numerics.placement import Placement
from tests.numerics.reference import exact_damping

ADAPTIVE = [name for name in plugins.names("optimizers") if optimizers.load(name).DEFAULT_EPSILON]
PLACEMENTS = [
    Placement.outside(),
    Placement.inside(),
    Placement.in_place(0.999),
    Placement.in_place(0.9, outer=1.0),
    Placement.before_correction(0.999, 10),
    Placement.uncorrected(0.99, math.inf),
]


def last_step(name: str, epsilon: float, given: list[torch.Tensor]) -> tuple[torch.Tensor, torch.optim.Optimizer]:
    """Return the last of some steps on gradients that do not depend on the weights, and the optimizer after it."""
    plugin = optimizers.load(name)
    weights = torch.nn.Parameter(torch.zeros_like(given[0]))
    optimizer = plugin.build([weights], plugin.Options(name=name, weight_decay=0.0), 1.0, epsilon)
    for gradient in given:
        before = weights.detach().clone()
        weights.grad = gradient.clone()
        optimizer.step()
    return weights.detach() - before, optimizer


@pytest.mark.parametrize("name", [name for name in ADAPTIVE if name not in ("adadelta", "adamax")])
def test_it_is_by_what_every_optimizer_shortens_its_steps(name):
    """Adadelta's numerator has ε as well, and Adamax' ε is inside a maximum over all steps."""
    steps = 12  # RAdam divides from the sixth on
    generator = torch.Generator().manual_seed(0)
    sizes = 10.0 ** torch.linspace(-6, 1, 64, dtype=torch.float64)
    given = [torch.randn(64, generator=generator, dtype=torch.float64) * sizes for _ in range(steps)]
    plugin = optimizers.load(name)
    placement = plugin.placement(plugin.Options(name=name), steps)
    epsilon = placement.epsilon_from_magnitude(1e-3)
    taken, _ = last_step(name, epsilon, given)
    full, optimizer = last_step(name, placement.epsilon_from_magnitude(1e-14), given)
    (state,) = optimizer.state.values()
    moment = plugin.second_moment(state, optimizer.param_groups[0])
    magnitudes = (moment.values * moment.scale).sqrt()
    factors = placement.damping(magnitudes.numpy(), epsilon)
    assert (taken / full).numpy() == pytest.approx(factors, rel=1e-6)
    assert exact_damping(moment.values, moment.scale, placement, epsilon) == pytest.approx(float(factors.mean()))


@given(
    st.lists(st.floats(-38, 20), min_size=1, max_size=40),
    st.integers(0, 5),
    st.sampled_from(PLACEMENTS),
    st.integers(-20, 2),
    st.sampled_from([1.0, 1.3, 1000.0]),
)
def test_histograms_give_it_within_the_stated_error(exponents, zeros, placement, decade, scale):
    v = torch.cat([10.0 ** torch.tensor(exponents, dtype=torch.float64), torch.zeros(zeros)]).float()
    found = damping_of(counting.count(v, scale), placement, 10.0**decade)
    exact = exact_damping(v, scale, placement, 10.0**decade)
    assert found.moving == len(exponents)
    assert abs(found.mean - exact) <= found.error + 1e-12 and found.error < 0.004
    assert 0 <= found.mean - found.error <= found.mean + found.error <= 1 + 1e-12


def test_what_does_not_move_has_no_damping():
    nothing = torch.tensor([0.0, math.nan, math.inf])
    assert damping_of(counting.count(nothing, 1.0), Placement.outside(), 1e-8) is None
    assert exact_damping(nothing, 1.0, Placement.outside(), 1e-8) is None
    assert largest_harmless([counting.count(nothing, 1.0)], Placement.outside()) is None
    assert decades_of_fall([counting.count(nothing, 1.0)], Placement.outside()) is None
    assert pooled([]) is None


def test_entries_beyond_float32_count_at_its_ends():
    v = torch.tensor([1e-60, 1e60, 1.0], dtype=torch.float64)
    found = damping_of(counting.count(v, 1.0), Placement.outside(), 1.0)
    assert found.mean == pytest.approx((0 + 1 + 0.5) / 3, abs=found.error)
    assert (found.moving, found.adapting) == (3, pytest.approx(1 / 3, abs=1e-9))


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_layers_are_pooled_and_the_largest_harmless_epsilon_is_found(placement):
    layers = [torch.full((100,), 1e-8), torch.full((300,), 1e-6)]
    histograms = [counting.count(v, 1.0) for v in layers]
    epsilon = largest_harmless(histograms, placement)
    means = [exact_damping(torch.cat(layers), 1.0, placement, each) for each in (epsilon, 10 * epsilon)]
    decade_higher = placement.epsilon_of_decade(placement.decade_of(epsilon) + 1)
    assert means[0] >= NOT_SHORTENED
    assert exact_damping(torch.cat(layers), 1.0, placement, decade_higher) < NOT_SHORTENED
    both = pooled(damping_of(each, placement, epsilon) for each in histograms)
    assert (both.moving, both.mean) == (400, pytest.approx(means[0], abs=both.error))


@pytest.mark.parametrize(("placement", "decades"), [(Placement.outside(), 1.91), (Placement.inside(), 1.31)])
def test_steps_of_one_entry_fall_within_known_decades(placement, decades):
    """s/(s + b) and s/√(s² + b²) fall from 0.9 to 0.1 over a factor of 81 and of √(99 · 81/19) in b."""
    one = counting.count(torch.tensor([3e-11]), 1.0)
    assert decades_of_fall([one], placement) == pytest.approx(decades, abs=0.011)
    assert math.log10(81) == pytest.approx(1.908, abs=1e-3)
    assert math.log10(99 * 81 / 19) / 2 == pytest.approx(1.313, abs=1e-3)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_steps_fall_over_as_many_decades_as_an_exact_scan_finds(placement):
    v = 10.0 ** torch.linspace(-16, -6, 50, dtype=torch.float64)
    places = [place / 50 for place in range(-600, 100)]
    exact = [exact_damping(v, 1.0, placement, placement.epsilon_from_magnitude(10**place)) for place in places]
    decades = sum(0.1 < damping <= 0.9 for damping in exact) / 50
    assert decades_of_fall([counting.count(v[:20], 1.0), counting.count(v[20:], 1.0)], placement) == pytest.approx(
        decades, abs=0.04
    )
