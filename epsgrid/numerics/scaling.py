"""Scale an optimizer's settings to another batch size: the square-root rule, and the rules it is compared with.

Malladi, Lyu, Panigrahi and Arora (2022, arXiv 2205.10287) approximate Adam and RMSprop by stochastic differential
equations in the time η² a step, η being the learning rate. With gradient noise σ ∝ 1/√B at batch size B they hold
nothing but

    σ₀ = σ·η        ε₀ = ε·η        c₁ = (1 − β₁)/η²        c₂ = (1 − β₂)/η²

so settings that keep these four keep the whole trajectory of training, as long as the noise outweighs the gradient.
With κ, the new batch size divided by the old one, and the same number of epochs:

    lr' = lr·√κ        1 − βᵢ' = κ·(1 − βᵢ)        ε' = ε/√κ                    (their Definitions 5.2 and 5.3)

The rest follows from the same four constants, and is ours:

    ε inside the root, √(v + ε)       it is a square:                                       ε' = ε/κ
    ε added to v in place             v's floor is ε/(1 − β₂), and has to fall by κ:        ε' = ε
    decoupled decay θ ← θ − lr·λ·θ    lr·λ·steps stays:                                     λ' = λ·√κ
    decay inside the gradient         is part of ∇f:                                        λ' = λ
    v averages (g − m)², AdaBelief    √v̂ of noise is c·σ, c = β₁·√(2/(1 + β₁)), and c falls with β₁. A step is
                                      lr/c over σ + ε/c, so lr/c and ε/c follow the rule:   lr' = lr·√κ·c'/c
                                      and ε, added to v in place, is a square:              ε' = ε·(c'/c)²
    a bound on the gradient's norm    the norm is the noise's:                              bound' = bound/√κ
    counts of steps, as a warm-up     stay the same in epochs:                              n' = n/κ

The c is that of independent gradients: g − m = β₁·(g − m₋), where the m₋ before the step has the variance
σ²·(1 − β₁)/(1 + β₁). With decoupled decay lr·λ·steps still stays: λ' = λ·√κ·c/c'.

A decay cannot be negative, so the rule ends where κ·(1 − β) = 1. The half-life form β' = β^κ never ends; it agrees with
the rule for small κ·(1 − β). The linear rule, lr' = lr·κ and nothing else, is that of stochastic gradient descent.

Settings are taken for the decimals they are written as and results are rounded once: 0.999 with κ = 2 gives 0.998,
where floating point gives 0.9979999999999998.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal, get_args

from epsgrid.errors import ScalingError

Rule = Literal["sqrt", "sqrt-keep-epsilon", "linear", "none"]
"""`sqrt-keep-epsilon` is the square-root rule without its change of ε, to see what that costs."""

RULES: tuple[Rule, ...] = get_args(Rule)

_EpsilonPlace = Literal["outside", "inside", "in place"]
Number = int | float | Fraction

_ROOT_BITS = 256
ROUNDING = Fraction(1, 2**53)
"""The rounding error of a decay near 1: one that was scaled down can be scaled up to where it began, down to 0."""


@dataclass(frozen=True)
class Scaling:
    """What the square-root rule changes in an optimizer; its file declares it.

    Attributes:
        epsilon: whether ε is added outside the root, inside it, or to v in place.
        decays: the options that hold decays of running averages; the last is that of v.
        is_residual: whether v averages the square of g − m, with the first of the decays in m.
        decoupled: whether `weight_decay` is kept out of the gradient; or the name of the option that says so.
        requires: the option values that the rule was derived for.
    """

    epsilon: _EpsilonPlace
    decays: tuple[str, ...]
    is_residual: bool = False
    decoupled: bool | str = False
    requires: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class NoScaling:
    """An optimizer that the square-root rule was not derived for; `why` is the second half of a sentence."""

    why: str


def exactly(number: Number) -> Fraction:
    """Return a number as a fraction; a float counts as the shortest decimal that stands for it."""
    return Fraction(repr(float(number))) if isinstance(number, float) else Fraction(number)


def _root(number: Number) -> Fraction:
    """Return a square root: exact where it is rational, else to some 77 digits."""
    value = exactly(number)
    over, under = math.isqrt(value.numerator), math.isqrt(value.denominator)
    if over**2 == value.numerator and under**2 == value.denominator:
        return Fraction(over, under)
    shift = 2 * _ROOT_BITS
    return Fraction(math.isqrt((value.numerator << shift) // value.denominator), 1 << _ROOT_BITS)


def scaled_learning_rate(learning_rate: Number, kappa: Number, rule: Rule = "sqrt") -> float:
    """Return the learning rate at κ > 0 times the batch size.

    >>> scaled_learning_rate(3e-4, 4), scaled_learning_rate(3e-4, 4, "linear"), scaled_learning_rate(3e-4, 4, "none")
    (0.0006, 0.0012, 0.0003)
    """
    ratio = _checked(kappa)
    factor = _root(ratio) if is_square_root(rule) else ratio if rule == "linear" else 1
    return float(exactly(learning_rate) * factor)


def scaled_decay(beta: Number, kappa: Number, rule: Rule = "sqrt", *, half_life: bool = False) -> float:
    """Return the decay of a running average, in [0, 1), at κ > 0 times the batch size.

    >>> scaled_decay(0.9, 4), round(scaled_decay(0.9, 16, half_life=True), 4), scaled_decay(0.9, 4, "linear")
    (0.6, 0.1853, 0.9)

    Raises ScalingError, with the largest κ, where κ·(1 − β) > 1 without `half_life`.
    """
    ratio = _checked(kappa)
    if not is_square_root(rule):
        return float(beta)
    if half_life:
        return float(float(beta) ** float(ratio))
    left_out = 1 - exactly(beta)
    if ratio * left_out > 1 + ratio * ROUNDING:
        raise ScalingError(
            f"κ = {_text(ratio)} is too much for a decay of {float(beta):g}: κ·(1 − β) = {_text(ratio * left_out)}"
            f" is more than 1, so the average would have to forget more than it holds; the largest κ is"
            f" {_text(1 / left_out)}"
        )
    return max(0.0, float(1 - ratio * left_out))


def scaled_epsilon(
    epsilon: Number,
    kappa: Number,
    rule: Rule = "sqrt",
    *,
    place: _EpsilonPlace = "outside",
    decay: Number | None = None,
    half_life: bool = False,
) -> float:
    """Return ε ≥ 0, the optimizer's own, at κ > 0 times the batch size; all rules but "sqrt" leave it as it is.

    >>> [scaled_epsilon(1e-8, 4, place=place) for place in ("outside", "inside", "in place")]
    [5e-09, 2.5e-09, 1e-08]

    Where it is added in place, the half-life form needs the `decay` β₂: there 1 − β₂ does not grow by exactly κ.
    """
    ratio = _checked(kappa)
    if rule != "sqrt":
        return float(epsilon)
    value = exactly(epsilon)
    if place == "outside":
        return float(value / _root(ratio))
    if place == "inside":
        return float(value / ratio)
    if not half_life:
        return float(epsilon)
    assert decay is not None
    grown = -math.expm1(float(ratio) * math.log(float(decay))) if decay else 1.0
    return float(epsilon) * grown / float(ratio * (1 - exactly(decay)))


def residual_factor(beta1: Number, scaled: Number) -> Fraction:
    """Return by what √v̂ of noise changes with β₁, above 0 to another value of it, where v averages (g − m)².

    >>> round(float(residual_factor(0.9, 0.6)), 4)
    0.7265
    """
    before, after = exactly(beta1), exactly(scaled)
    return after / before * _root((1 + before) / (1 + after))


def scaled_magnitude(magnitude: Number, kappa: Number) -> float:
    """Return a magnitude √v̂ or a gradient's norm at κ times the batch size where noise dominates."""
    return float(exactly(magnitude) / _root(_checked(kappa)))


def scaled_steps(steps: int, kappa: Number) -> int:
    """Return the count of steps that takes as many epochs, to the nearest whole number, and at least one.

    >>> scaled_steps(4000, 3), scaled_steps(1, 8)
    (1333, 1)
    """
    return max(1, round(steps / _checked(kappa)))


def svag_weights(l: int) -> tuple[float, float]:  # noqa: E741 - its name in the papers
    """Return the weights (1 ± √(2l² − 1))/2 of the two minibatches of an SVAG step, l ≥ 1; see `epsgrid.trials.svag`.

    >>> svag_weights(1), svag_weights(5)
    ((1.0, 0.0), (4.0, -3.0))
    """
    spread = math.sqrt(2 * l**2 - 1)
    return (1 + spread) / 2, (1 - spread) / 2


def is_square_root(rule: Rule) -> bool:
    """Return whether a rule scales learning rate and decays by the square-root rule."""
    return rule in ("sqrt", "sqrt-keep-epsilon")


def _checked(kappa: Number) -> Fraction:
    if not (math.isfinite(kappa) and kappa > 0):
        raise ScalingError(f"κ, the new batch size over the old one, must be positive and finite, got {kappa!r}")
    return exactly(kappa)


def _text(number: Fraction) -> str:
    return f"{float(number):.6g}"
