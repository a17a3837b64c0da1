"""Adam-atan2 (Everett et al. 2024, arXiv 2407.05872): Adam without ε, whose quotient is an arc tangent.

    m ← β₁·m + (1 − β₁)·g              m̂ = m / (1 − β₁ᵗ)
    v ← β₂·v + (1 − β₂)·g²             v̂ = v / (1 − β₂ᵗ)
    θ ← θ − lr·λ·θ                     λ: weight_decay, decoupled
    θ ← θ − lr · a · atan2(m̂, √v̂)      a: scale

atan2(m̂, √v̂) is the angle whose tangent is m̂/√v̂, between −π/2 and π/2, and 0 where both are. With a = 4/π, the default,
an entry with m̂ = √v̂ moves by lr, as with Adam, and no entry by more than 2·lr. Multiplying all gradients by a number
changes nothing, however small they are: so it tells what an adaptive optimizer reaches that no ε holds back.
"""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field

from epsgrid.numerics.scaling import NoScaling
from epsgrid.optimizers._shared import AdamOptions, builder

DEFAULT_EPSILON = None
SCALING = NoScaling("its step is bounded by an arc tangent, for which the rule was not derived")

build = builder("epsgrid.optimizers._atan2:AdamAtan2")


class Options(AdamOptions):
    """Adam's hyperparameters and the factor of the arc tangent."""

    scale: Annotated[float, Field(gt=0)] = 4 / math.pi
    """Factor a of the arc tangent."""
