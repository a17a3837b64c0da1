"""A plain LSTM word language model (Zaremba, Sutskever and Vinyals 2014): the small yardstick beside `awd_lstm`.

    tokens → embedding → dropout → [LSTM → dropout]·layers → dense layer          (time, batch) → (time, batch, words)

Dropout is drawn anew at every time step and never touches recurrent connections. With `tied: true` the dense layer
shares the embedding's weights, which needs `embedding` and `hidden` of one width. Embedding and dense weights start
from U(−0.1, 0.1), the dense bias at zero, LSTMs at torch's default.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field, model_validator

from epsgrid.models._text import require_text
from epsgrid.spec.model import ModelOptions

if TYPE_CHECKING:
    import torch

Width = Annotated[int, Field(ge=1)]


class Options(ModelOptions):
    """Widths, number of layers, dropout and tying; the widths and layers of Zaremba's small model by default."""

    embedding: Width = 200
    hidden: Width = 200
    layers: Annotated[int, Field(ge=1)] = 2
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    tied: bool = False

    @model_validator(mode="after")
    def _tied_widths_agree(self) -> Options:
        if self.tied and self.embedding != self.hidden:
            raise ValueError(
                f"tied: true needs embedding and hidden of one width, got {self.embedding} and {self.hidden};"
                " make them equal, or leave tied out"
            )
        return self


def build(options: Options, inputs: tuple[int, ...], outputs: int) -> torch.nn.Module:
    """Build the model for a vocabulary of `outputs` words; `inputs` are () for text.

    Raises:
        SpecError: the task gives no text.
    """
    from epsgrid.models._lstm_plain import PlainLstm

    require_text("lstm", inputs)
    return PlainLstm(options, outputs)
