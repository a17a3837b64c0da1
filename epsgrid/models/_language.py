"""The interface of language models, and their common parts: word ids in, scores of the next word out, a carried state.

Shapes below: T time steps, B batch, E embedding, H hidden, V words of the vocabulary. Tokens are (T, B), int64, logits
(T, B, V), states (1, B, width).

`forward(tokens)` returns logits where a model reads each stretch of text by itself. Where it carries a state from one
stretch to the next, `forward(tokens, state)` is a function of its arguments and weights, and the state between two
training steps is in the model's `carried`, whose buffers are part of the state_dict, so that a checkpoint in the middle
of an epoch continues exactly.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from epsgrid.models._vision import PreNormLayer

State = tuple[torch.Tensor, ...]


class LanguageOutput(NamedTuple):
    """Scores of the word after each, a scalar added to the training loss, and the state, attached to the graph."""

    logits: torch.Tensor
    penalty: torch.Tensor
    state: State


class _CarriedState(nn.Module):
    """The recurrent state between two training steps: truncated backpropagation carries values, never gradients.

    Every layer has a hidden and a cell state of (1, batch, width).
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self._widths = tuple(widths)
        for name, zeros in zip(self._names(), self.zeros(0), strict=True):
            self.register_buffer(name, zeros)
        self.register_load_state_dict_pre_hook(_match_batch_size)  # type: ignore[no-untyped-call]

    def _names(self) -> list[str]:
        return [f"{kind}{layer}" for layer in range(len(self._widths)) for kind in ("hidden", "cell")]

    def zeros(self, batch_size: int) -> State:
        """Return the state before anything was read, on the device of the carried one."""
        device = next((buffer.device for buffer in self.buffers()), None)
        return tuple(torch.zeros(1, batch_size, width, device=device) for width in self._widths for _ in range(2))

    def reset(self, batch_size: int) -> None:
        """Set the state to zeros, for `batch_size` texts that are read at once."""
        self.keep(self.zeros(batch_size))

    def read(self) -> State:
        """Return the state that was kept last."""
        return tuple(self.get_buffer(name) for name in self._names())

    def keep(self, state: State) -> None:
        """Keep a state for the next step: detached, in float32, in memory of its own."""
        for name, tensor in zip(self._names(), state, strict=True):
            setattr(self, name, tensor.detach().to(torch.float32, copy=True))


def carried_state(model: nn.Module) -> _CarriedState:
    """Return the carried state of a language model; an empty one where it carries none."""
    carried = getattr(model, "carried", None)
    return carried if isinstance(carried, _CarriedState) else _CarriedState(())


def read_text(model: nn.Module, tokens: torch.Tensor, state: State) -> LanguageOutput:
    """Read (T, B) word ids with a language model, beginning with `state` where it carries one."""
    output = model(tokens, state) if state else model(tokens)
    if isinstance(output, LanguageOutput):
        return output
    return LanguageOutput(output, output.new_zeros((), dtype=torch.float32), ())


def _match_batch_size(module: nn.Module, state_dict: Mapping[str, Any], prefix: str, *_: Any) -> None:
    """Change the batch size of the buffers to that of the state that is about to be loaded."""
    for name, buffer in list(module.named_buffers(recurse=False)):
        stored = state_dict.get(prefix + name)
        if isinstance(stored, torch.Tensor) and stored.ndim == buffer.ndim:
            setattr(module, name, buffer.new_zeros(buffer.shape[0], stored.shape[1], buffer.shape[2]))


class _WeightDropLstm(nn.Module):
    """An LSTM whose hidden-to-hidden weights are dropped again in every training step, on torch's fused kernels."""

    def __init__(self, before: int, after: int, share: float) -> None:
        super().__init__()
        self.share = share
        self.raw = nn.LSTM(before, after)

    def forward(
        self, x: torch.Tensor, hidden: torch.Tensor, cell: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Map (time, batch, before) to outputs (time, batch, after) and the last hidden and cell state."""
        if not self.training or self.share == 0:
            outputs, (hidden, cell) = self.raw(x, (hidden, cell))
            return outputs, hidden, cell
        into, across, *biases = self.raw.all_weights[0]
        weights = [into, F.dropout(across, self.share), *biases]
        with warnings.catch_warnings():
            # cuDNN gathers weights that do not lie side by side into one buffer; new ones at every step never do.
            warnings.filterwarnings("ignore", "RNN module weights are not part of single contiguous chunk")
            return torch.lstm(x, (hidden, cell), weights, True, 1, 0.0, True, False, False)


def _dropout_mask(like: torch.Tensor, share: float) -> torch.Tensor:
    """Draw a mask of a tensor's shape: 0 for a `share` of the entries, 1 / (1 − share) for the others."""
    return torch.empty_like(like, requires_grad=False).bernoulli_(1 - share).div_(1 - share)


def _locked_dropout(x: torch.Tensor, share: float, training: bool) -> torch.Tensor:
    """Drop the same entries of (T, B, width) at every time step (Gal and Ghahramani 2016)."""
    return x * _dropout_mask(x[:1].detach(), share) if training and share else x


class AwdLstm(nn.Module):
    """The model of `awd_lstm`; `options` are those of that file."""

    def __init__(self, options: Any, words: int) -> None:
        super().__init__()
        self.options = options
        self.embedding = nn.Embedding(words, options.embedding)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        widths = [options.embedding, *[options.hidden] * (options.layers - 1), options.embedding]
        self.layers = nn.ModuleList(_WeightDropLstm(a, b, options.weight_drop) for a, b in pairwise(widths))
        self.bias = nn.Parameter(torch.zeros(words))
        self.carried = _CarriedState(widths[1:])

    def forward(self, tokens: torch.Tensor, state: State) -> LanguageOutput:
        """Read (T, B) word ids, beginning with `state`."""
        options = self.options
        x = _locked_dropout(self.embed(tokens), options.input_dropout, self.training)  # (T, B, E)
        after: list[torch.Tensor] = []
        for number, layer in enumerate(self.layers):
            if number > 0:
                x = _locked_dropout(x, options.hidden_dropout, self.training)
            x, *new = layer(x, state[2 * number], state[2 * number + 1])  # (T, B, H), the last (T, B, E)
            after += new
        dropped = _locked_dropout(x, options.output_dropout, self.training)
        logits = F.linear(dropped, self.embedding.weight, self.bias)  # (T, B, V)
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
        mask = _dropout_mask(self.embedding.weight[:, :1], share)  # (V, 1)
        return rows * mask[tokens]


class PlainLstm(nn.Module):
    """The model of `lstm`; `options` are those of that file.

    Layers are LSTMs of their own, not one LSTM of several layers: cuDNN's dropout between layers keeps a random
    state that no checkpoint holds.
    """

    def __init__(self, options: Any, words: int) -> None:
        super().__init__()
        widths = [options.embedding, *[options.hidden] * options.layers]
        self.embedding = nn.Embedding(words, options.embedding)
        self.dropout = nn.Dropout(options.dropout)
        self.layers = nn.ModuleList(nn.LSTM(before, after) for before, after in pairwise(widths))
        self.decoder = nn.Linear(options.hidden, words)
        self.carried = _CarriedState(widths[1:])
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        nn.init.uniform_(self.decoder.weight, -0.1, 0.1)
        nn.init.zeros_(self.decoder.bias)

    def forward(self, tokens: torch.Tensor, state: State) -> LanguageOutput:
        """Read (T, B) word ids, beginning with `state`."""
        x = self.dropout(self.embedding(tokens))  # (T, B, E)
        after: list[torch.Tensor] = []
        for number, layer in enumerate(self.layers):
            x, new = layer(x, (state[2 * number], state[2 * number + 1]))  # (T, B, H)
            x = self.dropout(x)
            after += new
        logits = self.decoder(x)  # (T, B, V)
        return LanguageOutput(logits, logits.new_zeros((), dtype=torch.float32), tuple(after))


class _CausalAttention(nn.Module):
    """Attention of every word to itself and those before it. Shapes: h heads, d = E / h numbers of a word in each."""

    def __init__(self, width: int, heads: int, scale: float) -> None:
        super().__init__()
        self.heads, self.scale = heads, scale
        self.inputs = nn.Linear(width, 3 * width, bias=False)
        self.outputs = nn.Linear(width, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(T, B, E) → (T, B, E)."""
        query, key, value = self.inputs(x).unflatten(2, (3, self.heads, -1)).permute(2, 1, 3, 0, 4)  # (B, h, T, d)
        query, key = _turned(query), _turned(key)
        gathered = F.scaled_dot_product_attention(query, key, value.to(query.dtype), is_causal=True, scale=self.scale)
        result: torch.Tensor = self.outputs(gathered.permute(2, 0, 1, 3).flatten(2))
        return result


def _turned(x: torch.Tensor) -> torch.Tensor:
    """Turn pair i of the d numbers at place t by the angle t / 10,000^(2i/d), in (B, h, T, d); Su et al. 2021."""
    time, width = x.shape[-2:]
    pairs = torch.arange(width // 2, device=x.device)
    angles = torch.arange(time, device=x.device)[:, None] * 10_000.0 ** (-2 * pairs / width)  # (T, d / 2)
    cos, sin = angles.cos(), angles.sin()
    one, other = x.chunk(2, dim=-1)
    return torch.cat((one * cos - other * sin, one * sin + other * cos), dim=-1)


class Gpt(nn.Module):
    """The model of `gpt`; `options` are those of that file, whose table of initial weights this follows."""

    def __init__(self, options: Any, words: int) -> None:
        super().__init__()
        width, is_mup = options.width, options.parametrization == "mup"
        wider = width / options.base_width if is_mup else 1.0  # m of the table
        per_head = width // options.heads
        scale = 8 / per_head if is_mup else per_head**-0.5
        self.embedding = nn.Embedding(words, width)
        self.dropout = nn.Dropout(options.dropout)
        attentions = (_CausalAttention(width, options.heads, scale) for _ in range(options.layers))
        self.layers = nn.Sequential(*(PreNormLayer(width, each, options.dropout, bias=False) for each in attentions))
        self.norm = nn.LayerNorm(width, bias=False)
        self.decoder = nn.Linear(width, words, bias=False)
        nn.init.normal_(self.embedding.weight, std=0.02)
        dense = {name: module for name, module in self.named_modules() if isinstance(module, nn.Linear)}
        for name, module in dense.items():
            less = wider if name == "decoder" else 2 * options.layers if name.endswith(("outputs", "dense2")) else 1
            nn.init.normal_(module.weight, std=1 / math.sqrt(3 * module.in_features * less))
        self.learning_rate_factors = {f"{name}.weight": 1 / wider for name in dense if is_mup}

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(T, B) word ids → (T, B, V) logits."""
        logits: torch.Tensor = self.decoder(self.norm(self.layers(self.dropout(self.embedding(tokens)))))
        return logits
