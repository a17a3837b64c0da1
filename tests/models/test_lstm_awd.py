from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional as F

from epsgrid import models
from epsgrid.errors import SpecError
from epsgrid.models._language import CarriedState, as_language_model
from epsgrid.models._lstm_awd import AwdLstm, WeightDropLstm, locked_dropout
from epsgrid.trials.device import computes_in_bfloat16

NO_DROPOUT = {
    "weight_drop": 0.0,
    "embedding_dropout": 0.0,
    "input_dropout": 0.0,
    "hidden_dropout": 0.0,
    "output_dropout": 0.0,
}


def build(words: int = 11, **settings: Any) -> AwdLstm:
    torch.manual_seed(0)
    plugin = models.load("awd_lstm")
    settings = {"embedding": 6, "hidden": 9, "layers": 3, **settings}
    model = plugin.build(plugin.Options(name="awd_lstm", **settings), (), words)
    assert isinstance(model, AwdLstm)
    return model


def tokens(time: int = 7, batch: int = 4, words: int = 11) -> torch.Tensor:
    return torch.randint(0, words, (time, batch), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("layers", "parameters"), [(1, 5_293_200), (2, 13_632_400), (3, 24_221_600)])
def test_parameter_counts_are_the_published_ones(layers: int, parameters: int) -> None:
    plugin = models.load("awd_lstm")
    with torch.device("meta"):
        model = plugin.build(plugin.Options(name="awd_lstm", layers=layers), (), 10_000)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


def test_widths_are_the_published_ones() -> None:
    shapes = [(layer.raw.input_size, layer.raw.hidden_size) for layer in build(layers=3).layers]
    assert shapes == [(6, 9), (9, 9), (9, 6)]
    assert [(layer.raw.input_size, layer.raw.hidden_size) for layer in build(layers=1).layers] == [(6, 6)]


def test_initial_weights() -> None:
    model = build(words=500, embedding=40)
    weight = model.embedding.weight
    assert weight.abs().max() <= 0.1
    assert weight.std().item() == pytest.approx(0.2 / 12**0.5, rel=0.05)
    assert not model.bias.any()


def test_input_and_output_embedding_are_one_tensor() -> None:
    model = build(**NO_DROPOUT, layers=1)
    names = [name for name, _ in model.named_parameters()]
    assert names.count("embedding.weight") == 1
    output = model.eval()(tokens(), model.carried.zeros(4))
    rows = model.embedding(tokens())
    states, _ = model.layers[0].raw(rows)
    assert torch.allclose(output.logits, states @ model.embedding.weight.T + model.bias, atol=1e-6)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_reading_in_pieces_equals_one_long_pass(layers: int) -> None:
    model = build(layers=layers).eval()
    text = tokens(time=20)
    whole = model(text, model.carried.zeros(4))
    state, pieces = model.carried.zeros(4), []
    for piece in text.split([3, 1, 9, 7]):
        output = model(piece, state)
        pieces.append(output.logits)
        state = output.state
    assert torch.allclose(torch.cat(pieces), whole.logits, atol=1e-6)
    for here, there in zip(state, whole.state, strict=True):
        assert torch.allclose(here, there, atol=1e-6)


def test_without_dropout_training_equals_evaluation_but_for_the_penalty() -> None:
    model = build(**NO_DROPOUT)
    state = model.carried.zeros(4)
    training, evaluation = model.train()(tokens(), state), model.eval()(tokens(), state)
    assert torch.allclose(training.logits, evaluation.logits, atol=1e-6)
    assert training.penalty > 0
    assert evaluation.penalty == 0


def test_weight_drop_equals_a_plain_lstm_with_the_same_mask() -> None:
    """Outputs and every gradient, against gates written out, in float64."""
    layer = WeightDropLstm(5, 6, 0.5).double().train()
    x = torch.randn(8, 3, 5, dtype=torch.float64, requires_grad=True)
    hidden, cell = torch.randn(2, 1, 3, 6, dtype=torch.float64)
    torch.manual_seed(4)
    outputs, last_hidden, last_cell = layer(x, hidden, cell)
    gradients = torch.autograd.grad(outputs.square().sum(), [x, *layer.parameters()])
    torch.manual_seed(4)
    raw = layer.raw.weight_hh_l0
    mask = F.dropout(torch.ones_like(raw), 0.5)
    assert {0.0, 2.0} == set(mask.unique().tolist())
    expected, (end_hidden, end_cell) = written_out(layer, x, hidden[0], cell[0], raw * mask)
    assert torch.allclose(outputs, expected)
    assert torch.allclose(last_hidden[0], end_hidden)
    assert torch.allclose(last_cell[0], end_cell)
    plain = torch.autograd.grad(expected.square().sum(), [x, *layer.parameters()])
    for gradient, reference in zip(gradients, plain, strict=True):
        assert torch.allclose(gradient, reference)
    by_name = dict(zip(["x", *dict(layer.named_parameters())], gradients, strict=True))
    assert not by_name["raw.weight_hh_l0"][mask == 0].any()


def written_out(
    layer: WeightDropLstm, x: torch.Tensor, hidden: torch.Tensor, cell: torch.Tensor, across: torch.Tensor
) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    outputs = []
    for row in x:
        gates = row @ layer.raw.weight_ih_l0.T + layer.raw.bias_ih_l0 + hidden @ across.T + layer.raw.bias_hh_l0
        into, forget, candidate, out = gates.chunk(4, dim=1)
        cell = forget.sigmoid() * cell + into.sigmoid() * candidate.tanh()
        hidden = out.sigmoid() * cell.tanh()
        outputs.append(hidden)
    return torch.stack(outputs), (hidden, cell)


def test_weights_are_dropped_in_training_only_and_anew_each_time() -> None:
    layer = WeightDropLstm(5, 6, 0.5)
    x, state = torch.randn(4, 2, 5), torch.randn(1, 2, 6)
    before = copy.deepcopy(layer.state_dict())
    one, two = layer.train()(x, state, state)[0], layer(x, state, state)[0]
    assert not torch.equal(one, two)
    reference = layer.raw(x, (state, state))[0]
    assert torch.equal(layer.eval()(x, state, state)[0], reference)
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())


def test_the_fused_kernel_is_used() -> None:
    layer = WeightDropLstm(5, 6, 0.5).train()
    with torch.profiler.profile() as profile:
        layer(torch.randn(4, 2, 5), *torch.zeros(2, 1, 2, 6))
    names = {event.key for event in profile.key_averages()}
    assert "aten::lstm" in names
    if torch.backends.mkldnn.is_available():
        assert "aten::mkldnn_rnn_layer" in names


def test_a_locked_mask_is_one_for_all_time_steps_and_another_for_each_text() -> None:
    x = torch.ones(50, 30, 20)
    dropped = locked_dropout(x, 0.4)
    assert dropped.unique().tolist() == [0.0, pytest.approx(1 / 0.6)]
    assert (dropped == dropped[:1]).all()
    assert not torch.equal(dropped[0, 0], dropped[0, 1])
    assert (dropped == 0).float().mean().item() == pytest.approx(0.4, abs=0.08)
    assert locked_dropout(x, 0.0) is x


def test_a_dropped_word_is_zero_wherever_it_stands() -> None:
    model = build(words=200, embedding_dropout=0.5).train()
    text = tokens(time=40, batch=8, words=200)
    rows = model._embed(text)
    is_zero = (rows == 0).all(dim=2)
    plain = model.embedding(text)
    assert torch.allclose(rows[~is_zero], 2 * plain[~is_zero])
    kept = {word: set(is_zero[text == word].tolist()) for word in text.unique().tolist()}
    assert all(len(fates) == 1 for fates in kept.values())
    assert 0.3 < sum(True in fates for fates in kept.values()) / len(kept) < 0.7
    assert torch.equal(model.eval()._embed(text), plain)


@pytest.mark.parametrize(
    "option", ["weight_drop", "embedding_dropout", "input_dropout", "hidden_dropout", "output_dropout"]
)
def test_each_dropout_acts_in_training_and_not_in_evaluation(option: str) -> None:
    model = build(**{**NO_DROPOUT, option: 0.5})
    state = model.carried.zeros(4)
    one, two = model.train()(tokens(), state).logits, model(tokens(), state).logits
    assert not torch.allclose(one, two)
    model.eval()
    assert torch.equal(model(tokens(), state).logits, model(tokens(), state).logits)


def test_hidden_dropout_is_between_layers_only() -> None:
    model = build(layers=1, **{**NO_DROPOUT, "hidden_dropout": 0.5}).train()
    state = model.carried.zeros(4)
    assert torch.equal(model(tokens(), state).logits, model(tokens(), state).logits)


def test_penalty_is_the_published_formula() -> None:
    """AR on the dropped output, TAR on the raw one, as awd-lstm-lm does: α·mean(d²) + β·mean((hₜ₊₁ − hₜ)²)."""
    model = build(layers=1, **{**NO_DROPOUT, "output_dropout": 0.5}, activation_penalty=3.0, temporal_penalty=5.0)
    text = tokens()
    torch.manual_seed(7)
    penalty = model.train()(text, model.carried.zeros(4)).penalty
    torch.manual_seed(7)
    raw, _ = model.layers[0].raw(model.embedding(text))
    dropped = locked_dropout(raw, 0.5)
    expected = 3.0 * (dropped**2).mean() + 5.0 * ((raw[1:] - raw[:-1]) ** 2).mean()
    assert penalty.item() == pytest.approx(expected.item(), rel=1e-5)
    for name, gradient in zip(
        ("embedding.weight", "layers.0.raw.weight_hh_l0"),
        torch.autograd.grad(penalty, [model.embedding.weight, model.layers[0].raw.weight_hh_l0], retain_graph=True),
        strict=True,
    ):
        (reference,) = torch.autograd.grad(expected, [model.get_parameter(name)], retain_graph=True)
        assert torch.allclose(gradient, reference, atol=1e-6)


def test_a_single_word_has_no_temporal_penalty() -> None:
    model = build(activation_penalty=0.0).train()
    assert model(tokens(time=1), model.carried.zeros(4)).penalty == 0
    model = build(activation_penalty=1.0).train()
    assert torch.isfinite(model(tokens(time=1), model.carried.zeros(4)).penalty)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_the_kept_state_is_detached_float32_and_of_its_own(precision: torch.dtype) -> None:
    if precision == torch.bfloat16 and not computes_in_bfloat16(torch.device("cpu")):
        pytest.skip("this processor does not compute in bfloat16: oneDNN has no LSTM for it here")
    model = build().train()
    model.carried.reset(4)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
        output = model(tokens(), model.carried.read())
    assert output.logits.dtype == precision
    model.carried.keep(output.state)
    for kept, new in zip(model.carried.read(), output.state, strict=True):
        assert not kept.requires_grad
        assert kept.dtype == torch.float32
        assert kept.untyped_storage().nbytes() == kept.numel() * 4
        assert torch.equal(kept, new.detach().float())
    output.logits.float().sum().backward()


def test_the_carried_state_is_saved_and_loaded_whatever_the_batch_size() -> None:
    model = build().train()
    model.carried.reset(4)
    model.carried.keep(model(tokens(), model.carried.read()).state)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    for batch_size in (0, 4, 5):
        other = build()
        other.carried.reset(batch_size)
        other.load_state_dict(torch.load(file, weights_only=True))
        file.seek(0)
        for there, here in zip(other.carried.read(), model.carried.read(), strict=True):
            assert torch.equal(there, here)


def test_a_state_of_another_width_does_not_load() -> None:
    wide, narrow = CarriedState([5]), CarriedState([4])
    with pytest.raises(RuntimeError, match="size mismatch for hidden0"):
        narrow.load_state_dict(wide.state_dict())


def test_reset_forgets() -> None:
    state = CarriedState([3, 5])
    state.keep(tuple(torch.ones(1, 2, width) for width in (3, 3, 5, 5)))
    state.reset(7)
    assert [tuple(tensor.shape) for tensor in state.read()] == [(1, 7, 3), (1, 7, 3), (1, 7, 5), (1, 7, 5)]
    assert not any(tensor.any() for tensor in state.read())


def test_language_models_are_told_from_others() -> None:
    assert as_language_model(build()) is not None
    with pytest.raises(SpecError, match=r"needs a language model, and Linear is none; use `model: awd_lstm`"):
        as_language_model(torch.nn.Linear(2, 2))


def test_images_cannot_be_read() -> None:
    plugin = models.load("awd_lstm")
    with pytest.raises(
        SpecError, match=r"model awd_lstm reads text, and this task gives examples of shape \(3, 32, 32\)"
    ):
        plugin.build(plugin.Options(name="awd_lstm"), (3, 32, 32), 10)


@pytest.mark.parametrize(
    "wrong", [{"layers": 0}, {"weight_drop": 1.0}, {"hidden": 0}, {"temporal_penalty": -1}, {"dropout": 0.1}]
)
def test_options_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        models.load("awd_lstm").Options(name="awd_lstm", **wrong)
