"""AdaMomentum, also AdaM3 (Wang et al. 2021, arXiv 2106.11514), by the rule of the authors' code.

    g ← g + λ·θ                        λ: weight_decay; with decoupled_weight_decay instead θ ← θ − lr·λ·θ
    m ← β₁·m + (1 − β₁)·g              m̂ = m / (1 − β₁ᵗ)
    v ← β₂·v + (1 − β₂)·m² + ε         v̂ = v / (1 − β₂ᵗ)
    θ ← θ − lr · m̂ / √v̂

ε enters in place only: the average makes ε/(1 − β₂) of it. It is compared with √v̂, v being the average of m² alone, and
a bound b is ε = b²·(1 − β₂). The authors' ε is 1e-16, a floor of 3e-7; their runs on CIFAR and Penn Treebank couple the
decay.
"""

from __future__ import annotations

from dataclasses import replace

from epsgrid.numerics.placement import Placement
from epsgrid.numerics.scaling import NoScaling
from epsgrid.optimizers._shared import AdamOptions, Decoupled, builder, corrected_second_moment

DEFAULT_EPSILON = 1e-16

SCALING = NoScaling(
    "its v averages the square of the momentum, which the rule leaves as large as it is, while the rule needs √v̂ to"
    " fall as the noise of a gradient does"
)

build = builder("epsgrid.optimizers._in_place:EpsilonInPlace", squared="momentum")
second_moment = corrected_second_moment


class Options(AdamOptions):
    """AdaMomentum's hyperparameters; the decay is coupled unless a spec says otherwise."""

    decoupled_weight_decay: Decoupled = False


def placement(options: Options, step: float) -> Placement:
    """Return ε in place, whatever the step."""
    return replace(Placement.in_place(options.betas[1]), compared_with="√v̂ of m²")
