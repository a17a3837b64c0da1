"""A plain LSTM word language model (Zaremba, Sutskever and Vinyals 2014): the small yardstick beside `awd_lstm`.

    tokens → embedding → dropout → [LSTM → dropout]·layers → dense layer          (time, batch) → (time, batch, words)

Dropout is drawn again at every time step and never touches recurrent connections. With `tied: true` the dense layer
shares the embedding's weights, which needs `embedding` and `hidden` of one width. Embedding and dense weights start
from U(−0.1, 0.1), the dense bias at zero, LSTMs at torch's default.

Shapes: T time steps, B batch, E embedding, H hidden, V words of the vocabulary.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, model_validator

from epsgrid.models import require_text
from epsgrid.spec.model import ModelOptions

if TYPE_CHECKING:
    import torch

    from epsgrid.models._language import LanguageOutput, State

_Width = Annotated[int, Field(ge=1)]


class Options(ModelOptions):
    """Widths, number of layers, dropout and tying; the widths and layers of Zaremba's small model by default."""

    embedding: _Width = 200
    hidden: _Width = 200
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
    require_text("lstm", inputs)
    return _model_class()(options, outputs)


@cache
def _model_class() -> type[torch.nn.Module]:
    import torch
    from torch import nn

    from epsgrid.models._language import CarriedState, LanguageOutput

    class PlainLstm(nn.Module):
        """The language model.

        Layers are LSTMs of their own, not one LSTM of several layers: cuDNN's dropout between layers keeps a random
        state that no checkpoint holds.
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
            """Read (T, B) word ids, beginning with `state`."""
            x = self.dropout(self.embedding(tokens))  # (T, B, E)
            after: list[torch.Tensor] = []
            for number, layer in enumerate(self.layers):
                x, new = layer(x, (state[2 * number], state[2 * number + 1]))  # (T, B, H)
                x = self.dropout(x)
                after += new
            logits = self.decoder(x)  # (T, B, V)
            return LanguageOutput(logits, logits.new_zeros((), dtype=torch.float32), tuple(after))

    return PlainLstm
