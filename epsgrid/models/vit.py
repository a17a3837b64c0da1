"""A small vision transformer (Dosovitskiy et al. 2021) for 32×32 images.

    (batch, 3, 32, 32)
    patches of 4×4, dense 192               (batch, 64, 192)            9,408
    plus learnt positions · dropout         (batch, 64, 192)           12,288
    6 layers                                (batch, 64, 192)    6 × 444,288
    layer norm · mean over patches          (batch, 192)                  384
    dense 10                                (batch, 10)                 1,930

A layer is x + attention(norm(x)) with 3 heads, then x + dense(GELU(dense(norm(x)))) with 768 channels between.
2,689,738 parameters in all. Width and heads are those of the smallest published one (ViT-Tiny, Touvron et al. 2021),
the mean over patches in place of a class token is that of Beyer, Zhai and Kolesnikov 2022; depth and patch are our
choice, so that it trains on 32×32 images. Queries, keys and values have no bias, which for keys would have no true
gradient: a bias of the keys shifts all scores of a query alike, which softmax undoes, and what rounding leaves of its
gradient would set the lower bound of ε by itself. Weights of dense layers and positions start from a normal
distribution cut at 2 σ, their biases at zero, patches at torch's default.

Shapes: b images, n patches, d channels, h heads.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, model_validator

from epsgrid.errors import SpecError
from epsgrid.models import require_images
from epsgrid.spec.model import ModelOptions

if TYPE_CHECKING:
    import torch

_SD = 0.02
_HIDDEN_FACTOR = 4
_Count = Annotated[int, Field(ge=1)]


class Options(ModelOptions):
    """Height and width of a patch, channels, layers, heads of attention, and dropout."""

    patch: _Count = 4
    width: _Count = 192
    depth: _Count = 6
    heads: _Count = 3
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Options:
        if self.width % self.heads:
            raise ValueError(f"width: {self.width} cannot be shared by {self.heads} heads; take a multiple of heads")
        return self


def build(options: Options, inputs: tuple[int, ...], outputs: int) -> torch.nn.Module:
    """Build the transformer for images that patches cover exactly.

    Raises:
        SpecError: the task's examples are not images, or patches do not fit into them.
    """
    channels, height, width = require_images("vit", inputs, smallest=options.patch)
    if height % options.patch or width % options.patch:
        raise SpecError(
            f"model vit: patches of {options.patch}×{options.patch} do not cover images of {height}×{width} pixels;"
            " set model.patch to a divisor of both, or resize the images"
        )
    patches = (height // options.patch) * (width // options.patch)
    return _model_class()(options, channels, patches, outputs)


@cache
def _layer_class() -> type[torch.nn.Module]:
    from torch import nn
    from torch.nn import functional as F

    class Attention(nn.Module):
        """Attention of every patch to every patch."""

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

    class Layer(nn.Module):
        """Attention, then two dense layers, each with a norm before and a residual connection around."""

        def __init__(self, width: int, heads: int, dropout: float) -> None:
            super().__init__()
            self.norm1 = nn.LayerNorm(width)
            self.attention = Attention(width, heads)
            self.norm2 = nn.LayerNorm(width)
            self.dense1 = nn.Linear(width, _HIDDEN_FACTOR * width)
            self.dense2 = nn.Linear(_HIDDEN_FACTOR * width, width)
            self.dropout = nn.Dropout(dropout)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            """(b, n, d) → (b, n, d)."""
            x = x + self.dropout(self.attention(self.norm1(x)))
            change: torch.Tensor = self.dropout(self.dense2(F.gelu(self.dense1(self.norm2(x)))))
            return x + change

    return Layer


@cache
def _model_class() -> type[torch.nn.Module]:
    import torch
    from torch import nn

    class VisionTransformer(nn.Module):
        """Cut images into patches and classify the mean of the last layer over them."""

        def __init__(self, options: Options, channels: int, patches: int, outputs: int) -> None:
            super().__init__()
            width, layer = options.width, _layer_class()
            self.patches = nn.Conv2d(channels, width, kernel_size=options.patch, stride=options.patch)
            self.positions = nn.Parameter(torch.empty(patches, width))
            self.dropout = nn.Dropout(options.dropout)
            self.layers = nn.Sequential(*(layer(width, options.heads, options.dropout) for _ in range(options.depth)))
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

    return VisionTransformer
