"""Adam (Kingma and Ba 2015, Algorithm 1), as torch computes it, with L2 decay inside the gradient.

    g ← g + λ·θ                        λ: weight_decay, so it is part of v as well
    m ← β₁·m + (1 − β₁)·g              m̂ = m / (1 − β₁ᵗ)
    v ← β₂·v + (1 − β₂)·g²             v̂ = v / (1 − β₂ᵗ)
    θ ← θ − lr · m̂ / (√v̂ + ε)

ε enters outside the root and after the bias correction: it is compared with √v̂, v being `exp_avg_sq`, and a bound b
in √v̂ units is the ε to use: ε = b. (Keras adds ε before the correction, "ε-hat": there it would be b·√(1 − β₂ᵗ).)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from epsgrid.numerics.placement import Placement
from epsgrid.numerics.scaling import Scaling
from epsgrid.optimizers._adam import corrected_second_moment
from epsgrid.optimizers._dense import dense_only
from epsgrid.optimizers._options import Decay, WeightDecay
from epsgrid.spec.model import OptimizerOptions

if TYPE_CHECKING:
    import torch

HAS_EPSILON = True

SCALING = Scaling(epsilon="outside", decays=("betas",))

second_moment = corrected_second_moment


class Options(OptimizerOptions):
    """Adam's hyperparameters; torch's defaults."""

    betas: tuple[Decay, Decay] = (0.9, 0.999)
    weight_decay: WeightDecay = 0.0


def placement(options: Options, step: float) -> Placement:
    """Return ε outside the root, after the bias correction, whatever the options and the step."""
    return Placement.outside()


def build(
    parameters: Iterable[torch.nn.Parameter], options: Options, learning_rate: float, epsilon: float | None
) -> torch.optim.Optimizer:
    """Build torch's Adam; fused, which is the fastest on CPU and CUDA and keeps the same state."""
    import torch

    assert epsilon is not None
    adam = torch.optim.Adam(
        parameters,
        lr=learning_rate,
        betas=options.betas,
        eps=epsilon,
        weight_decay=options.weight_decay,
        fused=True,
    )
    return dense_only("adam", adam)
