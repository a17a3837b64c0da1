"""ResNet34 (He et al. 2016) with the stem of CIFAR-10: 3×3 instead of 7×7, no stride, no pool.

    (batch, 3, 32, 32)
    conv 3×3, 64 · batch norm · ReLU        (batch, 64, 32, 32)
    3 blocks of 64                          (batch, 64, 32, 32)
    4 blocks of 128, first of stride 2      (batch, 128, 16, 16)
    6 blocks of 256, first of stride 2      (batch, 256, 8, 8)
    3 blocks of 512, first of stride 2      (batch, 512, 4, 4)
    mean over pixels · dense 10             (batch, 10)

A block is conv 3×3 · norm · ReLU · conv 3×3 · norm, plus its input (through a 1×1 convolution and norm where the shape
changes), then ReLU. Convolutions have no bias: a batch norm follows. 21,282,122 parameters for 3×32×32 inputs and 10
classes, as in the widely used CIFAR code (kuangliu/pytorch-cifar, models/resnet.py) from which the published
experiments of AdaBound and AdaBelief took theirs. Initial weights are torch's defaults, as there. Larger images leave
more pixels to average over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from epsgrid.models._images import require_images
from epsgrid.spec.model import ModelOptions

if TYPE_CHECKING:
    import torch

_BLOCKS = (3, 4, 6, 3)
_SMALLEST = 8


class Options(ModelOptions):
    """Channels of the first stage; 64 is ResNet34, fewer make a small relative of it for trying things out."""

    width: Annotated[int, Field(ge=1)] = 64


def build(options: Options, inputs: tuple[int, ...], outputs: int) -> torch.nn.Module:
    """Build ResNet34 for images of at least 8×8 pixels.

    Raises:
        SpecError: the task's examples are no images, or smaller ones.
    """
    from epsgrid.models._resnet import build_resnet

    channels, _, _ = require_images("resnet34", inputs, smallest=_SMALLEST)
    return build_resnet(channels, outputs, options.width, _BLOCKS)
