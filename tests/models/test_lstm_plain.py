from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError

from epsgrid import models
from epsgrid.errors import SpecError
from epsgrid.models._lstm_plain import PlainLstm


def build(words: int = 11, **settings: Any) -> PlainLstm:
    torch.manual_seed(0)
    plugin = models.load("lstm")
    settings = {"embedding": 6, "hidden": 6, "layers": 2, **settings}
    model = plugin.build(plugin.Options(name="lstm", **settings), (), words)
    assert isinstance(model, PlainLstm)
    return model


def tokens(time: int = 7, batch: int = 4, words: int = 11) -> torch.Tensor:
    return torch.randint(0, words, (time, batch), generator=torch.Generator().manual_seed(1))


def test_it_equals_torchs_own_lstm_of_several_layers() -> None:
    model = build(hidden=5).eval()
    reference = torch.nn.LSTM(6, 5, num_layers=2)
    weights = {
        f"{name.removesuffix('_l0')}_l{number}": value
        for number, layer in enumerate(model.layers)
        for name, value in layer.state_dict().items()
    }
    reference.load_state_dict(weights)
    output = model(tokens(), model.carried.zeros(4))
    states, (hidden, cell) = reference(model.embedding(tokens()))
    assert torch.allclose(output.logits, model.decoder(states), atol=1e-6)
    assert torch.allclose(torch.cat(output.state[0::2]), hidden, atol=1e-6)
    assert torch.allclose(torch.cat(output.state[1::2]), cell, atol=1e-6)
    assert output.penalty == 0


def test_the_small_model_of_zaremba_has_its_size() -> None:
    plugin = models.load("lstm")
    with torch.device("meta"):
        model = plugin.build(plugin.Options(name="lstm"), (), 10_000)
    lstms = 2 * (4 * 200 * (200 + 200) + 2 * 4 * 200)
    assert sum(parameter.numel() for parameter in model.parameters()) == 2 * 10_000 * 200 + 10_000 + lstms


def test_reading_in_pieces_equals_one_long_pass() -> None:
    model = build().eval()
    text = tokens(time=20)
    whole = model(text, model.carried.zeros(4))
    state, pieces = model.carried.zeros(4), []
    for piece in text.split([1, 12, 7]):
        output = model(piece, state)
        pieces.append(output.logits)
        state = output.state
    assert torch.allclose(torch.cat(pieces), whole.logits, atol=1e-6)


def test_tied_weights_are_one_tensor_and_start_alike() -> None:
    model = build(tied=True)
    assert model.decoder.weight is model.embedding.weight
    assert model.embedding.weight.abs().max() <= 0.1
    assert sum(name.endswith("weight") for name, _ in model.named_parameters()) == 1


def test_dropout_acts_in_training_only() -> None:
    model = build(dropout=0.5)
    state = model.carried.zeros(4)
    assert not torch.equal(model.train()(tokens(), state).logits, model(tokens(), state).logits)
    assert torch.equal(model.eval()(tokens(), state).logits, model(tokens(), state).logits)


def test_tied_weights_need_one_width() -> None:
    with pytest.raises(ValidationError, match=r"tied: true needs embedding and hidden of one width, got 6 and 7"):
        build(tied=True, hidden=7)


def test_images_cannot_be_read() -> None:
    plugin = models.load("lstm")
    with pytest.raises(SpecError, match=r"model lstm reads text, and this task gives examples of shape \(64,\)"):
        plugin.build(plugin.Options(name="lstm"), (64,), 10)
