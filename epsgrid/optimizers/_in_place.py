"""The optimizers that add ε to the stored v at every step: AdaBelief, AdaMomentum and EAdam, as one update rule.

    g ← g + λ·θ                        λ: weight_decay; with decoupled decay instead θ ← θ − lr·λ·θ
    m ← β₁·m + (1 − β₁)·g              m̂ = m / (1 − β₁ᵗ)
    x = g, m or g − m                  what is squared, by optimizer; m is the new one
    v ← β₂·v + (1 − β₂)·x² + ε         v̂ = v / (1 − β₂ᵗ)
    θ ← θ − lr · m̂ / (√v̂ + outer·ε)

Here v is kept **without** ε. What the rule has added to it up to step t is a geometric sum, ε·(1 − β₂ᵗ)/(1 − β₂), the
same for every entry, and after the bias correction ε/(1 − β₂) at every t. So that is added when the denominator is
formed: the same rule, equal up to rounding (a test compares them), and v can be measured as it is, at any ε and with
moving weights. Stored together they could not be told apart again: at ε = 1e-8 the sum is 1e-5, of which a float32
keeps seven digits, and squared gradients below 1e-12 would be gone. (The sum is that of an ε that never changes.)

All tensors of a group are updated together, by torch's foreach operations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor

from epsgrid.optimizers._rectified import outer_weight, rectification

Squared = Literal["gradient", "momentum", "residual"]


class EpsilonInPlace(torch.optim.Optimizer):
    """Adam with ε added to v in place; see the module's words.

    State of a parameter: `step`, an int; `exp_avg`, m; `exp_avg_sq`, v without ε. Learning rate, ε and decay are read
    from the parameter group at every step.

    Args:
        parameters: tensors or groups, as of any torch optimizer.
        lr: learning rate, ≥ 0.
        betas: β₁ and β₂, each in [0, 1).
        eps: ε, ≥ 0.
        weight_decay: λ, ≥ 0.
        decoupled_weight_decay: keep the decay out of the gradient.
        squared: what v is an average of the square of: g, m or g − m.
        outside: add ε outside the root too.
        rectify: rectify the first steps as RAdam does; see `rectification`.
    """

    def __init__(
        self,
        parameters: Iterable[torch.nn.Parameter],
        *,
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
        decoupled_weight_decay: bool,
        squared: Squared,
        outside: bool = False,
        rectify: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "squared": squared,
            "outside": outside,
            "rectify": rectify,
        }
        super().__init__(parameters, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step; a parameter without gradient is left out and does not count it.

        Args:
            closure: computes the loss again; called once, with gradients on.

        Returns:
            What the closure returned, or None.
        """
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            for step, parameters in self._counted(group).items():
                self._update(group, step, parameters)
        return loss

    def _counted(self, group: dict[str, Any]) -> dict[int, list[Tensor]]:
        """Count the step of every parameter that has a gradient; return them by their number of steps."""
        by_step: dict[int, list[Tensor]] = {}
        for parameter in group["params"]:
            if parameter.grad is None:
                continue
            state = self.state[parameter]
            if not state:
                state["step"] = 0
                state["exp_avg"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
                state["exp_avg_sq"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
            state["step"] += 1
            by_step.setdefault(state["step"], []).append(parameter)
        return by_step

    def _update(self, group: dict[str, Any], step: int, parameters: list[Tensor]) -> None:
        """Update parameters that have all taken `step` steps, this one included."""
        beta1, beta2 = group["betas"]
        m = [self.state[parameter]["exp_avg"] for parameter in parameters]
        v = [self.state[parameter]["exp_avg_sq"] for parameter in parameters]
        gradients = _decayed(group, parameters)
        torch._foreach_lerp_(m, gradients, 1 - beta1)
        x = _to_square(group["squared"], gradients, m)
        torch._foreach_mul_(v, beta2)
        torch._foreach_addcmul_(v, x, x, 1 - beta2)
        rate = -group["lr"] / (1 - beta1**step)
        factor = rectification(beta2, step) if group["rectify"] else 1.0
        if factor is None:
            torch._foreach_add_(parameters, m, alpha=rate)
        else:
            torch._foreach_addcdiv_(parameters, m, _denominators(group, step, v), rate * factor)


def _decayed(group: dict[str, Any], parameters: list[Tensor]) -> list[Tensor]:
    """Return the gradients to use; coupled decay is in them, decoupled decay is applied to the parameters."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    decay = group["weight_decay"]
    if not decay:
        return gradients
    if group["decoupled_weight_decay"]:
        torch._foreach_mul_(parameters, 1 - group["lr"] * decay)
        return gradients
    return list(torch._foreach_add(gradients, parameters, alpha=decay))


def _to_square(squared: Squared, gradients: list[Tensor], m: list[Tensor]) -> list[Tensor]:
    if squared == "residual":
        return list(torch._foreach_sub(gradients, m))
    return m if squared == "momentum" else gradients


def _denominators(group: dict[str, Any], step: int, v: list[Tensor]) -> list[Tensor]:
    """Return √(v̂ + ε/(1 − β₂)) + outer·ε of every tensor."""
    _, beta2 = group["betas"]
    denominators = torch._foreach_mul(v, 1 / (1 - beta2**step))
    torch._foreach_add_(denominators, group["eps"] / (1 - beta2))
    torch._foreach_sqrt_(denominators)
    if group["outside"]:
        torch._foreach_add_(denominators, outer_weight(beta2, step, rectify=group["rectify"]) * group["eps"])
    return list(denominators)
