"""Transformer for translation (Vaswani et al. 2017), in the shape of fairseq's transformer_iwslt_de_en.

    source tokens → embedding · √width + position → encoder layers ──────────┐ memory
    target tokens → embedding · √width + position → decoder layers (attend to it) → scores over the target dictionary

Each stage of a layer has a residual connection: norm(x + dropout(f(x))) with `norm: post`, as published first, or
x + dropout(f(norm(x))) with a last norm at the end of either stack with `norm: pre`. The decoder's embedding also
gives the scores. 39,469,056 parameters at the defaults and dictionaries of 8,848 and 6,632. Weights start as fairseq's.

Softmax does not see a bias of the keys: its true gradient is zero, and its computed one is rounding noise that would
set a lower bound of ε by itself. The published model has these biases; `key_bias: false` leaves them out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import model_validator

from epsgrid.errors import SpecError
from epsgrid.spec.options import Count, ModelOptions, Share

if TYPE_CHECKING:
    import torch


class Options(ModelOptions):
    """Sizes, dropouts and the places of norms; the published IWSLT14 model by default."""

    encoder_layers: Count = 6
    """Layers of the encoder."""
    decoder_layers: Count = 6
    """Layers of the decoder."""
    width: Count = 512
    """Width of the embeddings and layers."""
    ffn: Count = 1024
    """Width between the two dense layers of each layer."""
    heads: Count = 4
    """Heads of attention; `width` is a multiple of them."""
    dropout: Share = 0.3
    """Behind the embeddings and behind each part of a layer."""
    attention_dropout: Share = 0.0
    """On the weights of the attention."""
    activation_dropout: Share = 0.0
    """Behind the ReLU."""
    norm: Literal["post", "pre"] = "post"
    """Layer norm behind each part of a layer, or in front of it."""
    shared: Literal["decoder"] = "decoder"  # of an earlier version, and so part of the ids of its trials
    key_bias: bool = True
    """Whether keys have a bias, whose gradient is only rounding noise."""
    max_length: Count = 1024
    """Tokens that a sentence may have, its end included."""

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Options:
        if self.width % self.heads or self.width % 2:
            raise ValueError(f"width: {self.width} must be even and a multiple of heads: {self.heads}")
        return self


def build(options: Options, inputs: tuple[int, ...], outputs: int) -> torch.nn.Module:
    """Build the transformer for dictionaries of `inputs[0]` and `outputs` pieces, sentences of `inputs[1]` tokens."""
    if len(inputs) != 2:
        raise SpecError(
            f"model transformer translates: it needs `task: translation`; this task gives examples {inputs}"
        )
    source, longest = inputs
    if longest > options.max_length:
        raise SpecError(
            f"model.max_length: {options.max_length:,} tokens, but the task's longest sentence has {longest:,};"
            " raise model.max_length, or remove such sentences from the data"
        )
    from epsgrid.models._transformer import Transformer

    return Transformer(options, source, outputs)
