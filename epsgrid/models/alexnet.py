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

from typing import TYPE_CHECKING, ClassVar

from epsgrid.models import require_images
from epsgrid.spec.options import Count, ModelOptions, Share

if TYPE_CHECKING:
    import torch

_CONVOLUTIONS = ((1, 2, True), (3, 1, True), (6, 1, False), (4, 1, False), (4, 1, True))
"""Width of each in multiples of the first one's, its stride, and whether a pool follows it."""
_SMALLEST = 15


class Options(ModelOptions):
    """AlexNet's settings; the original's by default."""

    added_fields: ClassVar[frozenset[str]] = frozenset({"width"})

    dropout: Share = 0.5
    """In front of the first two dense layers."""
    width: Count = 64
    """Channels of the first convolution; 64 is AlexNet, fewer make all its layers narrower."""


def build(options: Options, inputs: tuple[int, ...], outputs: int) -> torch.nn.Module:
    """Build AlexNet for images of at least 15×15 pixels."""
    from torch import nn

    from epsgrid.models._vision import dense_head

    before, height, width = require_images("alexnet", inputs, smallest=_SMALLEST)
    layers: list[nn.Module] = []
    for multiple, stride, has_pool in _CONVOLUTIONS:
        after = options.width * multiple
        layers += [nn.Conv2d(before, after, kernel_size=3, stride=stride, padding=1), nn.ReLU(inplace=True)]
        layers += [nn.MaxPool2d(2)] if has_pool else []
        before = after
    # the stride of 2 rounds up, three pools round down
    rows, columns = ((pixels + 1) // 2 // 8 for pixels in (height, width))
    return nn.Sequential(*layers, *dense_head(before * rows * columns, 64 * options.width, outputs, options.dropout))
