"""Other frameworks' placements against their update rules, each written out for an entry without gradient."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from epsgrid.numerics.frameworks import FRAMEWORKS
from epsgrid.numerics.placement import Placement, convert


def before_correction(epsilon: float, beta2: float, t: int) -> float:
    """Keras, tf_keras and fairseq: lr·√(1 − β₂ᵗ)/(1 − β₁ᵗ) · m / (√v + ε), so m̂ is divided by this at v = 0."""
    return (math.sqrt(0.0) + epsilon) / math.sqrt(1 - beta2**t)


def outside(epsilon: float, beta2: float, t: int) -> float:
    return math.sqrt(0.0 / (1 - beta2**t)) + epsilon


def inside(epsilon: float, beta2: float, t: int) -> float:
    return math.sqrt(0.0 + epsilon)


def in_place(epsilon: float, beta2: float, t: int) -> float:
    """Follow optax's scale_by_belief: nu = β₂·nu + (1 − β₂)·error² + eps_root, then the bias correction."""
    nu = 0.0
    for _ in range(t):
        nu = beta2 * nu + epsilon
    return math.sqrt(nu / (1 - beta2**t))


RULES: dict[str, Callable[[float, float, int], float]] = {
    "fairseq-adam": before_correction,
    "keras-adadelta": inside,
    "keras-adagrad": inside,
    "keras-adam": before_correction,
    "keras-adamax": outside,
    "keras-lamb": outside,
    "keras-nadam": outside,
    "keras-rmsprop": inside,
    "optax-adabelief": outside,
    "optax-adabelief-eps-root": in_place,
    "optax-adadelta": inside,
    "optax-adagrad": inside,
    "optax-adam": outside,
    "optax-adam-eps-root": inside,
    "optax-adamax": outside,
    "optax-radam": outside,
    "optax-rmsprop": inside,
    "tf-keras-adam": before_correction,
}


@pytest.mark.parametrize("name", FRAMEWORKS)
@pytest.mark.parametrize("step", [1, 391])
def test_epsilon_weighs_what_the_rule_makes_of_it(name: str, step: int) -> None:
    placement = FRAMEWORKS[name].place(0.99, step)
    assert placement.magnitude_from_epsilon(1e-6) == pytest.approx(RULES[name](1e-6, 0.99, step), rel=1e-9)


def test_every_variant_has_a_rule_here() -> None:
    assert set(RULES) == set(FRAMEWORKS)


def test_keras_and_torch_agree_in_the_long_run_only() -> None:
    def keras(step: float) -> Placement:
        return FRAMEWORKS["keras-adam"].place(0.999, step)

    assert convert(1e-7, keras(math.inf), Placement.outside()) == 1e-7
    assert convert(1e-7, keras(1), Placement.outside()) == pytest.approx(1e-7 * 31.62, rel=1e-3)


def test_an_uncorrected_rmsprop_is_converted_at_a_step() -> None:
    """Keras: ε beside v inside the root; at step 1 v is 1 − ρ of a squared gradient."""
    target = FRAMEWORKS["keras-rmsprop"].place(0.9, 1)
    assert convert(1e-4, Placement.outside(), target) == pytest.approx(1e-8 * 0.1)


def test_defaults_are_the_published_ones() -> None:
    assert FRAMEWORKS["keras-adam"].default_epsilon == 1e-7
    assert FRAMEWORKS["optax-adabelief"].default_epsilon == 1e-16
    assert FRAMEWORKS["keras-rmsprop"].default_beta2 == 0.9
