"""The model in `scripts/check_sde.py`: the equations' moments against closed forms, the algorithm against a slow loop.

Tolerances of what is sampled are five standard errors; seeds are fixed.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

_PATH = Path(__file__).parent.parent / "scripts" / "check_sde.py"
_SPEC = importlib.util.spec_from_file_location("check_sde", _PATH)
assert _SPEC is not None and _SPEC.loader is not None
sde = importlib.util.module_from_spec(_SPEC)
sys.modules["check_sde"] = sde  # its dataclasses look their module up
_SPEC.loader.exec_module(sde)

PLANE, Constants = sde.PROBLEM, sde.Constants
RMSPROP = Constants(noise=1.0, epsilon=0.1, decays=(1.0,))
ADAM = Constants(noise=1.0, epsilon=0.1, decays=(4.0, 1.0))
BOTH = pytest.mark.parametrize("equation", [RMSPROP, ADAM], ids=["rmsprop", "adam"])


def line(curvature: float = 2.0, variance: float = 1.5, start: float = 1.2):
    return sde.Quadratic(np.array([[curvature]]), np.array([[variance]]), np.array([start]))


def test_rmsprop_is_an_ornstein_uhlenbeck_process():
    """dx = −a·x dt − b dW: mean x₀·exp(−at), variance b²/2a·(1 − exp(−2at))."""
    problem, time = line(), 0.7
    scale = 1 / (RMSPROP.noise * np.sqrt(1.5) + RMSPROP.epsilon)
    a, b = 2.0 * scale, RMSPROP.noise * np.sqrt(1.5) * scale
    (found,) = sde.moments(problem, RMSPROP, [time])
    assert found.mean[0] == pytest.approx(1.2 * np.exp(-a * time), rel=1e-9)
    assert found.covariance[0, 0] == pytest.approx(b**2 / (2 * a) * (1 - np.exp(-2 * a * time)), rel=1e-9)
    assert found.loss(problem) == pytest.approx(found.mean[0] ** 2 + found.covariance[0, 0], rel=1e-12)


@BOTH
def test_eulers_scheme_converges_to_the_equation_at_first_order(equation):
    """Its moments are exact, so the order shows without any sampling; Adam's first steps delay it."""
    exact = sde.moments(PLANE, equation, [1.0])[0]
    errors = [
        abs(sde.euler_moments(PLANE, sde.discretised(equation, 1 / steps), [steps])[0].loss(PLANE) - exact.loss(PLANE))
        for steps in (200, 400, 800)
    ]
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    assert orders == pytest.approx([1, 1], abs=0.15) and abs(orders[1] - 1) < abs(orders[0] - 1)


@BOTH
def test_twins_have_the_moments_of_eulers_scheme(equation):
    paths, algorithm = 20_000, sde.discretised(equation, 1 / 10)
    x = sde.descend(PLANE, algorithm, [10], paths, np.random.default_rng(1)).twins[0]
    exact = sde.euler_moments(PLANE, algorithm, [10])[0]
    assert np.all(np.abs(x.mean(0) - exact.mean) < 5 * np.sqrt(np.diag(exact.covariance) / paths))
    # Gaussian: the variance of a sample covariance is (C_ii·C_jj + C_ij²)/n.
    spread = np.outer(*[np.diag(exact.covariance)] * 2) + exact.covariance**2
    assert np.all(np.abs(np.cov(x, rowvar=False) - exact.covariance) < 5 * np.sqrt(spread / paths))


def test_two_weighted_minibatches_by_a_slow_loop():
    """Adam with l = 2 as it stands in the paper's code: v before the step, corrections 1 − β₁ᵏ⁺¹ and 1 − β₂ᵏ."""
    base = sde.Algorithm(learning_rate=0.2, decays=(0.8, 0.96), epsilon=0.3, noise=2.0)
    (found,) = sde.descend(PLANE, base, [3], 1, np.random.default_rng(5), l=2).paths
    random, factor = np.random.default_rng(5), 2.0 * np.linalg.cholesky(PLANE.covariance)
    plus, minus = (1 + np.sqrt(7)) / 2, (1 - np.sqrt(7)) / 2
    rate, beta1, beta2, epsilon = 0.1, 0.95, 0.99, 0.6
    x, m, v = PLANE.start.copy(), np.zeros(2), 4.0**2 * np.array([1.0, 2.0])
    for k in range(12):
        first, second = (PLANE.hessian @ x + factor @ random.standard_normal((2, 1))[:, 0] for _ in range(2))
        g = plus * first + minus * second
        m = beta1 * m + (1 - beta1) * g
        hat = v / (1 - beta2**k) if k else np.full(2, np.inf)
        x = x - rate * m / (1 - beta1 ** (k + 1)) / (np.sqrt(hat) + epsilon)
        v = beta2 * v + (1 - beta2) * g**2
    np.testing.assert_allclose(found[0], x, rtol=1e-12)


def test_the_square_root_rule_keeps_the_constants_and_the_training():
    base = sde.discretised(Constants(1.0, 0.5, (4.0, 1.0)), 2 / 128)
    scaled = base.at(4)
    assert scaled.constants.noise == pytest.approx(base.constants.noise, rel=1e-12)
    assert scaled.constants.epsilon == pytest.approx(base.constants.epsilon, rel=1e-12)
    assert scaled.constants.decays == pytest.approx(base.constants.decays, rel=1e-12)

    def loss(algorithm, steps: int) -> float:
        descent = sde.descend(PLANE, algorithm, [steps], 4_000, np.random.default_rng(7))
        return sde.expected_losses(PLANE, descent, sde.euler_moments(PLANE, algorithm, [steps]))[0].value

    expected = loss(base, 128)
    gaps = {rule: abs(loss(base.at(4, rule), 32) - expected) for rule in sde.RULES}
    assert gaps["sqrt"] < min(gaps["sqrt-keep-epsilon"], gaps["linear"], gaps["none"]) / 3
