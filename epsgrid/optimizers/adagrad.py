"""Adagrad (Duchi, Hazan and Singer 2011), as torch computes it.

    g ← g + λ·θ                        λ: weight_decay, so it is part of s as well
    s ← s + g²                         a sum, not an average; starts at zero
    θ ← θ − lr / (1 + (t − 1)·η) · g / (√s + ε)        η: lr_decay

ε enters outside the root: it is compared with √s, s being `sum`, and a bound b is ε = b. √s grows with the steps, as √t
under gradients of constant size, so bounds hold for the step at which they are measured, the end of the probe.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from epsgrid.numerics.placement import Placement
from epsgrid.numerics.scaling import NoScaling
from epsgrid.optimizers import SecondMoment
from epsgrid.optimizers._shared import WeightDecay, builder
from epsgrid.spec.options import OptimizerOptions

DEFAULT_EPSILON = 1e-10

SCALING = NoScaling("its second moment is a sum that grows with the steps, and no average with a decay")

build = builder("torch.optim:Adagrad")


class Options(OptimizerOptions):
    """Adagrad's hyperparameters; torch's defaults."""

    lr_decay: Annotated[float, Field(ge=0)] = 0.0
    """The learning rate of step t is divided by 1 + lr_decay · (t − 1)."""
    weight_decay: WeightDecay = 0.0


def placement(options: Options, step: float) -> Placement:
    """Return ε outside the root of the sum, whatever the options."""
    return Placement("outside the root", "√Σg² + ε", compared_with="√Σg²", per_gradient=math.sqrt(step))


def second_moment(state: Mapping[str, Any], group: Mapping[str, Any]) -> SecondMoment | None:
    """Return the sum; None before the first gradient, though torch makes the tensor when it builds the optimizer."""
    return SecondMoment(state["sum"]) if "sum" in state and float(state["step"]) else None
