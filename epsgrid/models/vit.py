"""A small vision transformer (Dosovitskiy et al. 2021) for 32×32 images.

    (batch, 3, 32, 32)
    patches of 4×4, dense 192               (batch, 64, 192)
    plus learnt positions · dropout         (batch, 64, 192)
    6 layers                                (batch, 64, 192)
    layer norm · mean over patches · 10     (batch, 10)

A layer is x + attention(norm(x)) with 3 heads, then x + dense(GELU(dense(norm(x)))) with 768 channels between;
2,689,738 parameters. Width and heads are those of ViT-Tiny (Touvron et al. 2021), the mean over patches is that of
Beyer, Zhai and Kolesnikov 2022. Queries, keys and values have no bias: the gradient of the keys' would be rounding
noise that sets the lower bound of ε. Dense layers and positions start from a normal distribution cut at 2 σ.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import model_validator

from epsgrid.errors import SpecError
from epsgrid.models import require_images
from epsgrid.spec.options import Count, ModelOptions, Share

if TYPE_CHECKING:
    import torch


class Options(ModelOptions):
    """Sizes and dropout."""

    patch: Count = 4
    """Height and width of a patch, in pixels."""
    width: Count = 192
    """Channels."""
    depth: Count = 6
    """Layers."""
    heads: Count = 3
    """Heads of attention; `width` is a multiple of them."""
    dropout: Share = 0.1
    """Behind the positions, and in every layer."""

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Options:
        if self.width % self.heads:
            raise ValueError(f"width: {self.width} cannot be shared by {self.heads} heads; take a multiple of heads")
        return self


def build(options: Options, inputs: tuple[int, ...], outputs: int) -> torch.nn.Module:
    """Build the transformer for images that patches cover exactly."""
    from epsgrid.models._vision import VisionTransformer

    channels, height, width = require_images("vit", inputs, smallest=options.patch)
    if height % options.patch or width % options.patch:
        raise SpecError(
            f"model vit: patches of {options.patch}×{options.patch} do not cover images of {height}×{width} pixels;"
            " set model.patch to a divisor of both, or resize the images"
        )
    patches = (height // options.patch) * (width // options.patch)
    return VisionTransformer(options, channels, patches, outputs)
