"""The residual network of CIFAR-10, in torch.nn."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


class BasicBlock(nn.Module):
    """Two 3×3 convolutions with a way around them; a 1×1 convolution on that way where the shape changes.

    x: (batch, before, h, w) → (batch, after, h / stride, w / stride)
    """

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.convolution1 = nn.Conv2d(before, after, kernel_size=3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(after)
        self.convolution2 = nn.Conv2d(after, after, kernel_size=3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(after)
        self.around: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            shortcut = nn.Conv2d(before, after, kernel_size=1, stride=stride, bias=False)
            self.around = nn.Sequential(shortcut, nn.BatchNorm2d(after))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the block's activations."""
        y = torch.relu(self.norm1(self.convolution1(x)))
        return torch.relu(self.norm2(self.convolution2(y)) + self.around(x))


def build_resnet(channels: int, outputs: int, width: int, blocks: Sequence[int]) -> nn.Sequential:
    """Build a residual network with the stem of CIFAR-10.

    Args:
        channels: of the images.
        outputs: number of classes.
        width: channels of the first stage; every further one doubles them and halves height and width.
        blocks: number of blocks of each stage.
    """
    stages = []
    before = width
    for stage, count in enumerate(blocks):
        after = width * 2**stage
        strides = [1 if stage == 0 else 2] + [1] * (count - 1)
        members = [BasicBlock(before if index == 0 else after, after, stride) for index, stride in enumerate(strides)]
        stages.append(nn.Sequential(*members))
        before = after
    return nn.Sequential(
        nn.Conv2d(channels, width, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        *stages,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(before, outputs),
    )
