"""The modules of `transformer`; its `Options` are in the plug-in's file, so that they are read without torch.

Shapes: B sentences, S and T tokens of source and target, D width, H heads, V pieces of the target dictionary.
While translating, R = B · beam rows of the decoder belong to B sentences, sentence by sentence.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PAD = 0
"""Id of the padding behind a sentence, in both dictionaries; nothing attends to it and its embedding is zero."""


class _KeyValues(NamedTuple):
    """Keys and values of an attention, each (B, H, tokens, D / H)."""

    keys: Tensor
    values: Tensor

    def select(self, rows: Tensor) -> _KeyValues:
        """Return the given rows."""
        return _KeyValues(self.keys.index_select(0, rows), self.values.index_select(0, rows))


@dataclass(frozen=True)
class _DecoderState:
    """The state of the decoder after some target tokens, so that the next one costs the work of one token.

    `memory` and `mask` are of the B sources; `past` has each layer's keys and values of the target so far, for R rows.
    """

    memory: list[_KeyValues]
    mask: Tensor
    past: list[_KeyValues | None]
    length: int

    def select(self, sentences: Tensor | None, rows: Tensor) -> _DecoderState:
        """Keep some sentences, None for all, and let row i continue from what was row `rows[i]`."""
        past = [None if layer is None else layer.select(rows) for layer in self.past]
        if sentences is None:
            return replace(self, past=past)
        memory = [layer.select(sentences) for layer in self.memory]
        return replace(self, past=past, memory=memory, mask=self.mask.index_select(0, sentences))


class Attention(nn.Module):
    """Scaled dot-product attention with several heads."""

    def __init__(self, options: Any) -> None:
        super().__init__()
        width = options.width
        self.heads, self.dropout = options.heads, options.attention_dropout
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=options.key_bias)
        self.value = nn.Linear(width, width)
        self.out = _linear(width, width)
        for layer in (self.query, self.key, self.value):
            nn.init.xavier_uniform_(layer.weight, gain=1 / math.sqrt(2))  # as if the three were one matrix
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def look_at(self, states: Tensor) -> _KeyValues:
        """Return keys and values of (B, tokens, D)."""
        return _KeyValues(self._split(self.key(states)), self._split(self.value(states)))

    def forward(self, x: Tensor, seen: _KeyValues, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        """(B, T, D) → (B, T, D); with `causal` token t sees the first t + 1 only."""
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(
            self._split(self.query(x)), seen.keys, seen.values, attn_mask=mask, dropout_p=dropout, is_causal=causal
        )
        return self.out(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def _split(self, states: Tensor) -> Tensor:
        """(B, tokens, D) → (B, H, tokens, D / H)."""
        return states.view(*states.shape[:2], self.heads, -1).transpose(1, 2)


class _EncoderLayer(nn.Module):
    """Self-attention and feed-forward."""

    def __init__(self, options: Any) -> None:
        super().__init__()
        self.pre = options.norm == "pre"
        self.attention, self.attention_norm = Attention(options), nn.LayerNorm(options.width)
        self.feed_forward, self.feed_forward_norm = _feed_forward(options), nn.LayerNorm(options.width)
        self.dropout = nn.Dropout(options.dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, S, D) → (B, S, D)."""
        h = self.attention_norm(x) if self.pre else x
        x = x + self.dropout(self.attention(h, self.attention.look_at(h), mask))
        x = x if self.pre else self.attention_norm(x)
        h = self.feed_forward_norm(x) if self.pre else x
        x = x + self.dropout(self.feed_forward(h))
        return x if self.pre else self.feed_forward_norm(x)


class _DecoderLayer(nn.Module):
    """Causal self-attention, attention to the memory, feed-forward."""

    def __init__(self, options: Any) -> None:
        super().__init__()
        self.pre = options.norm == "pre"
        self.attention, self.attention_norm = Attention(options), nn.LayerNorm(options.width)
        self.cross, self.cross_norm = Attention(options), nn.LayerNorm(options.width)
        self.feed_forward, self.feed_forward_norm = _feed_forward(options), nn.LayerNorm(options.width)
        self.dropout = nn.Dropout(options.dropout)

    def forward(
        self, x: Tensor, memory: _KeyValues, mask: Tensor, past: _KeyValues | None
    ) -> tuple[Tensor, _KeyValues]:
        """Apply the layer to (R, T, D) that follow `past`; return the result, and keys and values of all tokens so far.

        R is a multiple of the B sentences of `memory` and `mask`, and T is 1 if there is a past.
        """
        h = self.attention_norm(x) if self.pre else x
        seen = self.attention.look_at(h)
        if past is not None:
            seen = _KeyValues(torch.cat((past.keys, seen.keys), 2), torch.cat((past.values, seen.values), 2))
        x = x + self.dropout(self.attention(h, seen, causal=past is None))
        x = x if self.pre else self.attention_norm(x)
        h = self.cross_norm(x) if self.pre else x
        # The rows of a sentence look at the same memory: they become further tokens of one row, so it is not copied.
        rows = h.reshape(len(mask), -1, h.shape[-1])
        x = x + self.dropout(self.cross(rows, memory, mask).reshape(h.shape))
        x = x if self.pre else self.cross_norm(x)
        h = self.feed_forward_norm(x) if self.pre else x
        x = x + self.dropout(self.feed_forward(h))
        return (x if self.pre else self.feed_forward_norm(x)), seen


class Transformer(nn.Module):
    """Encoder and decoder; `source` and `target` are the sizes of the dictionaries."""

    positions: Tensor

    def __init__(self, options: Any, source: int, target: int) -> None:
        super().__init__()
        width = options.width
        self.max_length = options.max_length
        self.scale = math.sqrt(width)
        self.target_embedding = _embedding(target, width)
        self.source_embedding = _embedding(source, width)
        self.encoder = nn.ModuleList(_EncoderLayer(options) for _ in range(options.encoder_layers))
        self.decoder = nn.ModuleList(_DecoderLayer(options) for _ in range(options.decoder_layers))
        self.encoder_norm = nn.LayerNorm(width) if options.norm == "pre" else nn.Identity()
        self.decoder_norm = nn.LayerNorm(width) if options.norm == "pre" else nn.Identity()
        self.dropout = nn.Dropout(options.dropout)
        # sines, then cosines, at wavelengths from 2π to 10,000 · 2π: (max_length, D)
        frequencies = torch.exp(torch.arange(width // 2) * (-math.log(10_000) / max(width // 2 - 1, 1)))
        angles = torch.arange(options.max_length)[:, None] * frequencies
        self.register_buffer("positions", torch.cat((angles.sin(), angles.cos()), dim=1), persistent=False)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Return (B, T, V) scores of the token after each of the target, before softmax; those at padding mean nothing.

        `source` (B, S) and `target` (B, T), which begins with END, are ids, filled with PAD at the end of a row.
        """
        scores, _ = self._decode(target, self.begin(self.encode(source)))
        return scores

    def encode(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """Encode (B, S) source ids; return (B, S, D), and (B, 1, 1, S): True at tokens, False at padding."""
        mask = (source != PAD)[:, None, None, :]
        x = self._embed(self.source_embedding, source, 0)
        for layer in self.encoder:
            x = layer(x, mask)
        return self.encoder_norm(x), mask

    def begin(self, memory: tuple[Tensor, Tensor]) -> _DecoderState:
        """Return the state before the first target token."""
        states, mask = memory
        looked_at = [layer.cross.look_at(states) for layer in self._decoder_layers()]
        return _DecoderState(looked_at, mask, [None] * len(looked_at), 0)

    def step(self, tokens: Tensor, state: _DecoderState) -> tuple[Tensor, _DecoderState]:
        """Take (R,) further target tokens and return (R, V) scores of the next ones, and the state after `tokens`."""
        scores, state = self._decode(tokens[:, None], state)
        return scores[:, 0], state

    def _decode(self, target: Tensor, state: _DecoderState) -> tuple[Tensor, _DecoderState]:
        x = self._embed(self.target_embedding, target, state.length)
        past: list[_KeyValues | None] = []
        for layer, memory, before in zip(self._decoder_layers(), state.memory, state.past, strict=True):
            x, seen = layer(x, memory, state.mask, before)
            past.append(seen)
        scores = F.linear(self.decoder_norm(x), self.target_embedding.weight)
        return scores, replace(state, past=past, length=state.length + target.shape[1])

    def _decoder_layers(self) -> list[_DecoderLayer]:
        return [layer for layer in self.decoder if isinstance(layer, _DecoderLayer)]

    def _embed(self, embedding: nn.Embedding, tokens: Tensor, first: int) -> Tensor:
        """(B, T) ids at positions `first`, `first` + 1, … → (B, T, D)."""
        last = first + tokens.shape[1]
        assert last <= self.max_length, (last, self.max_length)
        return self.dropout(embedding(tokens) * self.scale + self.positions[first:last])  # type: ignore[no-any-return]


def _linear(before: int, after: int) -> nn.Linear:
    layer = nn.Linear(before, after)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _feed_forward(options: Any) -> nn.Sequential:
    widen = _linear(options.width, options.ffn)
    parts = {"widen": widen, "relu": nn.ReLU(), "dropout": nn.Dropout(options.activation_dropout)}
    return nn.Sequential(OrderedDict(parts | {"narrow": _linear(options.ffn, options.width)}))


def _embedding(pieces: int, width: int) -> nn.Embedding:
    embedding = nn.Embedding(pieces, width, padding_idx=PAD)
    nn.init.normal_(embedding.weight, 0.0, width**-0.5)
    with torch.no_grad():
        embedding.weight[PAD].zero_()
    return embedding
