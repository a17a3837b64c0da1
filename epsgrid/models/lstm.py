"""A plain LSTM word language model (Zaremba, Sutskever and Vinyals 2014): the small yardstick beside `awd_lstm`.

    tokens → embedding → dropout → [LSTM → dropout]·layers → dense layer          (time, batch) → (time, batch, words)

Dropout is drawn again at every time step and never touches recurrent connections. Embedding and dense weights start
from U(−0.1, 0.1), the dense bias at zero, LSTMs at torch's default.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from epsgrid.models import require_text
from epsgrid.spec.options import Count, ModelOptions, Share

if TYPE_CHECKING:
    import torch


class Options(ModelOptions):
    """Sizes and dropout; the sizes are those of Zaremba's small model by default."""

    embedding: Count = 200
    """Width of the embedding."""
    hidden: Count = 200
    """Width of the LSTMs."""
    layers: Count = 2
    """LSTMs."""
    dropout: Share = 0.0
    """Behind the embedding and behind each LSTM."""
    tied: Literal[False] = False  # of an earlier version, and so part of the ids of its trials


def build(options: Options, inputs: tuple[int, ...], outputs: int) -> torch.nn.Module:
    """Build the model for a vocabulary of `outputs` words; `inputs` are () for text."""
    require_text("lstm", inputs)
    from epsgrid.models._language import PlainLstm

    return PlainLstm(options, outputs)
