"""AlexNet (Krizhevsky et al. 2012, with the widths of Krizhevsky 2014), cut to 32×32 images.

    (batch, 3, 32, 32)
    conv 3×3, stride 2, 64 · ReLU · pool    (batch, 64, 8, 8)
    conv 3×3, 192 · ReLU · pool             (batch, 192, 4, 4)
    conv 3×3, 384 · ReLU                    (batch, 384, 4, 4)
    conv 3×3, 256 · ReLU                    (batch, 256, 4, 4)
    conv 3×3, 256 · ReLU · pool             (batch, 256, 2, 2)
    flatten · dropout · 4096 · ReLU · dropout · 4096 · ReLU · 10

Smaller kernels and pools as in the usual ports to CIFAR-10: the paper of the probe names an AlexNet, but its file is
not public. 23,272,266 parameters, from torch's defaults. Larger images leave more pixels to the first dense layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from epsgrid.models import require_images
from epsgrid.spec.options import ModelOptions, Share

if TYPE_CHECKING:
    import torch

_SMALLEST = 15


class Options(ModelOptions):
    """AlexNet's settings; the original's by default."""

    dropout: Share = 0.5
    """In front of the first two dense layers."""


def build(options: Options, inputs: tuple[int, ...], outputs: int) -> torch.nn.Module:
    """Build AlexNet for images of at least 15×15 pixels."""
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
