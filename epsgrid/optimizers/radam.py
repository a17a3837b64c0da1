"""RAdam (Liu et al. 2020), as torch computes it: Adam that rectifies the variance of its first steps.

    g ← g + λ·θ                        λ: weight_decay; with decoupled_weight_decay instead θ ← θ − lr·λ·θ
    m ← β₁·m + (1 − β₁)·g              m̂ = m / (1 − β₁ᵗ)
    v ← β₂·v + (1 − β₂)·g²
    ρ∞ = 2/(1 − β₂) − 1                ρₜ = ρ∞ − 2t·β₂ᵗ / (1 − β₂ᵗ)
    θ ← θ − lr · r · m̂ · √(1 − β₂ᵗ) / (√v + ε)    where ρₜ > 5, with r² = (ρₜ−4)(ρₜ−2)ρ∞ / ((ρ∞−4)(ρ∞−2)ρₜ)
    θ ← θ − lr · m̂                                else: momentum without a denominator (t ≤ 5 at β₂ = 0.999)

ε enters outside the root and **before** the bias correction, which magnifies it: the denominator is
√v̂ + ε/√(1 − β₂ᵗ), v being `exp_avg_sq`, and a bound b in √v̂ units is ε = b·√(1 − β₂ᵗ). Bounds are converted at the
step at which they are measured; after a few thousand steps at β₂ = 0.999 the factor is 1.
"""

from __future__ import annotations

from pydantic import model_validator

from epsgrid.numerics.placement import Placement
from epsgrid.numerics.scaling import NoScaling
from epsgrid.optimizers._shared import AdamOptions, Decoupled, builder, corrected_second_moment, require_rectifiable

DEFAULT_EPSILON = 1e-8

SCALING = NoScaling("its first steps do not divide by √v̂, and how many these are does not move with the batch")

build = builder("torch.optim:RAdam")
second_moment = corrected_second_moment


class Options(AdamOptions):
    """RAdam's hyperparameters; torch's defaults."""

    decoupled_weight_decay: Decoupled = False

    @model_validator(mode="after")
    def _divides_at_some_time(self) -> Options:
        require_rectifiable(self.betas[1])
        return self


def placement(options: Options, step: float) -> Placement:
    """Return ε outside the root, before the bias correction at `step`."""
    return Placement.before_correction(options.betas[1], step)
