"""What a language model is to the language tasks: word ids in, scores of the next word out, state carried along.

    tokens: (time, batch), int64      logits: (time, batch, vocabulary)      state: tensors of (1, batch, width)

`forward(tokens, state)` is a function of its arguments and weights. What is carried from one training step to the next
lies in the model's `carried`, whose buffers are part of the state_dict: a checkpoint in the middle of an epoch goes on
exactly. A dotted-path model fits when it has both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, cast

import torch
from torch import nn

from epsgrid.errors import SpecError

State = tuple[torch.Tensor, ...]


class LanguageOutput(NamedTuple):
    """What a language model returns.

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
        """Read `tokens` from `state` on."""
        ...


def as_language_model(model: nn.Module) -> LanguageModel:
    """Return `model`, seen as a language model.

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
        self.register_load_state_dict_pre_hook(_adopt_batch_size)  # type: ignore[no-untyped-call]

    def _names(self) -> list[str]:
        return [f"{kind}{layer}" for layer in range(len(self._widths)) for kind in ("hidden", "cell")]

    def zeros(self, batch_size: int) -> State:
        """Return the state before anything was read, on the device where the carried one is."""
        device = next((buffer.device for buffer in self.buffers()), None)
        return tuple(torch.zeros(1, batch_size, width, device=device) for width in self._widths for _ in range(2))

    def reset(self, batch_size: int) -> None:
        """Forget everything; from now on `batch_size` texts are read at once."""
        self.keep(self.zeros(batch_size))

    def read(self) -> State:
        """Return what was kept last."""
        return tuple(self.get_buffer(name) for name in self._names())

    def keep(self, state: State) -> None:
        """Keep a state for the next step: detached, in float32, in memory of its own."""
        for name, tensor in zip(self._names(), state, strict=True):
            setattr(self, name, tensor.detach().to(torch.float32, copy=True))


def _adopt_batch_size(module: nn.Module, state_dict: Mapping[str, Any], prefix: str, *_: Any) -> None:
    """Take the batch size of the state that is about to be loaded, whatever was read before."""
    for name, buffer in list(module.named_buffers(recurse=False)):
        stored = state_dict.get(prefix + name)
        if isinstance(stored, torch.Tensor) and stored.ndim == buffer.ndim:
            setattr(module, name, buffer.new_zeros(buffer.shape[0], stored.shape[1], buffer.shape[2]))
