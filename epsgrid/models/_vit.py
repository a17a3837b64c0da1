"""A vision transformer, in torch.nn and the fused attention of torch.

Shapes: b images, n patches, d channels, h heads.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

_SD = 0.02
_HIDDEN = 4


class Attention(nn.Module):
    """Attention of every patch to every patch. x: (b, n, d) → (b, n, d).

    Queries, keys and values have no bias. That of the keys would shift all scores of a query alike, which softmax
    undoes: its true gradient is zero, and what rounding leaves of it would set the lower bound of ε by itself.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.inputs = nn.Linear(width, 3 * width, bias=False)
        self.outputs = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return what each patch gathers."""
        b, n, d = x.shape
        query, key, value = self.inputs(x).view(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        gathered = F.scaled_dot_product_attention(query, key, value)  # (b, h, n, d / h)
        result: torch.Tensor = self.outputs(gathered.transpose(1, 2).reshape(b, n, d))
        return result


class Layer(nn.Module):
    """Attention, then two dense layers, each normalised before and added to what came in. x: (b, n, d) → (b, n, d)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.dense1 = nn.Linear(width, _HIDDEN * width)
        self.dense2 = nn.Linear(_HIDDEN * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the layer's activations."""
        x = x + self.dropout(self.attention(self.norm1(x)))
        change: torch.Tensor = self.dropout(self.dense2(F.gelu(self.dense1(self.norm2(x)))))
        return x + change


class VisionTransformer(nn.Module):
    """Cut images into patches and classify the mean of what layers of attention make of them.

    Args:
        channels: of the images.
        patches: how many fit into an image: rows, columns.
        patch: height and width of one.
        outputs: number of classes.
        width: d.
        depth: number of layers.
        heads: of attention; divides `width`.
        dropout: after the positions are added and at the end of both halves of a layer.
    """

    def __init__(
        self,
        channels: int,
        patches: tuple[int, int],
        patch: int,
        outputs: int,
        *,
        width: int,
        depth: int,
        heads: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(channels, width, kernel_size=patch, stride=patch)
        self.positions = nn.Parameter(torch.empty(patches[0] * patches[1], width))
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.Sequential(*(Layer(width, heads, dropout) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.dense = nn.Linear(width, outputs)
        self._draw()

    def _draw(self) -> None:
        """Draw dense layers and positions from a normal distribution cut at 2 σ, biases zero; patches as torch does."""
        nn.init.trunc_normal_(self.positions, std=_SD, a=-2 * _SD, b=2 * _SD)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=_SD, a=-2 * _SD, b=2 * _SD)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the scores, (b, outputs), of images, (b, channels, height, width)."""
        x = self.patches(images).flatten(2).transpose(1, 2)  # (b, n, d)
        x = self.layers(self.dropout(x + self.positions))
        scores: torch.Tensor = self.dense(self.norm(x).mean(1))
        return scores
