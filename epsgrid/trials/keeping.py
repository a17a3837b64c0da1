"""Keep the weights that are scored in the end: those of the best epoch, or the mean over the last epochs."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch


@dataclass
class KeptWeights:
    """Weights set aside while training goes on.

    Attributes:
        total: sum of state_dicts by name; floating tensors in float64 where several are summed.
        epochs: how many epochs' weights are in the sum.
    """

    total: dict[str, torch.Tensor] = field(default_factory=dict)
    epochs: int = 0

    def replace(self, model: torch.nn.Module) -> None:
        """Keep the model's present weights instead of those kept so far."""
        self.total = {name: value.detach().clone() for name, value in model.state_dict().items()}
        self.epochs = 1

    def add(self, model: torch.nn.Module) -> None:
        """Add the model's present weights to the sum; of a tensor of integers the latest is kept."""
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                before = self.total.get(name, torch.zeros((), dtype=torch.float64, device=value.device))
                self.total[name] = before + value.detach().double()
            else:
                self.total[name] = value.detach().clone()
        self.epochs += 1

    def load_into(self, model: torch.nn.Module) -> None:
        """Give the model the mean of what was kept."""
        assert self.epochs
        means = {
            name: value / self.epochs if value.is_floating_point() and self.epochs > 1 else value
            for name, value in self.total.items()
        }
        model.load_state_dict(means)
