"""What several optimizers share: ranges of options, builders, second moments, placements, rectified first steps."""

from __future__ import annotations

import functools
import importlib
import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, cast

from pydantic import Field

from epsgrid.errors import SpecError
from epsgrid.numerics.placement import Placement
from epsgrid.optimizers import SecondMoment
from epsgrid.spec.options import OptimizerOptions

if TYPE_CHECKING:
    import torch

Decay = Annotated[float, Field(ge=0, lt=1)]
"""Share of a running average that is kept from one step to the next."""

WeightDecay = Annotated[float, Field(ge=0, description="Strength of weight decay; 0 switches it off.")]

Decoupled = Annotated[bool, Field(description="Shrink the weights themselves, in place of adding to their gradients.")]

SHORTEST = 5
"""Length of the average from which on a rectified update divides by its second moment."""


class AdamOptions(OptimizerOptions):
    """The hyperparameters of Adam, with torch's defaults."""

    betas: tuple[Decay, Decay] = (0.9, 0.999)
    """Share of the running averages of g and g² that is kept from one step to the next."""
    weight_decay: WeightDecay = 0.0


def builder(path: str, **fixed: Any) -> Callable[..., torch.optim.Optimizer]:
    """Return the function `build` of an optimizer file; see `epsgrid.optimizers.OptimizerPlugin.build`.

    `path` names the optimizer class, which is imported when it is built, because importing torch takes seconds. Options
    become arguments of the same name; `fixed` adds others.
    """

    def build(
        parameters: Iterable[torch.nn.Parameter], options: OptimizerOptions, learning_rate: float, epsilon: float | None
    ) -> torch.optim.Optimizer:
        module, _, name = path.partition(":")
        settings = {field: getattr(options, field) for field in type(options).model_fields if field != "name"}
        if epsilon is not None:
            settings["eps"] = epsilon
        optimizer = getattr(importlib.import_module(module), name)(parameters, lr=learning_rate, **settings, **fixed)
        optimizer.register_step_pre_hook(functools.partial(_refuse_sparse_gradients, options.name))
        return cast("torch.optim.Optimizer", optimizer)

    return build


def _refuse_sparse_gradients(name: str, optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """Raise SpecError for a sparse gradient: torch's message has no way out, and Adagrad updates only a part of v."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None and parameter.grad.is_sparse:
                shape = "×".join(map(str, parameter.shape))
                raise SpecError(
                    f"optimizer {name!r} needs dense gradients, and a parameter of shape {shape} has a sparse one;"
                    " build the model with torch.nn.Embedding(…, sparse=False)"
                )


def corrected_second_moment(
    state: Mapping[str, Any], group: Mapping[str, Any], entry: str = "exp_avg_sq"
) -> SecondMoment | None:
    """Return v with β₂ and the step, for v̂ = v / (1 − β₂ᵗ); None before the first step."""
    if entry not in state:
        return None
    return SecondMoment(state[entry], float(group["betas"][1]), state["step"])


def uncorrected_second_moment(
    state: Mapping[str, Any], group: Mapping[str, Any], entry: str = "square_avg"
) -> SecondMoment | None:
    """Return v as the rule uses it, without a correction of its bias; None before the first step."""
    return SecondMoment(state[entry]) if entry in state else None


def placed_outside(options: OptimizerOptions, step: float) -> Placement:
    """Return ε outside the root, after the bias correction, whatever the options and the step."""
    return Placement.outside()


def longest_average(beta2: float) -> float:
    """Return ρ∞ = 2/(1 − β₂) − 1, the length that an average with decay β₂ reaches in the long run."""
    return 2 / (1 - beta2) - 1


def require_rectifiable(beta2: float) -> None:
    """Refuse a β₂ with which the average is too short for a rectified optimizer ever to divide by its second moment."""
    longest = longest_average(beta2)
    if longest <= SHORTEST:
        raise ValueError(
            f"betas[1]: {beta2} averages over at most {longest:.3g} steps; with {SHORTEST} or fewer the rectified"
            " update never divides by the second moment, and ε has no effect; take more than 2/3"
        )


def rectified_outer_weight(beta2: float, step: float) -> float:
    """Return the weight of an ε outside the root in a rectified update, which adds it before the bias correction."""
    return 1 / math.sqrt(1 - beta2**step)
