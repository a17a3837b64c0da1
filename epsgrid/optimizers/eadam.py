"""EAdam (Yuan and Gao 2020), by the rule of the authors' code: Adam with ε added to v in place.

    g ← g + λ·θ                        λ: weight_decay, so it is part of v as well
    m ← β₁·m + (1 − β₁)·g              m̂ = m / (1 − β₁ᵗ)
    v ← β₂·v + (1 − β₂)·g² + ε         v̂ = v / (1 − β₂ᵗ)
    θ ← θ − lr · m̂ / √v̂

ε enters in place only: the average makes ε/(1 − β₂) of it. It is compared with √v̂, v being the average of g² alone, and
a bound b is ε = b²·(1 − β₂).
"""

from __future__ import annotations

from epsgrid.numerics.placement import Placement
from epsgrid.numerics.scaling import Scaling
from epsgrid.optimizers._shared import AdamOptions, builder, corrected_second_moment

DEFAULT_EPSILON = 1e-8

SCALING = Scaling(epsilon="in place", decays=("betas",))

Options = AdamOptions
build = builder("epsgrid.optimizers._in_place:EpsilonInPlace", squared="gradient")
second_moment = corrected_second_moment


def placement(options: Options, step: float) -> Placement:
    """Return ε in place, whatever the step."""
    return Placement.in_place(options.betas[1])
