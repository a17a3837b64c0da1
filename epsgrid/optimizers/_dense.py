"""Refuse sparse gradients in words that say what to change."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypeVar

from epsgrid.errors import SpecError

if TYPE_CHECKING:
    import torch

    AnyOptimizer = TypeVar("AnyOptimizer", bound=torch.optim.Optimizer)


def dense_only(name: str, optimizer: AnyOptimizer) -> AnyOptimizer:
    """Return the optimizer; from now on its step raises SpecError where a gradient is sparse.

    torch's own optimizers refuse them in words of their own, or, as Adagrad does, update only a part of v.
    """
    optimizer.register_step_pre_hook(functools.partial(_refuse_sparse_gradients, name))
    return optimizer


def _refuse_sparse_gradients(name: str, optimizer: torch.optim.Optimizer, *_: Any) -> None:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None and parameter.grad.is_sparse:
                shape = "×".join(map(str, parameter.shape))
                raise SpecError(
                    f"optimizer {name!r} needs dense gradients, and a parameter of shape {shape} has a sparse one;"
                    " build the model with torch.nn.Embedding(…, sparse=False)"
                )
