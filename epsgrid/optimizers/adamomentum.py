"""AdaMomentum, also AdaM3 (Wang et al. 2021, arXiv 2106.11514), by the rule of the authors' code.

    g ← g + λ·θ                        λ: weight_decay; with decoupled_weight_decay instead θ ← θ − lr·λ·θ
    m ← β₁·m + (1 − β₁)·g              m̂ = m / (1 − β₁ᵗ)
    v ← β₂·v + (1 − β₂)·m² + ε         v̂ = v / (1 − β₂ᵗ)
    θ ← θ − lr · m̂ / √v̂

v averages the square of the momentum, not of the gradient. ε enters in place only: v keeps it, the average makes
ε/(1 − β₂) of it, and there is none outside the root. It is compared with √v̂, v being the average of m² alone, and a
bound b is ε = b²·(1 − β₂). The authors' ε is 1e-16, a floor of 3e-7; their code decouples the decay unless told
otherwise, and their runs on CIFAR and Penn Treebank do tell it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from epsgrid.numerics.placement import Placement
from epsgrid.numerics.scaling import NoScaling
from epsgrid.optimizers._adam import corrected_second_moment
from epsgrid.optimizers._dense import dense_only
from epsgrid.optimizers._options import Decay, WeightDecay
from epsgrid.spec.model import OptimizerOptions

if TYPE_CHECKING:
    import torch

HAS_EPSILON = True

SCALING = NoScaling(
    "its v averages the square of the momentum, which the rule leaves as large as it is, while the rule needs √v̂ to"
    " fall as the noise of a gradient does"
)

second_moment = corrected_second_moment


class Options(OptimizerOptions):
    """AdaMomentum's hyperparameters; the decay is coupled unless a spec says otherwise."""

    betas: tuple[Decay, Decay] = (0.9, 0.999)
    weight_decay: WeightDecay = 0.0
    decoupled_weight_decay: bool = False


def placement(options: Options, step: float) -> Placement:
    """Return ε in place, whatever the step."""
    return replace(Placement.in_place(options.betas[1]), compared_with="√v̂ of m²")


def build(
    parameters: Iterable[torch.nn.Parameter], options: Options, learning_rate: float, epsilon: float | None
) -> torch.optim.Optimizer:
    """Build our own AdaMomentum, on foreach operations."""
    from epsgrid.optimizers._in_place import EpsilonInPlace

    assert epsilon is not None
    adamomentum = EpsilonInPlace(
        parameters,
        lr=learning_rate,
        betas=options.betas,
        eps=epsilon,
        weight_decay=options.weight_decay,
        decoupled_weight_decay=options.decoupled_weight_decay,
        squared="momentum",
    )
    return dense_only("adamomentum", adamomentum)
