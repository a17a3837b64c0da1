"""Multilayer perceptron: flatten, then dense layers with ReLU between them.

    x: (batch, …) → flatten (batch, d) → [Linear → ReLU → Dropout] for each width of `hidden` → Linear (batch, outputs)

Initial weights are torch's defaults for Linear. Dropout layers are there only where `dropout` > 0.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

from epsgrid.errors import SpecError
from epsgrid.spec.options import Count, ModelOptions, Share

if TYPE_CHECKING:
    import torch


class Options(ModelOptions):
    """Sizes and dropout."""

    hidden: tuple[Count, ...] = (512, 256)
    """Widths of the hidden layers; [] is softmax regression."""
    dropout: Share = 0.0
    """Behind each hidden layer."""


def build(options: Options, inputs: tuple[int, ...], outputs: int) -> torch.nn.Module:
    """Build the perceptron for examples of any shape but text."""
    if not inputs:
        raise SpecError("model mlp reads no text; use `model: gpt`, `model: awd_lstm` or `model: lstm`")
    from torch import nn

    widths = (math.prod(inputs), *options.hidden)
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU(inplace=True)]
        if options.dropout:
            layers.append(nn.Dropout(options.dropout))
    return nn.Sequential(*layers, nn.Linear(widths[-1], outputs))
