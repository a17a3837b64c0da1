"""Lead a translation model through a beam search, one token at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Stepping:
    """A model at some point of a search; see `_beam.Decoder`.

    Args:
        model: with `begin(memory)` and `step(tokens, state)`, as models/transformer.py has them.
        memory: the encoded sources.
    """

    def __init__(self, model: Any, memory: Any) -> None:
        self._model = model
        self._device = next(model.parameters()).device
        self._state = model.begin(memory)

    def tensor(self, values: NDArray[np.int64]) -> Tensor:
        """Put values where the model is."""
        return torch.from_numpy(values).to(self._device)

    def step(self, tokens: Tensor) -> Tensor:
        """Take (rows,) tokens and return (rows, V): log-probabilities of the next ones."""
        scores, self._state = self._model.step(tokens, self._state)
        return torch.log_softmax(scores.float(), dim=-1)

    def keep(self, sentences: Tensor | None, rows: Tensor) -> None:
        """Keep some sentences, None for all, and let each row go on from what was row `rows[i]`."""
        self._state = self._state.select(sentences, rows)
