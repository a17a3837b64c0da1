"""Stochastic gradient descent with momentum, as torch computes it: the yardstick without any ε.

    g ← g + λ·θ                        λ: weight_decay
    b ← μ·b + g                        b = g at the first step; μ: momentum
    θ ← θ − lr · b                     with nesterov: θ ← θ − lr · (g + μ·b)

Nothing is divided by a second moment, so there is no ε to find and nothing to probe.
"""

from __future__ import annotations

from pydantic import model_validator

from epsgrid.numerics.scaling import NoScaling
from epsgrid.optimizers._shared import Decay, WeightDecay, builder
from epsgrid.spec.options import OptimizerOptions

DEFAULT_EPSILON = None
SCALING = NoScaling("it divides by no second moment; its rule is the linear one")

build = builder("torch.optim:SGD", fused=True)


class Options(OptimizerOptions):
    """Hyperparameters of SGD; the published momentum, the others torch's defaults."""

    momentum: Decay = 0.9
    """Momentum; 0 is plain SGD."""
    weight_decay: WeightDecay = 0.0
    nesterov: bool = False
    """Nesterov's momentum."""

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Options:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov: true needs momentum > 0; set momentum, or remove nesterov")
        return self
