"""AlexNet (Krizhevsky et al. 2012, with the widths of Krizhevsky 2014), cut to 32×32 images.

The five convolutions, three dense layers and the dropout of the original are kept; as in the usual ports to CIFAR-10
the 11×11 stem of stride 4 becomes 3×3 of stride 2, the 5×5 becomes 3×3, and pools are 2×2 without overlap. The paper of
the probe names an AlexNet but its file is not public, so this is our choice. Layer by layer, with parameters:

    (batch, 3, 32, 32)
    conv 3×3, stride 2, 64 · ReLU · pool    (batch, 64, 8, 8)          1,792
    conv 3×3, 192 · ReLU · pool             (batch, 192, 4, 4)       110,784
    conv 3×3, 384 · ReLU                    (batch, 384, 4, 4)       663,936
    conv 3×3, 256 · ReLU                    (batch, 256, 4, 4)       884,992
    conv 3×3, 256 · ReLU · pool             (batch, 256, 2, 2)       590,080
    flatten · dropout · 4096 · ReLU         (batch, 4096)          4,198,400
    dropout · 4096 · ReLU                   (batch, 4096)         16,781,312
    10                                      (batch, 10)               40,970

23,272,266 parameters in all; they start from torch's defaults. Convolutions have padding 1. Larger images leave more
pixels, which the first dense layer takes in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from epsgrid.models import require_images
from epsgrid.spec.model import ModelOptions, Share

if TYPE_CHECKING:
    import torch

_SMALLEST = 15


class Options(ModelOptions):
    """The dropout in front of the first two dense layers; the original's by default."""

    dropout: Share = 0.5


def build(options: Options, inputs: tuple[int, ...], outputs: int) -> torch.nn.Module:
    """Build AlexNet for images of at least 15×15 pixels.

    Raises:
        SpecError: the task's examples are not images, or smaller ones.
    """
    from torch import nn

    channels, height, width = require_images("alexnet", inputs, smallest=_SMALLEST)
    # the stride of 2 rounds up, three pools round down
    rows, columns = ((pixels + 1) // 2 // 8 for pixels in (height, width))
    return nn.Sequential(
        nn.Conv2d(channels, 64, kernel_size=3, stride=2, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(64, 192, kernel_size=3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(192, 384, kernel_size=3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(384, 256, kernel_size=3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(256, 256, kernel_size=3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(options.dropout),
        nn.Linear(256 * rows * columns, 4096),
        nn.ReLU(inplace=True),
        nn.Dropout(options.dropout),
        nn.Linear(4096, 4096),
        nn.ReLU(inplace=True),
        nn.Linear(4096, outputs),
    )
