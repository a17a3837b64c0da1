"""A decoder-only transformer, GPT (Radford et al. 2019) in the shape of nanoGPT, small enough for a word task.

    tokens → embedding → dropout → [x + attention(norm(x)) → x + dense(GELU(dense(norm(x))))]·layers → norm → dense

Attention is causal, with rotary positions (Su et al. 2021), so stretches of text of any length can be read; nothing is
carried from one to the next. A layer's hidden width is 4·`width`, and there are no biases: the gradient of the keys' is
rounding noise. The dense layer is not tied to the embedding. 8,268,032 parameters at the defaults and 10,000 words.

Weights start from N(0, σ²); n is the numbers that a matrix reads, d is `width / heads`, m is `width / base_width`:

    parametrization   σ: embedding   within layers   last dense   softmax of   learning rate of dense weights
    standard          0.02           1 / √(3n)       1 / √(3n)    q·k / √d     the spec's
    mup               0.02           1 / √(3n)       1 / √(3nm)   q·k · 8/d    the spec's / m

The second matrix of attention and of dense layers starts √(2·`layers`) times smaller. 1 / √(3n) is GPT-2's 0.02 at its
width of 768. `mup` is the maximal-update parametrization for Adam and its kin (Yang, Hu et al. 2022, arXiv 2203.03466,
tables 3 and 8; Everett et al. 2024, arXiv 2407.05872), with which the best learning rate stays where it is as the width
grows. At `width = base_width` and d = 64 both are the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import model_validator

from epsgrid.models import require_text
from epsgrid.spec.options import Count, ModelOptions, Share

if TYPE_CHECKING:
    import torch


class Options(ModelOptions):
    """Sizes and dropout, and how weights and learning rates go with the width."""

    width: Count = 256
    """Width of the embedding and the layers."""
    layers: Count = 4
    """Layers."""
    heads: Count = 4
    """Heads of attention; `width` is a multiple of twice them."""
    dropout: Share = 0.1
    """Behind the embedding, and in every layer."""
    parametrization: Literal["standard", "mup"] = "standard"
    """mup is the maximal-update parametrization, with which the best learning rate stays where it is as the width
    grows."""
    base_width: Count | None = None
    """The width at which the learning rates of mup are those of the spec. null: with standard."""

    @model_validator(mode="after")
    def _fields_fit_together(self) -> Options:
        if (self.base_width is None) is (self.parametrization == "mup"):
            raise ValueError(
                "parametrization: mup needs base_width, such as 256, the width at which the learning rates were chosen;"
                " standard has none"
            )
        if self.width % (2 * self.heads):
            raise ValueError(
                f"width: {self.width} must be a multiple of twice the heads, {self.heads}, for positions turn pairs"
            )
        return self


def build(options: Options, inputs: tuple[int, ...], outputs: int) -> torch.nn.Module:
    """Build the model for a vocabulary of `outputs` words; `inputs` are () for text."""
    require_text("gpt", inputs)
    from epsgrid.models._language import Gpt

    return Gpt(options, outputs)
