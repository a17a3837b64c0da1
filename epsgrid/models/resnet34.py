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

from typing import TYPE_CHECKING

from epsgrid.models import require_images
from epsgrid.spec.options import Count, ModelOptions

if TYPE_CHECKING:
    import torch


class Options(ModelOptions):
    """ResNet34's settings."""

    width: Count = 64
    """Channels of the first stage; 64 is ResNet34, fewer make a small relative of it."""


def build(options: Options, inputs: tuple[int, ...], outputs: int) -> torch.nn.Module:
    """Build ResNet34 for images of at least 8×8 pixels."""
    channels, _, _ = require_images("resnet34", inputs, smallest=8)
    from epsgrid.models._vision import resnet

    return resnet((3, 4, 6, 3), options.width, channels, outputs)
