"""The square-root rule of every optimizer that accepts it, against trainings on pure noise, whose law is known.

Gradients are independent noise with a standard deviation of 1/√κ at κ times the batch size. After as many epochs, N/κ
steps, weights must have spread as far, and shrunk as much by weight decay, as at the base batch size.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
import torch

from epsgrid import optimizers, plugins
from epsgrid.errors import ScalingError
from epsgrid.numerics.scaling import Scaling
from epsgrid.optimizers import _scaling as scaling

SCALABLE = [name for name in plugins.names("optimizers") if isinstance(optimizers.load(name).SCALING, Scaling)]
STEPS, ENTRIES, RATE, START = 1800, 20_000, 1e-3, 3.0
DECAY = {"weight_decay": 0.3}
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "adam": [{}],
    "adamw": [{"weight_decay": 0.0}, DECAY],
    "eadam": [{}],
    "rmsprop": [{}],
    "adabelief": [{}, {**DECAY, "decoupled_weight_decay": True}, {"betas": (0.95, 0.99)}],
}


def trained(options: Any, rate: float, epsilon: float, kappa: Fraction) -> torch.Tensor:
    """Train on pure noise for as many epochs as `STEPS` are at κ = 1, from weights of `START`."""
    generator = torch.Generator().manual_seed(round(1000 * kappa))
    weights = torch.nn.Parameter(torch.full((ENTRIES,), START, dtype=torch.float64))
    optimizer = optimizers.load(options.name).build([weights], options, rate, epsilon)
    for _ in range(round(STEPS / kappa)):
        noise = torch.randn(ENTRIES, generator=generator, dtype=torch.float64)
        weights.grad = noise / math.sqrt(kappa)
        optimizer.step()
    return weights.detach()


@pytest.mark.parametrize("half_life", [False, True])
@pytest.mark.parametrize("kappa", [Fraction(1, 2), Fraction(4), Fraction(9)])
@pytest.mark.parametrize(("name", "settings"), [(name, each) for name in SCALABLE for each in VARIANTS[name]])
def test_noise_carries_weights_as_far_at_every_batch_size(name, settings, kappa, half_life):
    plugin = optimizers.load(name)
    options = plugin.Options(name=name, **settings)
    # ε and √v̂ of noise are of one size, so that ε must be scaled rightly too
    epsilon = plugin.placement(options, math.inf).epsilon_from_magnitude(0.5)
    base = trained(options, RATE, epsilon, Fraction(1))
    there = trained(
        scaling.scaled_options(options, kappa, half_life=half_life),
        scaling.scaled_learning_rate(options, RATE, kappa, half_life=half_life),
        scaling.scaled_epsilon(options, epsilon, kappa, half_life=half_life),
        kappa,
    )
    # three standard errors of both spreads, and the few averages over κ times fewer steps
    assert float(there.std() / base.std()) == pytest.approx(1, abs=0.04)
    assert float(there.mean()) == pytest.approx(float(base.mean()), abs=0.003)


def test_a_residual_without_momentum_has_no_second_moment():
    plugin = optimizers.load("adabelief")
    options = plugin.Options(name="adabelief", **DECAY, decoupled_weight_decay=True)
    with pytest.raises(ScalingError, match=r"optimizer.betas.0: .* κ = 10 makes it 0.0, which 'adabelief' refuses"):
        scaling.scaled_options(options, Fraction(10))
