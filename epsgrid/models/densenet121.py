"""DenseNet121 (Huang et al. 2017, DenseNet-BC, growth 32) with the stem of CIFAR-10: 3×3, no stride, no pool.

    (batch, 3, 32, 32)
    conv 3×3, 64                            (batch, 64, 32, 32)
    6 layers of growth 32 · transition      (batch, 128, 16, 16)
    12 layers · transition                  (batch, 256, 8, 8)
    24 layers · transition                  (batch, 512, 4, 4)
    16 layers · norm · ReLU                 (batch, 1024, 4, 4)
    mean over pixels · dense 10             (batch, 10)

A layer is norm · ReLU · conv 1×1 to 128 · norm · ReLU · conv 3×3 to 32, whose result goes in front of its input; a
transition is norm · ReLU · conv 1×1 to half the channels · mean pool 2×2. Convolutions have no bias. 6,956,298
parameters for 3×32×32 inputs and 10 classes, as in the widely used CIFAR code (kuangliu/pytorch-cifar,
models/densenet.py, DenseNet121) from which the published experiments of AdaBound and AdaBelief took theirs. Initial
weights are torch's defaults, as there. Larger images leave more pixels to average over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from epsgrid.models._images import require_images
from epsgrid.spec.model import ModelOptions

if TYPE_CHECKING:
    import torch

_BLOCKS = (6, 12, 24, 16)
_SMALLEST = 8


class Options(ModelOptions):
    """Channels that each layer adds; 32 is DenseNet121, fewer make a small relative of it for trying things out."""

    growth: Annotated[int, Field(ge=1)] = 32


def build(options: Options, inputs: tuple[int, ...], outputs: int) -> torch.nn.Module:
    """Build DenseNet121 for images of at least 8×8 pixels.

    Raises:
        SpecError: the task's examples are no images, or smaller ones.
    """
    from epsgrid.models._densenet import build_densenet

    channels, _, _ = require_images("densenet121", inputs, smallest=_SMALLEST)
    return build_densenet(channels, outputs, options.growth, _BLOCKS)
