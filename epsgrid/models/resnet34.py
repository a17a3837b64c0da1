"""ResNet34 (He et al. 2016) with the stem of CIFAR-10: 3×3 instead of 7×7, no stride, no pool.

    (batch, 3, 32, 32)
    conv 3×3, 64 · batch norm · ReLU        (batch, 64, 32, 32)
    3 blocks of 64                          (batch, 64, 32, 32)
    4 blocks of 128, first of stride 2      (batch, 128, 16, 16)
    6 blocks of 256, first of stride 2      (batch, 256, 8, 8)
    3 blocks of 512, first of stride 2      (batch, 512, 4, 4)
    mean over pixels · dense 10             (batch, 10)

21,282,122 parameters for 3×32×32 inputs and 10 classes, from torch's defaults, as in kuangliu/pytorch-cifar
(models/resnet.py), which the published experiments of AdaBelief used.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from epsgrid.models import require_images
from epsgrid.spec.model import Count, ModelOptions

if TYPE_CHECKING:
    import torch

_BLOCKS = (3, 4, 6, 3)


class Options(ModelOptions):
    """ResNet34's settings."""

    width: Count = 64
    """Channels of the first stage; 64 is ResNet34, fewer make a small relative of it."""


def build(options: Options, inputs: tuple[int, ...], outputs: int) -> torch.nn.Module:
    """Build ResNet34 for images of at least 8×8 pixels."""
    from torch import nn

    from epsgrid.models._vision import BasicBlock

    channels, _, _ = require_images("resnet34", inputs, smallest=8)
    width = options.width
    parts: dict[str, nn.Module] = {
        "stem": nn.Conv2d(channels, width, kernel_size=3, padding=1, bias=False),
        "norm": nn.BatchNorm2d(width),
        "relu": nn.ReLU(inplace=True),
    }
    before = width
    for stage, count in enumerate(_BLOCKS, 1):
        after = width * 2 ** (stage - 1)
        first = BasicBlock(before, after, stride=1 if stage == 1 else 2)
        parts[f"stage{stage}"] = nn.Sequential(first, *(BasicBlock(after, after, stride=1) for _ in range(count - 1)))
        before = after
    parts |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "dense": nn.Linear(before, outputs)}
    return nn.Sequential(OrderedDict(parts))
