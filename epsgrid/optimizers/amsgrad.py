"""AMSGrad (Reddi, Kale and Kumar 2018), as torch computes it: Adam whose second moment never falls.

    g ← g + λ·θ                        λ: weight_decay, so it is part of v as well
    m ← β₁·m + (1 − β₁)·g              m̂ = m / (1 − β₁ᵗ)
    v ← β₂·v + (1 − β₂)·g²
    w ← max(w, v)                      ŵ = w / (1 − β₂ᵗ)
    θ ← θ − lr · m̂ / (√ŵ + ε)

ε enters as in Adam, but meets the largest v so far: it is compared with √ŵ, w being `max_exp_avg_sq`, and a bound b in
these units is ε = b. torch corrects w by the present step.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from epsgrid.numerics.placement import Placement
from epsgrid.numerics.scaling import NoScaling
from epsgrid.optimizers import SecondMoment
from epsgrid.optimizers._shared import AdamOptions, builder, corrected_second_moment

DEFAULT_EPSILON = 1e-8

SCALING = NoScaling("its second moment is the largest so far, which keeps what noise there was in v")

Options = AdamOptions
build = builder("torch.optim:Adam", amsgrad=True, fused=True)


def placement(options: Options, step: float) -> Placement:
    """Return ε outside the root of the largest v, after the bias correction, whatever the options and the step."""
    return Placement("outside the root", "√(max v / (1 − β₂ᵗ)) + ε", compared_with="√v̂ of max v")


def second_moment(state: Mapping[str, Any], group: Mapping[str, Any]) -> SecondMoment | None:
    """Return the largest v so far with the present factor 1 / (1 − β₂ᵗ); None before the first step."""
    return corrected_second_moment(state, group, "max_exp_avg_sq")
