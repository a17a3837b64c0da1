"""The modules that models of images are built of, and the layers of `gpt`; their `Options` need no torch."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

_SD = 0.02


class BasicBlock(nn.Module):
    """Two 3×3 convolutions with a shortcut around them, which has a 1×1 convolution if the shape changes."""

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
        """(batch, before, h, w) → (batch, after, h / stride, w / stride)."""
        y = torch.relu(self.norm1(self.convolution1(x)))
        return torch.relu(self.norm2(self.convolution2(y)) + self.around(x))


def resnet(blocks: tuple[int, ...], width: int, channels: int, outputs: int) -> nn.Module:
    """Return a ResNet with so many basic blocks in each stage, `width` channels in the first one."""
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


def dense_head(before: int, width: int, outputs: int, dropout: float) -> list[nn.Module]:
    """Return three dense layers for what comes flattened, with dropout in front of the first two."""
    layers: list[nn.Module] = [nn.Flatten()]
    for _ in range(2):
        layers += [nn.Dropout(dropout), nn.Linear(before, width), nn.ReLU(inplace=True)]
        before = width
    return [*layers, nn.Linear(width, outputs)]


class DenseLayer(nn.Module):
    """Add `growth` channels, computed from all that come in through a 1×1 and a 3×3 convolution."""

    def __init__(self, before: int, growth: int) -> None:
        super().__init__()
        inner = 4 * growth
        self.norm1 = nn.BatchNorm2d(before)
        self.convolution1 = nn.Conv2d(before, inner, kernel_size=1, bias=False)
        self.norm2 = nn.BatchNorm2d(inner)
        self.convolution2 = nn.Conv2d(inner, growth, kernel_size=3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, before, h, w) → (batch, growth + before, h, w), the new channels first."""
        y = self.convolution1(torch.relu(self.norm1(x)))  # (batch, inner, h, w)
        y = self.convolution2(torch.relu(self.norm2(y)))  # (batch, growth, h, w)
        return torch.cat([y, x], 1)


class _Attention(nn.Module):
    """Attention of every patch to every patch. Shapes: b images, n patches, d channels, h heads."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.inputs = nn.Linear(width, 3 * width, bias=False)
        self.outputs = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, n, d) → (b, n, d)."""
        b, n, d = x.shape
        query, key, value = self.inputs(x).view(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        gathered = F.scaled_dot_product_attention(query, key, value)  # (b, h, n, d / h)
        result: torch.Tensor = self.outputs(gathered.transpose(1, 2).reshape(b, n, d))
        return result


class PreNormLayer(nn.Module):
    """Attention, then two dense layers, each with a norm before and a residual connection around."""

    def __init__(self, width: int, attention: nn.Module, dropout: float, *, bias: bool = True) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, bias=bias)
        self.attention = attention
        self.norm2 = nn.LayerNorm(width, bias=bias)
        self.dense1 = nn.Linear(width, 4 * width, bias=bias)
        self.dense2 = nn.Linear(4 * width, width, bias=bias)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(…, …, width) → the same."""
        x = x + self.dropout(self.attention(self.norm1(x)))
        change: torch.Tensor = self.dropout(self.dense2(F.gelu(self.dense1(self.norm2(x)))))
        return x + change


class VisionTransformer(nn.Module):
    """Cut images into patches and classify the mean of the last layer over them."""

    def __init__(self, options: Any, channels: int, patches: int, outputs: int) -> None:
        super().__init__()
        width, dropout = options.width, options.dropout
        self.patches = nn.Conv2d(channels, width, kernel_size=options.patch, stride=options.patch)
        self.positions = nn.Parameter(torch.empty(patches, width))
        self.dropout = nn.Dropout(dropout)
        attentions = (_Attention(width, options.heads) for _ in range(options.depth))
        self.layers = nn.Sequential(*(PreNormLayer(width, each, dropout) for each in attentions))
        self.norm = nn.LayerNorm(width)
        self.dense = nn.Linear(width, outputs)
        nn.init.trunc_normal_(self.positions, std=_SD, a=-2 * _SD, b=2 * _SD)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=_SD, a=-2 * _SD, b=2 * _SD)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(b, channels, height, width) → scores (b, outputs)."""
        x = self.patches(images).flatten(2).transpose(1, 2)  # (b, n, d)
        x = self.layers(self.dropout(x + self.positions))
        scores: torch.Tensor = self.dense(self.norm(x).mean(1))
        return scores
