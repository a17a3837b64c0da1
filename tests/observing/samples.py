"""Small trainings to observe, and what ε is compared with in numpy, read straight from the state of each optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from epsgrid.optimizers._in_place import EpsilonInPlace

Build = Callable[[Iterable[Any]], torch.optim.Optimizer]

RATE = 0.01


def in_place(squared: str, **settings: Any) -> Build:
    common = {"lr": RATE, "betas": (0.9, 0.99), "eps": 1e-12, "weight_decay": 0.0, "decoupled_weight_decay": False}
    return lambda parameters: EpsilonInPlace(parameters, **{**common, **settings}, squared=squared)  # type: ignore[arg-type]


def torchs(cls: type[torch.optim.Optimizer], **settings: Any) -> Build:
    return lambda parameters: cls(parameters, **{"lr": RATE, **settings})  # type: ignore[arg-type]


OPTIMIZERS: dict[str, Build] = {
    "adabelief": in_place("residual", outside=True),
    "adabelief-rectified": in_place("residual", outside=True, rectify=True),
    "adadelta": torchs(torch.optim.Adadelta, rho=0.8),
    "adagrad": torchs(torch.optim.Adagrad),
    "adagrad-fused": torchs(torch.optim.Adagrad, fused=True),
    "adam": torchs(torch.optim.Adam, betas=(0.9, 0.99)),
    "adam-beta2-zero": torchs(torch.optim.Adam, betas=(0.9, 0.0), eps=0.1),
    "adam-fused": torchs(torch.optim.Adam, fused=True),
    "adam-loop": torchs(torch.optim.Adam, foreach=False),
    "adam-tensors": lambda parameters: torch.optim.Adam(
        parameters, lr=torch.tensor(RATE), betas=(torch.tensor(0.9), torch.tensor(0.99)), foreach=False
    ),
    "adamax": torchs(torch.optim.Adamax, eps=2.0**-126),
    "adamomentum": in_place("momentum"),
    "adamw": torchs(torch.optim.AdamW),
    "amsgrad": torchs(torch.optim.Adam, amsgrad=True, betas=(0.9, 0.5)),
    "eadam": in_place("gradient"),
    "nadam": torchs(torch.optim.NAdam),
    "radam": torchs(torch.optim.RAdam, betas=(0.9, 0.99)),
    "rmsprop": torchs(torch.optim.RMSprop),
    "rmsprop-centered": torchs(torch.optim.RMSprop, centered=True, momentum=0.5),
}


def squares(optimizer: torch.optim.Optimizer, parameter: torch.Tensor) -> tuple[np.ndarray, float]:
    """Return v of a parameter in float64 and the factor with v̂ = v · factor, from the optimizer's published rule."""
    state = {
        key: value.detach().double().numpy() if isinstance(value, torch.Tensor) else value
        for key, value in optimizer.state[parameter].items()
    }
    (group,) = (group for group in optimizer.param_groups if any(parameter is member for member in group["params"]))
    if isinstance(optimizer, torch.optim.Adagrad):
        return state["sum"], 1.0
    if isinstance(optimizer, torch.optim.Adadelta):
        return state["square_avg"], 1.0
    if isinstance(optimizer, torch.optim.Adamax):
        return np.square(np.maximum(state["exp_inf"] - group["eps"], 0)), 1.0
    if isinstance(optimizer, torch.optim.RMSprop):
        if not group["centered"]:
            return state["square_avg"], 1.0
        v = optimizer.state[parameter]["square_avg"].numpy()
        mean = optimizer.state[parameter]["grad_avg"].numpy()
        return np.maximum(v - mean * mean, 0).astype(np.float64), 1.0
    key = "max_exp_avg_sq" if group.get("amsgrad") else "exp_avg_sq"
    return state[key], 1 / (1 - float(group["betas"][1]) ** float(state["step"]))


def mlp(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """A network of three kinds of layers, with dropout, the same one every time."""
    torch.manual_seed(0)
    layers = (nn.Linear(6, 40), nn.Dropout(0.2), nn.LayerNorm(40), nn.ReLU(), nn.Linear(40, 3))
    return nn.Sequential(*layers).to(dtype)


def batches(count: int, start: int = 0, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    """Draw batches; what does not depend on the global generator."""
    return [
        torch.randn(16, 6, generator=torch.Generator().manual_seed(number)).to(dtype)
        for number in range(start, start + count)
    ]


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, start: int = 0) -> None:
    """Train on the squares of the outputs, which depend on all parameters."""
    dtype = next(model.parameters()).dtype
    for batch in batches(steps, start, dtype):
        optimizer.zero_grad()
        model(batch).square().mean().backward()
        optimizer.step()


def network(*middle: nn.Module) -> nn.Sequential:
    """A classifier, the same one every time; unless told otherwise with batch norm, before which a bias is noise."""
    torch.manual_seed(0)
    middle = middle or (nn.BatchNorm1d(20), nn.Tanh(), nn.Dropout(0.2))
    return nn.Sequential(nn.Linear(6, 20), *middle, nn.Linear(20, 4))


def labelled(count: int = 12) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Batches for `network`."""
    torch.manual_seed(1)
    return [(torch.randn(16, 6), torch.randint(4, (16,))) for _ in range(count)]


def cross_entropy(model: nn.Module, batch: Any) -> torch.Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


def found(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return everything that looking must not change: identities and bits."""

    def bits(value: Any) -> Any:
        return (id(value), value.detach().numpy().tobytes()) if isinstance(value, torch.Tensor) else value

    return {
        "parameters": {name: (bits(p), p.requires_grad) for name, p in model.named_parameters()},
        "gradients": {name: None if p.grad is None else bits(p.grad) for name, p in model.named_parameters()},
        "buffers": {name: bits(b) for name, b in model.named_buffers()},
        "modes": {name: module.training for name, module in model.named_modules()},
        "state": {id(p): {k: bits(v) for k, v in state.items()} for p, state in optimizer.state.items()},
        "groups": [
            (id(group), {k: bits(v) for k, v in group.items() if k != "params"}, list(map(id, group["params"])))
            for group in optimizer.param_groups
        ],
        "random": torch.get_rng_state().numpy().tobytes(),
    }


def order_statistics(v: np.ndarray, scale: float = 1.0, tail: float = 0.02) -> tuple[float, float]:
    """Return the published order statistics of √(v · scale) over the entries that are not zero, by a sort."""
    ordered = np.sort(np.sqrt(v[v != 0].astype(np.float64) * scale), axis=None)
    n = len(ordered)
    return ordered[int(tail * n)], ordered[min(int((1 - tail) * n), n - 1)]
