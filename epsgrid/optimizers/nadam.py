"""NAdam (Dozat 2016), as torch computes it: Adam with Nesterov momentum.

    g ← g + λ·θ                        λ: weight_decay; with decoupled_weight_decay instead θ ← θ − lr·λ·θ
    μₜ = β₁·(1 − ½·0.96^(ψ·t))         ψ: momentum_decay; Πₜ = μ₁·μ₂·…·μₜ
    m ← β₁·m + (1 − β₁)·g
    v ← β₂·v + (1 − β₂)·g²             v̂ = v / (1 − β₂ᵗ)
    θ ← θ − lr · [ μₜ₊₁·m / (1 − Πₜ₊₁) + (1 − μₜ)·g / (1 − Πₜ) ] / (√v̂ + ε)

ε enters as in Adam, outside the root and after the bias correction: it is compared with √v̂, v being `exp_avg_sq`,
and a bound b in √v̂ units is the ε to use: ε = b.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from epsgrid.numerics.scaling import NoScaling
from epsgrid.optimizers._shared import AdamOptions, Decoupled, builder, corrected_second_moment, placed_outside

DEFAULT_EPSILON = 1e-8

SCALING = NoScaling("its momentum follows a schedule that counts steps")

build = builder("torch.optim:NAdam")
second_moment = corrected_second_moment
placement = placed_outside


class Options(AdamOptions):
    """NAdam's hyperparameters; torch's defaults."""

    decoupled_weight_decay: Decoupled = False
    momentum_decay: Annotated[float, Field(ge=0)] = 4e-3
    """How fast β₁ approaches its final value."""
