"""Adam (Kingma and Ba 2015, Algorithm 1), as torch computes it, with L2 decay inside the gradient.

    g ← g + λ·θ                        λ: weight_decay, so it is part of v as well
    m ← β₁·m + (1 − β₁)·g              m̂ = m / (1 − β₁ᵗ)
    v ← β₂·v + (1 − β₂)·g²             v̂ = v / (1 − β₂ᵗ)
    θ ← θ − lr · m̂ / (√v̂ + ε)

ε enters outside the root and after the bias correction: it is compared with √v̂, v being `exp_avg_sq`, and a bound b
in √v̂ units is the ε to use: ε = b. (Keras adds ε before the correction, "ε-hat": there it would be b·√(1 − β₂ᵗ).)
"""

from __future__ import annotations

from epsgrid.numerics.scaling import Scaling
from epsgrid.optimizers._shared import AdamOptions, builder, corrected_second_moment, placed_outside

DEFAULT_EPSILON = 1e-8

SCALING = Scaling(epsilon="outside", decays=("betas",))

Options = AdamOptions
build = builder("torch.optim:Adam", fused=True)
second_moment = corrected_second_moment
placement = placed_outside
