"""DenseNet121 (Huang et al. 2017, DenseNet-BC, growth 32) with the stem of CIFAR-10: 3×3, no stride, no pool.

    (batch, 3, 32, 32)
    conv 3×3, 64                            (batch, 64, 32, 32)
    6 layers of growth 32 · transition      (batch, 128, 16, 16)
    12 layers · transition                  (batch, 256, 8, 8)
    24 layers · transition                  (batch, 512, 4, 4)
    16 layers · norm · ReLU                 (batch, 1024, 4, 4)
    mean over pixels · dense 10             (batch, 10)

A transition is norm · ReLU · conv 1×1 to half the channels · mean pool 2×2. 6,956,298 parameters, from torch's
defaults, as in kuangliu/pytorch-cifar (models/densenet.py), which the published experiments of AdaBelief used.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from epsgrid.models import require_images
from epsgrid.spec.options import Count, ModelOptions

if TYPE_CHECKING:
    import torch

_BLOCKS = (6, 12, 24, 16)


class Options(ModelOptions):
    """DenseNet121's settings."""

    growth: Count = 32
    """Channels that each layer adds; 32 is DenseNet121, fewer make a small relative of it."""


def build(options: Options, inputs: tuple[int, ...], outputs: int) -> torch.nn.Module:
    """Build DenseNet121 for images of at least 8×8 pixels."""
    from torch import nn

    from epsgrid.models._vision import DenseLayer

    channels, _, _ = require_images("densenet121", inputs, smallest=8)
    growth, width = options.growth, 2 * options.growth
    parts: dict[str, nn.Module] = {"stem": nn.Conv2d(channels, width, kernel_size=3, padding=1, bias=False)}
    for block, count in enumerate(_BLOCKS, 1):
        if block > 1:
            parts[f"transition{block - 1}"] = nn.Sequential(
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
                nn.Conv2d(width, width // 2, kernel_size=1, bias=False),
                nn.AvgPool2d(2),
            )
            width //= 2
        layers = (DenseLayer(width + layer * growth, growth) for layer in range(count))
        parts[f"block{block}"] = nn.Sequential(*layers)
        width += count * growth
    parts |= {
        "norm": nn.BatchNorm2d(width),
        "relu": nn.ReLU(inplace=True),
        "pool": nn.AdaptiveAvgPool2d(1),
        "flatten": nn.Flatten(),
        "dense": nn.Linear(width, outputs),
    }
    return nn.Sequential(OrderedDict(parts))
