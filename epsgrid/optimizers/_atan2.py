"""Adam with an arc tangent in place of the quotient; `epsgrid.optimizers.adam_atan2` has the rule."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch

from epsgrid.optimizers._in_place import state_of_next_step


class AdamAtan2(torch.optim.Optimizer):
    """The optimizer; state of a parameter: `step`, an int, `exp_avg`, m, and `exp_avg_sq`, v."""

    def __init__(
        self,
        parameters: Iterable[torch.nn.Parameter],
        *,
        lr: float,
        betas: tuple[float, float],
        weight_decay: float,
        scale: float,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "betas": betas, "weight_decay": weight_decay, "scale": scale})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step and return what the closure returned; a parameter without gradient does not count it."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = state_of_next_step(self, parameter)
                m, v = state["exp_avg"], state["exp_avg_sq"]
                m.lerp_(parameter.grad, 1 - beta1)
                v.mul_(beta2).addcmul_(parameter.grad, parameter.grad, value=1 - beta2)
                angle = torch.atan2(m / (1 - beta1 ** state["step"]), (v / (1 - beta2 ** state["step"])).sqrt_())
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(angle, alpha=-group["lr"] * group["scale"])
        return loss
