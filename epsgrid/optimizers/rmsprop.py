"""RMSprop (Hinton 2012; centered: Graves 2013), as torch computes it.

    g ← g + λ·θ                        λ: weight_decay, so it is part of v as well
    v ← α·v + (1 − α)·g²               no bias correction
    a ← α·a + (1 − α)·g                with centered: true only
    θ ← θ − lr · g / (√v + ε)          with centered: √(v − a²) + ε
                                       with momentum μ > 0:  b ← μ·b + g / (√v + ε),  θ ← θ − lr·b

ε enters outside the root: it is compared with √v, v being `square_avg`, or with √(v − a²), a being `grad_avg`; a bound
b in these units is ε = b. The default α is 0.999, that of the published experiments, and not torch's 0.99. Where
rounding leaves v − a² below zero, of which torch takes a root, it counts as zero here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import model_validator

from epsgrid.numerics.placement import Placement
from epsgrid.numerics.scaling import Scaling
from epsgrid.optimizers import SecondMoment
from epsgrid.optimizers._shared import Decay, WeightDecay, builder, uncorrected_second_moment
from epsgrid.spec.options import OptimizerOptions

DEFAULT_EPSILON = 1e-8

SCALING = Scaling(epsilon="outside", decays=("alpha",), requires={"momentum": 0.0, "centered": False})

build = builder("torch.optim:RMSprop")


class Options(OptimizerOptions):
    """RMSprop's hyperparameters; α as published, the others torch's defaults."""

    alpha: Decay = 0.999
    """Share of the running average of g² that is kept from one step to the next."""
    momentum: Decay = 0.0
    """Momentum of the steps; 0 switches it off."""
    weight_decay: WeightDecay = 0.0
    centered: bool = False
    """Divide by the standard deviation of g, in place of its root mean square."""

    @model_validator(mode="after")
    def _centered_needs_an_average(self) -> Options:
        if self.centered and self.alpha == 0:
            raise ValueError("centered: true needs alpha > 0: without an average v − a² is zero; set alpha")
        return self


def placement(options: Options, step: float) -> Placement:
    """Return ε outside the root of the uncorrected v, or of its centered form."""
    plain = Placement.uncorrected(options.alpha, step)
    return replace(plain, symbol="√(v − a²) + ε", compared_with="√(v − a²)") if options.centered else plain


def second_moment(state: Mapping[str, Any], group: Mapping[str, Any]) -> SecondMoment | None:
    """Return v uncorrected, as the rule uses it, or v − a² where it is centered; None before the first step."""
    moment = uncorrected_second_moment(state, group)
    if moment is None or not group["centered"]:
        return moment
    return SecondMoment(moment.values.addcmul(state["grad_avg"], state["grad_avg"], value=-1).clamp_(min=0))
