"""AWD-LSTM (Merity, Keskar and Socher 2018), the word language model published for Penn Treebank.

    tokens → embedding → [LSTM]·layers → dense layer tied to the embedding        (time, batch) → (time, batch, words)

Widths of the LSTMs: `embedding → hidden → … → hidden → embedding`. With 10,000 words one, two and three layers have
5,293,200, 13,632,400 and 24,221,600 parameters. Regularised in training, as published:

    weight drop       on each LSTM's hidden-to-hidden weights, one mask for the whole sequence
    embedding         whole words dropped, one mask over the vocabulary for the whole batch
    input, hidden,    locked ("variational") dropout: one mask for all time steps, behind the embedding, between layers
    output            and in front of the dense layer
    activation        α · mean(d²), d: output of the last layer after dropout            added to the training loss
    temporal          β · mean((hₜ₊₁ − hₜ)²), h: the same before dropout                 added to the training loss

Embedding weights start from U(−0.1, 0.1), the output bias at zero, LSTMs at torch's default.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from epsgrid.models import require_text
from epsgrid.spec.options import Count, ModelOptions, Share

if TYPE_CHECKING:
    import torch


class Options(ModelOptions):
    """Sizes and regularisers; those published for Penn Treebank by default."""

    embedding: Count = 400
    """Width of the embedding."""
    hidden: Count = 1150
    """Width of the LSTMs between."""
    layers: Count = 3
    """LSTMs."""
    weight_drop: Share = 0.5
    """Dropout on each LSTM's hidden-to-hidden weights."""
    embedding_dropout: Share = 0.1
    """Dropout of whole words."""
    input_dropout: Share = 0.4
    """Dropout behind the embedding."""
    hidden_dropout: Share = 0.25
    """Dropout between LSTMs."""
    output_dropout: Share = 0.4
    """Dropout in front of the dense layer."""
    activation_penalty: Annotated[float, Field(ge=0)] = 2.0
    """Strength of the penalty on large activations."""
    temporal_penalty: Annotated[float, Field(ge=0)] = 1.0
    """Strength of the penalty on changes from step to step."""


def build(options: Options, inputs: tuple[int, ...], outputs: int) -> torch.nn.Module:
    """Build the model for a vocabulary of `outputs` words; `inputs` are () for text."""
    require_text("awd_lstm", inputs)
    from epsgrid.models._language import AwdLstm

    return AwdLstm(options, outputs)
