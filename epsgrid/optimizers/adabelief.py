"""AdaBelief (Zhuang et al. 2020), by the rule of the authors' PyTorch code, which their experiments used.

    g ← g + λ·θ                        λ: weight_decay; with decoupled_weight_decay instead θ ← θ − lr·λ·θ
    m ← β₁·m + (1 − β₁)·g              m̂ = m / (1 − β₁ᵗ)
    s ← β₂·s + (1 − β₂)·(g − m)² + ε   ŝ = s / (1 − β₂ᵗ)
    θ ← θ − lr · m̂ / (√ŝ + ε)          with rectify: true as RAdam does, where ρₜ ≥ 5

ε enters **twice**: in place, where s keeps it and the average makes ε/(1 − β₂) of it, and outside the root. It is
compared with √v̂, v being the average of (g − m)² alone, and a bound b is ε ≈ b²·(1 − β₂), solved exactly here. Up to
0.0.5, with which the published runs on CIFAR-10 and Penn Treebank agree, the pip package has ε 1e-8, coupled decay and
no rectification; since 0.1.0, as in the published transformer, ε 1e-16, decoupled and rectified. Here both switches are
off unless a spec says so.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from pydantic import Field, model_validator

from epsgrid.numerics.placement import Placement
from epsgrid.numerics.scaling import Scaling
from epsgrid.optimizers._shared import (
    AdamOptions,
    Decay,
    Decoupled,
    builder,
    corrected_second_moment,
    rectified_outer_weight,
    require_rectifiable,
)

DEFAULT_EPSILON = 1e-8

SCALING = Scaling(
    epsilon="in place",
    decays=("betas",),
    is_residual=True,
    decoupled="decoupled_weight_decay",
    requires={"rectify": False},
)

build = builder("epsgrid.optimizers._in_place:EpsilonInPlace", squared="residual", outside=True)
second_moment = corrected_second_moment


class Options(AdamOptions):
    """AdaBelief's hyperparameters; those of the authors' code up to 0.0.5."""

    # At β₁ = 0 the residual g − m, and with it the whole second moment, would be zero.
    betas: tuple[Annotated[float, Field(gt=0, lt=1)], Decay] = (0.9, 0.999)
    """Share of the running averages of g and (g − m)² that is kept from one step to the next."""
    decoupled_weight_decay: Decoupled = False
    rectify: bool = False
    """Skip what RAdam would skip while the average of (g − m)² is short."""

    @model_validator(mode="after")
    def _divides_at_some_time(self) -> Options:
        if self.rectify:
            require_rectifiable(self.betas[1])
        return self


def placement(options: Options, step: float) -> Placement:
    """Return ε in place and outside the root; with `rectify` the latter weighs more in the first steps."""
    beta2 = options.betas[1]
    outer = rectified_outer_weight(beta2, step) if options.rectify else 1.0
    return replace(Placement.in_place(beta2, outer), compared_with="√v̂ of (g − m)²")
