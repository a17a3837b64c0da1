"""VGG11 without batch norm, for CIFAR-10 as published with AdaBelief (classification_cifar10/models/vgg.py).

    (batch, 3, 32, 32)
    64 · pool · 128 · pool · 256 · 256 · pool · 512 · 512 · pool · 512 · 512 · pool      (batch, 512, 1, 1)
    flatten · dropout · dense 512 · ReLU · dropout · dense 512 · ReLU · dense 10         (batch, 10)

Convolutions are 3×3, followed by ReLU; pools are 2×2. Their weights start from N(0, σ = √(2 / (k·k·out))), their biases
at zero. 9,750,922 parameters for 3×32×32 inputs and 10 classes; larger images leave more to the first dense layer.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from epsgrid.models import require_images
from epsgrid.spec.options import Count, ModelOptions, Share

if TYPE_CHECKING:
    import torch

_POOL = 0
_WIDTHS = (1, _POOL, 2, _POOL, 4, 4, _POOL, 8, 8, _POOL, 8, 8, _POOL)
"""In multiples of the first one."""
_SHRINKS = 2 ** _WIDTHS.count(_POOL)


class Options(ModelOptions):
    """VGG11's settings; the published ones by default."""

    added_fields: ClassVar[frozenset[str]] = frozenset({"width"})

    dropout: Share = 0.5
    """In front of the first two dense layers."""
    width: Count = 64
    """Channels of the first convolution; 64 is VGG11, fewer make all its layers narrower."""


def build(options: Options, inputs: tuple[int, ...], outputs: int) -> torch.nn.Module:
    """Build VGG11 for images of at least 32×32 pixels."""
    from torch import nn

    from epsgrid.models._vision import dense_head

    channels, height, width = require_images("vgg11", inputs, smallest=_SHRINKS)
    layers: list[nn.Module] = []
    for multiple in _WIDTHS:
        if multiple == _POOL:
            layers.append(nn.MaxPool2d(2))
            continue
        after = options.width * multiple
        layer = nn.Conv2d(channels, after, kernel_size=3, padding=1)
        nn.init.normal_(layer.weight, 0.0, math.sqrt(2 / (3 * 3 * after)))
        assert layer.bias is not None
        nn.init.zeros_(layer.bias)
        layers += [layer, nn.ReLU(inplace=True)]
        channels = after
    pixels = (height // _SHRINKS) * (width // _SHRINKS)
    return nn.Sequential(*layers, *dense_head(channels * pixels, channels, outputs, options.dropout))
