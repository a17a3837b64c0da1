from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epsgrid.numerics.placement import FRAMEWORKS, OutOfRangeError, Placement, convert

INSIDE = Placement.inside()
PLACEMENTS = [
    Placement.outside(),
    Placement.inside(),
    Placement.in_place(0.999),
    Placement.in_place(0.0),
    Placement.in_place(0.999, outer=1.0),
    Placement.in_place(0.9, outer=30.0),
    Placement.before_correction(0.999, 391),
    Placement.uncorrected(0.9, 3),
]


@pytest.mark.parametrize(
    ("placement", "epsilon", "magnitude"),
    [
        (Placement.outside(), 1e-3, 1e-3),
        (Placement.inside(), 1e-6, 1e-3),
        (Placement.in_place(0.999), 1e-9, 1e-3),
        (Placement.in_place(0.999, outer=1.0), 1e-8, math.sqrt(1e-5) + 1e-8),
        (Placement.in_place(0.999, outer=1.0), 1e6, math.sqrt(1e9) + 1e6),
        (Placement.before_correction(0.999, 1), 1e-8, 1e-8 / math.sqrt(0.001)),
        (Placement.before_correction(0.999, math.inf), 1e-8, 1e-8),
    ],
)
def test_an_epsilon_weighs_as_much_as_a_magnitude(placement: Placement, epsilon: float, magnitude: float) -> None:
    assert placement.magnitude_from_epsilon(epsilon) == pytest.approx(magnitude, rel=1e-12)


@pytest.mark.parametrize("placement", PLACEMENTS, ids=lambda placement: placement.description)
@given(st.floats(1e-30, 1e10))
def test_conversion_is_undone_by_its_inverse(placement: Placement, magnitude: float) -> None:
    epsilon = placement.epsilon_from_magnitude(magnitude)
    assert placement.magnitude_from_epsilon(epsilon) == pytest.approx(magnitude, rel=1e-12)


def test_placements_explain_themselves() -> None:
    assert [placement.description for placement in PLACEMENTS[:3]] == [
        "outside the root: √v̂ + ε",
        "inside the root: √(v̂ + ε)",
        "added to v in place: √v̂, v ← v + ε",
    ]
    assert [placement.conversion for placement in PLACEMENTS[:3]] == ["ε = b", "ε = b²", "ε = 0.001 · b²"]
    assert [placement.formula for placement in PLACEMENTS[:3]] == ["ε = b", "ε = b²", "ε = (1 − β₂) · b²"]
    assert PLACEMENTS[4].description == "added to v in place and outside the root: √v̂ + ε, v ← v + ε"
    assert PLACEMENTS[4].formula == "ε ≈ (1 − β₂) · b²"
    assert PLACEMENTS[6].conversion == "ε = 0.569 · b"
    assert PLACEMENTS[6].formula == "ε = √(1 − β₂ᵗ) · b"


def test_an_uncorrected_moment_is_compared_at_a_step() -> None:
    """At step 1 √v is √(1 − β₂) of the gradient, and so must be the ε that is to weigh the same beside it."""
    early, late = (Placement.uncorrected(0.999, step) for step in (1, math.inf))
    assert convert(1e-8, Placement.outside(), early) == pytest.approx(1e-8 * math.sqrt(0.001))
    assert convert(1e-8, Placement.outside(), late) == 1e-8
    assert convert(1e-8, early, Placement.before_correction(0.999, 1)) == pytest.approx(1e-8)


@pytest.mark.parametrize("target", PLACEMENTS, ids=lambda placement: placement.description)
def test_converting_there_and_back_changes_nothing(target: Placement) -> None:
    source = Placement.before_correction(0.9, 7)
    assert convert(convert(1e-5, source, target), target, source) == pytest.approx(1e-5, rel=1e-9)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        *((lambda b=b: Placement.in_place(b), r"beta2 must lie in \[0, 1\)") for b in (-0.1, 1, math.nan)),
        (lambda: Placement.uncorrected(1.0, 1), r"beta2 must lie in \[0, 1\)"),
        *((lambda t=t: Placement.before_correction(0.9, t), "step must be at least 1, got") for t in (0, math.nan)),
        *((lambda e=e: convert(e, INSIDE, INSIDE), "epsilon must be positive and finite") for e in (0.0, -1, math.inf)),
        (lambda: convert(1e-8, INSIDE, FRAMEWORKS["keras-adagrad"][1](0.9, math.inf)), "√Σg² grows with every step"),
    ],
)
def test_what_is_out_of_range_is_refused(act: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        act()


@pytest.mark.parametrize("epsilon", [1e-200, 1e308])
def test_what_no_float_can_hold_is_refused(epsilon: float) -> None:
    """A square that underflows was given out as an ε of 0, one that overflows as infinity or NaN."""
    for target in (Placement.inside(), Placement.in_place(0.999, outer=1.0), Placement.in_place(0.999)):
        with pytest.raises(OutOfRangeError, match=r"outside the root: .* has no counterpart .* double precision"):
            convert(epsilon, Placement.outside(), target)


def before_correction(epsilon: float, beta2: float, t: int) -> float:
    """Keras, tf_keras and fairseq: lr·√(1 − β₂ᵗ)/(1 − β₁ᵗ) · m / (√v + ε), so m̂ is divided by this at v = 0."""
    return epsilon / math.sqrt(1 - beta2**t)


def in_place(epsilon: float, beta2: float, t: int) -> float:
    """Follow optax's scale_by_belief: nu = β₂·nu + (1 − β₂)·error² + eps_root, then the bias correction."""
    nu = 0.0
    for _ in range(t):
        nu = beta2 * nu + epsilon
    return math.sqrt(nu / (1 - beta2**t))


def outside(epsilon: float, beta2: float, t: int) -> float:
    return epsilon


def inside(epsilon: float, beta2: float, t: int) -> float:
    return math.sqrt(epsilon)


def from_one(epsilon: float, beta2: float, t: int) -> float:
    """TensorFlow 1 and timm's RMSpropTF: v = 1 before the first step, and √(v + ε) divides; here under no gradients."""
    v = 1.0
    for _ in range(t):
        v *= beta2
    return math.sqrt(v + epsilon)


RULES: dict[str, Callable[[float, float, int], float]] = {
    **dict.fromkeys(("fairseq-adam", "keras-adam", "tf-keras-adam", "tf1-adam"), before_correction),
    **dict.fromkeys(("keras-adadelta", "keras-adagrad", "keras-rmsprop"), inside),
    **dict.fromkeys(("optax-adadelta", "optax-adagrad", "optax-adam-eps-root", "optax-rmsprop"), inside),
    **dict.fromkeys(("keras-adamax", "keras-lamb", "keras-nadam", "optax-adamax"), outside),
    **dict.fromkeys(("fbgemm-rowwise-adagrad", "optax-adabelief", "optax-adam", "optax-radam"), outside),
    **dict.fromkeys(("tf1-rmsprop", "timm-rmsproptf"), from_one),
    "optax-adabelief-eps-root": in_place,
}


@pytest.mark.parametrize("name", {**FRAMEWORKS, **RULES})
@pytest.mark.parametrize("step", [1, 391])
def test_epsilon_weighs_what_the_rule_makes_of_it(name: str, step: int) -> None:
    placement = FRAMEWORKS[name][1](0.99, step)
    assert placement.magnitude_from_epsilon(1e-6) == pytest.approx(RULES[name](1e-6, 0.99, step), rel=1e-9)


def test_a_v_that_starts_at_one_outweighs_a_small_epsilon_at_first() -> None:
    from_zero, one = Placement.inside_uncorrected(0.9, 20), Placement.inside_from_one(0.9, 20)
    assert convert(1e-300, one, Placement.inside_from_one(0.9, 20)) == 1e-300
    with pytest.raises(OutOfRangeError, match=r"has no counterpart .* the one that v starts at, 0\.122, weighs more"):
        convert(1e-8, from_zero, one)
    epsilon = convert(0.5, from_zero, one)
    assert epsilon == pytest.approx(0.5 - 0.9**20)
    assert convert(epsilon, one, from_zero) == pytest.approx(0.5)
    late = Placement.inside_from_one(0.9, math.inf)
    assert (late.start, late.conversion, one.conversion) == (0.0, "ε = b²", "ε = b² − 0.1216")
