"""AWD-LSTM (Merity, Keskar and Socher 2018), the word language model published for Penn Treebank.

    tokens → embedding → [LSTM]·layers → dense layer tied to the embedding        (time, batch) → (time, batch, words)

Widths of the LSTMs: `embedding → hidden → … → hidden → embedding`, so that one layer is 400→400, two are 400→1150→400,
three 400→1150→1150→400. With 10,000 words they have 5,293,200, 13,632,400 and 24,221,600 parameters.

Regularised, in training only, as published:

    weight drop       on each LSTM's hidden-to-hidden weights, one mask for the whole sequence
    embedding         whole words dropped, one mask over the vocabulary for the whole batch
    input, hidden,    locked ("variational") dropout: one mask for all time steps, behind the embedding, between layers
    output            and in front of the dense layer
    activation        α · mean(d²), d: output of the last layer after dropout            added to the training loss
    temporal          β · mean((hₜ₊₁ − hₜ)²), h: the same before dropout                 added to the training loss

Embedding weights start from U(−0.1, 0.1), the output bias at zero, LSTMs at torch's default.

Shapes: T time steps, B batch, E embedding, H hidden, V words of the vocabulary.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from epsgrid.models import require_text
from epsgrid.spec.model import ModelOptions

if TYPE_CHECKING:
    import torch

    from epsgrid.models._language import LanguageOutput, State

_Width = Annotated[int, Field(ge=1)]
_Share = Annotated[float, Field(ge=0, lt=1)]
_Strength = Annotated[float, Field(ge=0)]


class Options(ModelOptions):
    """Widths, number of layers and strength of each regulariser; the published ones for Penn Treebank by default."""

    embedding: _Width = 400
    hidden: _Width = 1150
    layers: Annotated[int, Field(ge=1)] = 3
    weight_drop: _Share = 0.5
    embedding_dropout: _Share = 0.1
    input_dropout: _Share = 0.4
    hidden_dropout: _Share = 0.25
    output_dropout: _Share = 0.4
    activation_penalty: _Strength = 2.0
    temporal_penalty: _Strength = 1.0


def build(options: Options, inputs: tuple[int, ...], outputs: int) -> torch.nn.Module:
    """Build the model for a vocabulary of `outputs` words; `inputs` are () for text.

    Raises:
        SpecError: the task gives no text.
    """
    require_text("awd_lstm", inputs)
    return _model_class()(options, outputs)


@cache
def _model_class() -> type[torch.nn.Module]:
    import torch
    from torch import nn

    from epsgrid.models._language import CarriedState, LanguageOutput, WeightDropLstm, dropout_mask, locked_dropout

    class AwdLstm(nn.Module):
        """The language model."""

        def __init__(self, options: Options, words: int) -> None:
            super().__init__()
            self.options = options
            self.embedding = nn.Embedding(words, options.embedding)
            nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
            widths = [options.embedding, *[options.hidden] * (options.layers - 1), options.embedding]
            self.layers = nn.ModuleList(WeightDropLstm(a, b, options.weight_drop) for a, b in pairwise(widths))
            self.bias = nn.Parameter(torch.zeros(words))
            self.carried = CarriedState(widths[1:])

        def forward(self, tokens: torch.Tensor, state: State) -> LanguageOutput:
            """Read (T, B) word ids, beginning with `state`."""
            options = self.options
            x = self._locked(self.embed(tokens), options.input_dropout)  # (T, B, E)
            after: list[torch.Tensor] = []
            for number, layer in enumerate(self.layers):
                if number > 0:
                    x = self._locked(x, options.hidden_dropout)
                x, *new = layer(x, state[2 * number], state[2 * number + 1])  # (T, B, H), the last (T, B, E)
                after += new
            dropped = self._locked(x, options.output_dropout)
            logits = nn.functional.linear(dropped, self.embedding.weight, self.bias)  # (T, B, V)
            penalty = x.new_zeros((), dtype=torch.float32)
            if self.training and options.activation_penalty:
                penalty = penalty + options.activation_penalty * dropped.float().square().mean()
            if self.training and options.temporal_penalty and len(x) > 1:
                penalty = penalty + options.temporal_penalty * x.float().diff(dim=0).square().mean()
            return LanguageOutput(logits, penalty, tuple(after))

        def embed(self, tokens: torch.Tensor) -> torch.Tensor:
            """(T, B) → (T, B, E); in training a dropped word is zero wherever it stands in the batch."""
            rows: torch.Tensor = self.embedding(tokens)
            share = self.options.embedding_dropout
            if not self.training or share == 0:
                return rows
            mask = dropout_mask(self.embedding.weight[:, :1], share)  # (V, 1)
            return rows * mask[tokens]

        def _locked(self, x: torch.Tensor, share: float) -> torch.Tensor:
            return locked_dropout(x, share) if self.training else x

    return AwdLstm
