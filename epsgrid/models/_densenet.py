"""The densely connected network of CIFAR-10, in torch.nn."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import nn

_BOTTLENECK = 4


class DenseLayer(nn.Module):
    """Add `growth` channels to those that come in, computed from all of them through a 1×1 and a 3×3 convolution.

    x: (batch, before, h, w) → (batch, growth + before, h, w)
    """

    def __init__(self, before: int, growth: int) -> None:
        super().__init__()
        inner = _BOTTLENECK * growth
        self.norm1 = nn.BatchNorm2d(before)
        self.convolution1 = nn.Conv2d(before, inner, kernel_size=1, bias=False)
        self.norm2 = nn.BatchNorm2d(inner)
        self.convolution2 = nn.Conv2d(inner, growth, kernel_size=3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the new channels followed by those that came in."""
        y = self.convolution1(torch.relu(self.norm1(x)))
        y = self.convolution2(torch.relu(self.norm2(y)))
        return torch.cat([y, x], 1)


def build_densenet(channels: int, outputs: int, growth: int, blocks: Sequence[int]) -> nn.Sequential:
    """Build a DenseNet-BC with compression ½ and the stem of CIFAR-10.

    Args:
        channels: of the images.
        outputs: number of classes.
        growth: channels that each layer adds.
        blocks: number of layers of each block; between blocks channels, height and width are halved.
    """
    width = 2 * growth
    parts: dict[str, nn.Module] = {"stem": nn.Conv2d(channels, width, kernel_size=3, padding=1, bias=False)}
    for block, count in enumerate(blocks, 1):
        if block > 1:
            parts[f"transition{block - 1}"] = _transition(width, width // 2)
            width //= 2
        layers = (DenseLayer(width + layer * growth, growth) for layer in range(count))
        parts[f"block{block}"] = nn.Sequential(*layers)
        width += count * growth
    parts |= {
        "norm": nn.BatchNorm2d(width),
        "relu": nn.ReLU(inplace=True),
        "pool": nn.AdaptiveAvgPool2d(1),
        "flatten": nn.Flatten(),
        "dense": nn.Linear(width, outputs),
    }
    return nn.Sequential(OrderedDict(parts))


def _transition(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.BatchNorm2d(before),
        nn.ReLU(inplace=True),
        nn.Conv2d(before, after, kernel_size=1, bias=False),
        nn.AvgPool2d(2),
    )
