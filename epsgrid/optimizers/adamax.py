"""Adamax (Kingma and Ba 2015, Algorithm 2), as torch computes it: Adam with the largest gradient for the root of v.

    g ← g + λ·θ                        λ: weight_decay, so it is part of u as well
    m ← β₁·m + (1 − β₁)·g              m̂ = m / (1 − β₁ᵗ)
    u ← max(β₂·u, |g| + ε)             no bias correction
    θ ← θ − lr · m̂ / u

ε enters inside the maximum and is stored in u, `exp_inf`, a magnitude and not a square: ε is compared with u, and a
bound b is ε = b. What is measured is u − ε, which is exact where the latest gradient set u, and where there never was
one; else it is short by at most ε. A probe takes the smallest normal float32 for ε: it leaves every |g| above 4e-31 as
it is, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from epsgrid.numerics.placement import Placement
from epsgrid.numerics.scaling import NoScaling
from epsgrid.optimizers import SecondMoment
from epsgrid.optimizers._shared import AdamOptions, builder

DEFAULT_EPSILON = 1e-8

SCALING = NoScaling("it divides by a largest gradient, which depends on the tail of the noise and not on its variance")

Options = AdamOptions
build = builder("torch.optim:Adamax")

PROBING_EPSILON = 2.0**-126


def placement(options: Options, step: float) -> Placement:
    """Return ε inside the maximum, whatever the options and the step."""
    return Placement("inside the maximum", "u = max(β₂·u, |g| + ε)", compared_with="u")


def second_moment(state: Mapping[str, Any], group: Mapping[str, Any]) -> SecondMoment | None:
    """Return (u − ε)² in float64, where the square of a float32 and the root of that are exact; None before a step."""
    if "exp_inf" not in state:
        return None
    magnitudes = (state["exp_inf"] - group["eps"]).clamp_(min=0)
    return SecondMoment(magnitudes.double().square_())
