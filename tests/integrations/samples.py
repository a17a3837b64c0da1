"""A small training that both callbacks follow, and the same by a loop of one's own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

import epsgrid

EXAMPLES, BATCH, EPOCH = 48, 8, 6


class Model(nn.Module):
    """The same weights every time; gives what the Trainer of transformers wants."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
        self.scale = scale

    def forward(self, inputs: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        logits = self.net(inputs)
        return {"loss": nn.functional.cross_entropy(logits, labels) * self.scale, "logits": logits}


def adam(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=1e-2)


def data() -> torch.utils.data.TensorDataset:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(EXAMPLES, 8, generator=generator)
    return torch.utils.data.TensorDataset(inputs, torch.randint(3, (EXAMPLES,), generator=generator))


def by_hand(epochs: int = 1, order: Sequence[int] = range(EPOCH)) -> Any:
    """Train on batches in some order; return the bounds and the weights."""
    batches = list(torch.utils.data.DataLoader(data(), batch_size=BATCH))
    model = Model()
    optimizer = adam(model.parameters())
    with epsgrid.observe(optimizer, model=model) as observer:
        for _ in range(epochs):
            for number in order:
                optimizer.zero_grad()
                model(*batches[number])["loss"].backward()
                optimizer.step()
    return observer.bounds(), model.state_dict()
