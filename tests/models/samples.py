"""Models of any plug-in, for tests."""

from __future__ import annotations

from typing import Any

import torch

from epsgrid import models


def build(name: str, inputs: tuple[int, ...] = (3, 32, 32), outputs: int = 10, **settings: Any) -> torch.nn.Module:
    plugin = models.load(name)
    return plugin.build(plugin.Options(name=name, **settings), inputs, outputs)


def count(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
