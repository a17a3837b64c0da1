"""AdamW (Loshchilov and Hutter 2019), as torch computes it: Adam with the decay kept out of the gradient.

    θ ← θ − lr·λ·θ                     λ: weight_decay, decoupled, so it is not part of v
    m ← β₁·m + (1 − β₁)·g              m̂ = m / (1 − β₁ᵗ)
    v ← β₂·v + (1 − β₂)·g²             v̂ = v / (1 − β₂ᵗ)
    θ ← θ − lr · m̂ / (√v̂ + ε)

ε enters as in Adam, outside the root and after the bias correction: it is compared with √v̂, v being `exp_avg_sq`,
and a bound b in √v̂ units is the ε to use: ε = b.
"""

from __future__ import annotations

from epsgrid.numerics.scaling import Scaling
from epsgrid.optimizers._shared import AdamOptions, WeightDecay, builder, corrected_second_moment, placed_outside

DEFAULT_EPSILON = 1e-8

SCALING = Scaling(epsilon="outside", decays=("betas",), decoupled=True)

build = builder("torch.optim:AdamW", fused=True)
second_moment = corrected_second_moment
placement = placed_outside


class Options(AdamOptions):
    """AdamW's hyperparameters; torch's defaults."""

    weight_decay: WeightDecay = 0.01
