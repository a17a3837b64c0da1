"""Adadelta (Zeiler 2012), as torch computes it.

    g ← g + λ·θ                        λ: weight_decay, so it is part of v as well
    v ← ρ·v + (1 − ρ)·g²               no bias correction
    Δ = √(d + ε) / √(v + ε) · g
    d ← ρ·d + (1 − ρ)·Δ²
    θ ← θ − lr · Δ

ε enters inside the root: it is compared with v, `square_avg`, and a bound b in √v units is ε = b². The same ε stands in
the numerator, where it sets the size of the first steps; bounds say nothing about that.
"""

from __future__ import annotations

from dataclasses import replace

from epsgrid.numerics.placement import Placement
from epsgrid.numerics.scaling import NoScaling
from epsgrid.optimizers._shared import Decay, WeightDecay, builder, uncorrected_second_moment
from epsgrid.spec.options import OptimizerOptions

DEFAULT_EPSILON = 1e-6

SCALING = NoScaling("it sets the size of its steps by a second average, with ε in it, and not by the learning rate")

build = builder("torch.optim:Adadelta")
second_moment = uncorrected_second_moment


class Options(OptimizerOptions):
    """Adadelta's hyperparameters; torch's defaults."""

    rho: Decay = 0.9
    """Share of the running averages that is kept from one step to the next."""
    weight_decay: WeightDecay = 0.0


def placement(options: Options, step: float) -> Placement:
    """Return ε inside the root of the uncorrected v, whatever the options."""
    where = "inside the root, no bias correction, and in the numerator"
    return replace(Placement.inside_uncorrected(options.rho, step), where=where)
