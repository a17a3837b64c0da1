"""The modules behind `awd_lstm`; T: time steps, B: batch, E: embedding, H: hidden, V: words of the vocabulary."""

from __future__ import annotations

import warnings
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

from epsgrid.models._language import CarriedState, LanguageOutput, State

if TYPE_CHECKING:
    from epsgrid.models.awd_lstm import Options


class AwdLstm(nn.Module):
    """The language model; see the words of `awd_lstm`."""

    def __init__(self, options: Options, words: int) -> None:
        super().__init__()
        self.options = options
        self.embedding = nn.Embedding(words, options.embedding)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        widths = [options.embedding, *[options.hidden] * (options.layers - 1), options.embedding]
        self.layers = nn.ModuleList(
            WeightDropLstm(before, after, options.weight_drop) for before, after in pairwise(widths)
        )
        self.bias = nn.Parameter(torch.zeros(words))
        self.carried = CarriedState(widths[1:])

    def forward(self, tokens: torch.Tensor, state: State) -> LanguageOutput:
        """Read (T, B) word ids from `state` on."""
        options = self.options
        x = self._locked(self._embed(tokens), options.input_dropout)  # (T, B, E)
        after: list[torch.Tensor] = []
        for number, layer in enumerate(self.layers):
            if number > 0:
                x = self._locked(x, options.hidden_dropout)
            x, *new = layer(x, state[2 * number], state[2 * number + 1])  # (T, B, H), the last (T, B, E)
            after += new
        dropped = self._locked(x, options.output_dropout)
        logits = F.linear(dropped, self.embedding.weight, self.bias)  # (T, B, V)
        return LanguageOutput(logits, self._penalty(x, dropped), tuple(after))

    def _embed(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return (T, B, E); in training a dropped word is zero wherever it stands in the batch."""
        rows: torch.Tensor = self.embedding(tokens)
        share = self.options.embedding_dropout
        if not self.training or share == 0:
            return rows
        mask = dropout_mask(self.embedding.weight[:, :1], share)  # (V, 1)
        return rows * mask[tokens]

    def _locked(self, x: torch.Tensor, share: float) -> torch.Tensor:
        return locked_dropout(x, share) if self.training else x

    def _penalty(self, raw: torch.Tensor, dropped: torch.Tensor) -> torch.Tensor:
        penalty = raw.new_zeros((), dtype=torch.float32)
        if not self.training:
            return penalty
        if self.options.activation_penalty:
            penalty = penalty + self.options.activation_penalty * dropped.float().square().mean()
        if self.options.temporal_penalty and len(raw) > 1:
            penalty = penalty + self.options.temporal_penalty * raw.float().diff(dim=0).square().mean()
        return penalty


class WeightDropLstm(nn.Module):
    """An LSTM whose hidden-to-hidden weights are dropped anew in every training step, on torch's fused kernels.

    The dropped weights are a function of the raw ones, which are the parameters, and are handed to `torch.lstm`
    itself: oneDNN's or cuDNN's kernel runs the sequence, and autograd takes the gradient through the mask.
    """

    def __init__(self, before: int, after: int, share: float) -> None:
        super().__init__()
        self.share = share
        self.raw = nn.LSTM(before, after)

    def forward(
        self, x: torch.Tensor, hidden: torch.Tensor, cell: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return outputs (T, B, after) and the last hidden and cell state, (1, B, after) each."""
        if not self.training or self.share == 0:
            outputs, (hidden, cell) = self.raw(x, (hidden, cell))
            return outputs, hidden, cell
        into, across, *biases = self.raw.all_weights[0]
        weights = [into, F.dropout(across, self.share), *biases]
        with warnings.catch_warnings():
            # cuDNN gathers weights that do not lie side by side into one buffer; new ones at every step never do.
            warnings.filterwarnings("ignore", "RNN module weights are not part of single contiguous chunk")
            return torch.lstm(x, (hidden, cell), weights, True, 1, 0.0, True, False, False)


def dropout_mask(like: torch.Tensor, share: float) -> torch.Tensor:
    """Draw a mask of a tensor's shape: 0 for a `share` of the entries, 1 / (1 − share) for the others."""
    return torch.empty_like(like, requires_grad=False).bernoulli_(1 - share).div_(1 - share)


def locked_dropout(x: torch.Tensor, share: float) -> torch.Tensor:
    """Drop the same entries of (T, B, width) at every time step (Gal and Ghahramani 2016)."""
    return x if share == 0 else x * dropout_mask(x[:1].detach(), share)
