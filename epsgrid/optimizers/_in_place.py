"""The optimizers that add ε to the stored v at every step: AdaBelief, AdaMomentum and EAdam, as one update rule.

    g ← g + λ·θ                        λ: weight_decay; with decoupled decay instead θ ← θ − lr·λ·θ
    m ← β₁·m + (1 − β₁)·g              m̂ = m / (1 − β₁ᵗ)
    x = g, m or g − m                  what is squared, by optimizer; m is the new one
    v ← β₂·v + (1 − β₂)·x² + ε         v̂ = v / (1 − β₂ᵗ)
    θ ← θ − lr · m̂ / (√v̂ + outer·ε)

Here v is kept **without** ε. What the rule has added to it up to step t is the geometric sum ε·(1 − β₂ᵗ)/(1 − β₂), and
after the bias correction ε/(1 − β₂) at every t: that is added when the denominator is formed. It is the same rule, up
to rounding, and v can be measured as it is. Stored together, squared gradients below 1e-12 would be lost beside the
1e-5 that an ε of 1e-8 adds up to. All tensors of a group are updated together, by torch's foreach operations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor

from epsgrid.optimizers._shared import SHORTEST, longest_average, rectified_outer_weight


def state_of_next_step(optimizer: torch.optim.Optimizer, parameter: Tensor) -> dict[str, Any]:
    """Count a step of a parameter, and return its state: `step`, an int, and `exp_avg` and `exp_avg_sq`, once zeros."""
    state: dict[str, Any] = optimizer.state[parameter]
    if not state:
        state["step"] = 0
        state["exp_avg"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        state["exp_avg_sq"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
    state["step"] += 1
    return state


class EpsilonInPlace(torch.optim.Optimizer):
    """Adam with ε added to v in place; see the docstring of this module.

    State of a parameter: `step`, an int; `exp_avg`, m; `exp_avg_sq`, v without ε. `squared` is what v averages the
    square of: g, m or g − m; `outside` adds ε outside the root too, and `rectify` rectifies the first steps.
    """

    def __init__(
        self,
        parameters: Iterable[torch.nn.Parameter],
        *,
        lr: float,
        betas: tuple[float, float],
        eps: float,
        squared: Literal["gradient", "momentum", "residual"],
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        outside: bool = False,
        rectify: bool = False,
    ) -> None:
        decay = {"weight_decay": weight_decay, "decoupled_weight_decay": decoupled_weight_decay}
        rule = {"squared": squared, "outside": outside, "rectify": rectify}
        super().__init__(parameters, {"lr": lr, "betas": betas, "eps": eps, **decay, **rule})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step and return what the closure returned; a parameter without gradient does not count it."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            by_step: dict[int, list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_step.setdefault(state_of_next_step(self, parameter)["step"], []).append(parameter)
            for step, parameters in by_step.items():
                self._update(group, step, parameters)
        return loss

    def _update(self, group: dict[str, Any], step: int, parameters: list[Tensor]) -> None:
        """Update parameters that have all taken `step` steps, this one included."""
        beta1, beta2 = group["betas"]
        m = [self.state[parameter]["exp_avg"] for parameter in parameters]
        v = [self.state[parameter]["exp_avg_sq"] for parameter in parameters]
        g = [parameter.grad for parameter in parameters if parameter.grad is not None]
        decay = group["weight_decay"]
        if decay and group["decoupled_weight_decay"]:
            torch._foreach_mul_(parameters, 1 - group["lr"] * decay)
        elif decay:
            g = list(torch._foreach_add(g, parameters, alpha=decay))
        torch._foreach_lerp_(m, g, 1 - beta1)
        x = {"gradient": g, "momentum": m}.get(group["squared"]) or list(torch._foreach_sub(g, m))
        torch._foreach_mul_(v, beta2)
        torch._foreach_addcmul_(v, x, x, 1 - beta2)
        rate = -group["lr"] / (1 - beta1**step)
        factor = _rectification(beta2, step) if group["rectify"] else 1.0
        if factor is None:
            torch._foreach_add_(parameters, m, alpha=rate)
            return
        denominators = torch._foreach_mul(v, 1 / (1 - beta2**step))
        torch._foreach_add_(denominators, group["eps"] / (1 - beta2))
        torch._foreach_sqrt_(denominators)
        if group["outside"]:
            weight = rectified_outer_weight(beta2, step) if group["rectify"] else 1.0
            torch._foreach_add_(denominators, weight * group["eps"])
        torch._foreach_addcdiv_(parameters, m, denominators, rate * factor)


def _rectification(beta2: float, step: int) -> float | None:
    """Return the factor r of a rectified step (Liu et al. 2020), or None where there is to be no denominator yet.

    As AdaBelief's code has it, which starts to divide at ρₜ ≥ 5; RAdam's authors and torch do at ρₜ > 5.
    """
    longest = longest_average(beta2)
    length = longest - 2 * step * beta2**step / (1 - beta2**step)
    if length < SHORTEST:
        return None
    return math.sqrt((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length))
