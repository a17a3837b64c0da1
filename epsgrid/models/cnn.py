"""A small CNN with batch norm: what convolutions do to √v̂, on a processor, in seconds.

    (batch, c, h, w)
    for each of `channels`: conv 3×3 · batch norm · ReLU · max pool 2×2      (batch, channels, h / 2, w / 2)
    mean over pixels · dense                                                 (batch, outputs)

24,346 parameters for 3×32×32 inputs, 10 classes and channels 16, 32, 64, from torch's defaults.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from epsgrid.models import require_images
from epsgrid.spec.options import Count, ModelOptions

if TYPE_CHECKING:
    import torch


class Options(ModelOptions):
    """The convolutions."""

    channels: Annotated[tuple[Count, ...], Field(min_length=1)] = (16, 32, 64)
    """Channels of each convolution; behind each, a pool halves height and width."""


def build(options: Options, inputs: tuple[int, ...], outputs: int) -> torch.nn.Module:
    """Build the CNN for images that can be halved once for each convolution."""
    from torch import nn

    before, _, _ = require_images("cnn", inputs, smallest=2 ** len(options.channels))
    layers: list[nn.Module] = []
    for after in options.channels:
        convolution = nn.Conv2d(before, after, kernel_size=3, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(after), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
        before = after
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, outputs))
