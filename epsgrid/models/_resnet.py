"""The residual network of CIFAR-10, in torch.nn."""

from __future__ import annotations

from collections import OrderedDict
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
    parts: dict[str, nn.Module] = {
        "stem": nn.Conv2d(channels, width, kernel_size=3, padding=1, bias=False),
        "norm": nn.BatchNorm2d(width),
        "relu": nn.ReLU(inplace=True),
    }
    before = width
    for stage, count in enumerate(blocks, 1):
        after = width * 2 ** (stage - 1)
        first = BasicBlock(before, after, stride=1 if stage == 1 else 2)
        parts[f"stage{stage}"] = nn.Sequential(first, *(BasicBlock(after, after, stride=1) for _ in range(count - 1)))
        before = after
    parts |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "dense": nn.Linear(before, outputs)}
    return nn.Sequential(OrderedDict(parts))
