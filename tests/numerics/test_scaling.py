"""The square-root rule: exact values, its limits, and that it leaves the equations' constants alone."""

import math
from collections.abc import Sequence
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epsgrid.errors import ScalingError
from epsgrid.numerics import scaling
from epsgrid.numerics.scaling import RULES

BATCHES = st.integers(1, 4096)
RATES = st.floats(1e-7, 10)
DECAYS = st.floats(0, 1, exclude_max=True).map(lambda beta: round(beta, 6)).filter(lambda beta: beta < 1)
PLACES = st.sampled_from(["outside", "inside", "in place"])
ROUNDED = 4 * 2.0**-52
"""Each result is rounded once; two in a row, and the repr's decimal in between, stay within this."""


def test_the_published_rule_on_round_numbers_is_exact():
    assert scaling.scaled_learning_rate(1e-3, 4) == 2e-3
    assert scaling.scaled_learning_rate(3e-4, Fraction(1, 9)) == 1e-4
    assert [scaling.scaled_decay(beta, 4) for beta in (0.9, 0.98, 0.999)] == [0.6, 0.92, 0.996]
    assert scaling.scaled_epsilon(1e-8, 4) == 5e-9
    assert scaling.scaled_decay(0.9, 10) == 0.0


def test_the_other_rules_leave_decays_and_epsilon_alone():
    for rule in ("linear", "none"):
        assert scaling.scaled_decay(0.9, 64, rule) == 0.9
    for rule in ("sqrt-keep-epsilon", "linear", "none"):
        assert scaling.scaled_epsilon(1e-8, 64, rule) == 1e-8
    assert [scaling.scaled_learning_rate(1e-3, 16, rule) for rule in RULES] == [4e-3, 4e-3, 16e-3, 1e-3]


def test_the_half_life_form_has_no_end_and_keeps_the_floor_of_an_epsilon_in_place():
    beta = scaling.scaled_decay(0.9, 64, half_life=True)
    assert beta == pytest.approx(0.9**64)
    assert math.log(0.5, 0.9) / 64 == pytest.approx(math.log(0.5, beta))
    epsilon = scaling.scaled_epsilon(1e-8, 64, place="in place", decay=0.9, half_life=True)
    assert epsilon / (1 - beta) == pytest.approx(1e-8 / (1 - 0.9) / 64)
    assert scaling.scaled_decay(0.0, 64, half_life=True) == 0.0


@pytest.mark.parametrize(
    ("beta", "kappa", "words"),
    [
        (0.9, 16, r"κ = 16 .* decay of 0.9: κ·\(1 − β\) = 1.6 is more than 1.* the largest κ is 10"),
        (0.9, Fraction(641, 64), r"κ = 10.0156 .* the largest κ is 10"),
        (0.0, 2, r"the largest κ is 1"),
        (0.9, 0, "must be positive and finite, got 0"),
        (0.9, math.inf, "must be positive and finite, got inf"),
    ],
)
def test_what_the_rule_cannot_do_is_told(beta, kappa, words):
    with pytest.raises(ScalingError, match=words):
        scaling.scaled_decay(beta, kappa)


@given(RATES, DECAYS, BATCHES, BATCHES, PLACES)
def test_down_and_up_again_is_the_identity(value, beta, base, batch, place):
    down = Fraction(min(base, batch), max(base, batch))
    assert_close(scaling.scaled_learning_rate(scaling.scaled_learning_rate(value, down), 1 / down), value)
    there = scaling.scaled_epsilon(value, down, place=place)
    assert_close(scaling.scaled_epsilon(there, 1 / down, place=place), value)
    # A decay near 1 is off by 2⁻⁵³ at most on the way down, and by 1/down times that on the way up.
    assert abs(scaling.scaled_decay(scaling.scaled_decay(beta, down), 1 / down) - beta) <= 2.0**-52 / down


def constants(rate: float, decays: Sequence[float], epsilon: float, noise: float) -> tuple[float, float, list[float]]:
    """σ₀ = σ·η, ε₀ = ε·η and cᵢ = (1 − βᵢ)/η², each rounded once."""
    eta, sigma, eps = map(scaling.exactly, (rate, noise, epsilon))
    return float(sigma * eta), float(eps * eta), [float((1 - scaling.exactly(beta)) / eta**2) for beta in decays]


@given(RATES, DECAYS, DECAYS, RATES, RATES, BATCHES, BATCHES)
def test_the_constants_of_the_equations_stay(rate, beta1, beta2, epsilon, noise, base, batch):
    kappa = Fraction(min(base, batch), max(base, batch))
    before = constants(rate, (beta1, beta2), epsilon, noise)
    after = constants(
        scaling.scaled_learning_rate(rate, kappa),
        [scaling.scaled_decay(beta, kappa) for beta in (beta1, beta2)],
        scaling.scaled_epsilon(epsilon, kappa),
        scaling.scaled_magnitude(noise, kappa),
    )
    assert_close(after[0], before[0])
    assert_close(after[1], before[1])
    for scaled, stays, beta in zip(after[2], before[2], (beta1, beta2), strict=True):
        # c = (1 − β)/η², and β near 1 keeps 1 − β to 2⁻⁵³ only.
        lost = 2.0**-52 / float(kappa * (1 - scaling.exactly(beta)))
        assert scaled == pytest.approx(stays, rel=ROUNDED + lost)


@given(st.integers(1, 10**6), BATCHES, BATCHES)
def test_counts_of_steps_are_kept_in_epochs(steps, base, batch):
    kappa = Fraction(batch, base)
    scaled = scaling.scaled_steps(steps, kappa)
    assert isinstance(scaled, int) and scaled >= 1
    assert abs(scaled - steps / kappa) <= Fraction(1, 2) or scaled == 1


def assert_close(value: float, expected: float) -> None:
    assert value == pytest.approx(expected, rel=ROUNDED, abs=0)
