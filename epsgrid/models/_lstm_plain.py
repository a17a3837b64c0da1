"""The module behind `lstm`; T: time steps, B: batch, E: embedding, H: hidden, V: words of the vocabulary."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import nn

from epsgrid.models._language import CarriedState, LanguageOutput, State

if TYPE_CHECKING:
    from epsgrid.models.lstm import Options


class PlainLstm(nn.Module):
    """The language model; see the words of `lstm`.

    Layers are LSTMs of their own, not one LSTM of several layers: cuDNN's dropout between layers keeps a random state
    that no checkpoint holds.
    """

    def __init__(self, options: Options, words: int) -> None:
        super().__init__()
        widths = [options.embedding, *[options.hidden] * options.layers]
        self.embedding = nn.Embedding(words, options.embedding)
        self.dropout = nn.Dropout(options.dropout)
        self.layers = nn.ModuleList(nn.LSTM(before, after) for before, after in pairwise(widths))
        self.decoder = nn.Linear(options.hidden, words)
        if options.tied:
            self.decoder.weight = self.embedding.weight
        self.carried = CarriedState(widths[1:])
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        nn.init.uniform_(self.decoder.weight, -0.1, 0.1)
        nn.init.zeros_(self.decoder.bias)

    def forward(self, tokens: torch.Tensor, state: State) -> LanguageOutput:
        """Read (T, B) word ids from `state` on."""
        x = self.dropout(self.embedding(tokens))  # (T, B, E)
        after: list[torch.Tensor] = []
        for number, layer in enumerate(self.layers):
            x, new = layer(x, (state[2 * number], state[2 * number + 1]))  # (T, B, H)
            x = self.dropout(x)
            after += new
        logits = self.decoder(x)  # (T, B, V)
        return LanguageOutput(logits, logits.new_zeros((), dtype=torch.float32), tuple(after))
