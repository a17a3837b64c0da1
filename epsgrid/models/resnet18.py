"""ResNet18 (He et al. 2016) with the stem of CIFAR-10: `resnet34` with two blocks in each stage.

11,173,962 parameters for 3×32×32 inputs and 10 classes, from torch's defaults, as in kuangliu/pytorch-cifar
(models/resnet.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from epsgrid.models import require_images
from epsgrid.spec.options import Count, ModelOptions

if TYPE_CHECKING:
    import torch


class Options(ModelOptions):
    """ResNet18's settings."""

    width: Count = 64
    """Channels of the first stage; 64 is ResNet18, fewer make a small relative of it."""


def build(options: Options, inputs: tuple[int, ...], outputs: int) -> torch.nn.Module:
    """Build ResNet18 for images of at least 8×8 pixels."""
    channels, _, _ = require_images("resnet18", inputs, smallest=8)
    from epsgrid.models._vision import resnet

    return resnet((2, 2, 2, 2), options.width, channels, outputs)
