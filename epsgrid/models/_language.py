"""The interface of language models, and their common parts: word ids in, scores of the next word out, a carried state.

    tokens: (time, batch), int64      logits: (time, batch, vocabulary)      state: tensors of (1, batch, width)

`forward(tokens, state)` is a function of its arguments and weights. The state between two training steps is in the
model's `carried`, whose buffers are part of the state_dict, so that a checkpoint in the middle of an epoch continues
exactly. A dotted-path model needs both.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, cast

import torch
from torch import nn
from torch.nn import functional as F

from epsgrid.errors import SpecError

State = tuple[torch.Tensor, ...]


class LanguageOutput(NamedTuple):
    """The result of a language model.

    Attributes:
        logits: (time, batch, vocabulary), scores of the word that follows each of `tokens`.
        penalty: scalar added to the training loss; 0 in eval mode and where a model has none.
        state: after the last of `tokens`, still attached to the graph.
    """

    logits: torch.Tensor
    penalty: torch.Tensor
    state: State


class LanguageModel(Protocol):
    """A module that reads text."""

    carried: CarriedState

    def __call__(self, tokens: torch.Tensor, state: State) -> LanguageOutput:
        """Read `tokens`, beginning with `state`."""
        ...


def as_language_model(model: nn.Module) -> LanguageModel:
    """Return `model` as a language model.

    Raises:
        SpecError: it is none.
    """
    if not isinstance(getattr(model, "carried", None), CarriedState):
        raise SpecError(
            f"a language task needs a language model, and {type(model).__name__} is none;"
            " use `model: awd_lstm` or `model: lstm`"
        )
    return cast(LanguageModel, model)


class CarriedState(nn.Module):
    """The recurrent state between two training steps: truncated backpropagation carries values, never gradients.

    Args:
        widths: of each recurrent layer; every layer has a hidden and a cell state of (1, batch, width).
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


def _match_batch_size(module: nn.Module, state_dict: Mapping[str, Any], prefix: str, *_: Any) -> None:
    """Change the batch size of the buffers to that of the state that is about to be loaded."""
    for name, buffer in list(module.named_buffers(recurse=False)):
        stored = state_dict.get(prefix + name)
        if isinstance(stored, torch.Tensor) and stored.ndim == buffer.ndim:
            setattr(module, name, buffer.new_zeros(buffer.shape[0], stored.shape[1], buffer.shape[2]))


class WeightDropLstm(nn.Module):
    """An LSTM whose hidden-to-hidden weights are dropped again in every training step, on torch's fused kernels.

    The dropped weights are a function of the raw ones, which are the parameters, and are passed to `torch.lstm`
    itself: oneDNN's or cuDNN's kernel runs the sequence, and autograd takes the gradient through the mask.
    """

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


def dropout_mask(like: torch.Tensor, share: float) -> torch.Tensor:
    """Draw a mask of a tensor's shape: 0 for a `share` of the entries, 1 / (1 − share) for the others."""
    return torch.empty_like(like, requires_grad=False).bernoulli_(1 - share).div_(1 - share)


def locked_dropout(x: torch.Tensor, share: float) -> torch.Tensor:
    """Drop the same entries of (T, B, width) at every time step (Gal and Ghahramani 2016)."""
    return x if share == 0 else x * dropout_mask(x[:1].detach(), share)
