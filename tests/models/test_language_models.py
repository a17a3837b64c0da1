"""The language models: sizes, agreement with torch's own LSTM, dropouts, penalties, and the carried state."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional as F

from epsgrid.errors import SpecError
from epsgrid.models._language import _locked_dropout, _turned, _WeightDropLstm
from epsgrid.trials.device import computes_in_bfloat16
from tests.models import samples

DROPOUTS = ("weight_drop", "embedding_dropout", "input_dropout", "hidden_dropout", "output_dropout")
NO_DROPOUT = dict.fromkeys(DROPOUTS, 0.0)


def build(name: str = "awd_lstm", words: int = 11, **settings: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    return samples.build(name, (), words, **{"embedding": 6, "hidden": 9, "layers": 3, **settings})


def tokens(time: int = 7, batch: int = 4, words: int = 11) -> torch.Tensor:
    return torch.randint(0, words, (time, batch), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("name", "settings", "parameters"),
    [
        ("awd_lstm", {"layers": 1}, 5_293_200),
        ("awd_lstm", {"layers": 2}, 13_632_400),
        ("awd_lstm", {"layers": 3}, 24_221_600),
        ("lstm", {}, 2 * 10_000 * 200 + 10_000 + 2 * (4 * 200 * (200 + 200) + 2 * 4 * 200)),
    ],
)
def test_parameter_counts_are_the_published_ones(name: str, settings: dict[str, int], parameters: int) -> None:
    with torch.device("meta"):
        assert samples.count(samples.build(name, (), 10_000, **settings)) == parameters


def test_input_and_output_embedding_of_awd_lstm_are_one_tensor() -> None:
    model = build(**NO_DROPOUT, layers=1)
    assert [name for name, _ in model.named_parameters()].count("embedding.weight") == 1
    output = model.eval()(tokens(), model.carried.zeros(4))
    states, _ = model.layers[0].raw(model.embedding(tokens()))
    assert torch.allclose(output.logits, states @ model.embedding.weight.T + model.bias, atol=1e-6)
    weight = build(words=500, embedding=40).embedding.weight
    assert weight.abs().max() <= 0.1
    assert weight.std().item() == pytest.approx(0.2 / 12**0.5, rel=0.05)
    assert not model.bias.any()


def test_lstm_equals_torchs_own_lstm_of_several_layers() -> None:
    model = build("lstm", hidden=5, layers=2).eval()
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


@pytest.mark.parametrize(("name", "layers"), [("awd_lstm", 1), ("awd_lstm", 3), ("lstm", 2)])
def test_reading_in_pieces_equals_one_long_pass(name: str, layers: int) -> None:
    model = build(name, layers=layers).eval()
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
    model = build(activation_penalty=0.0).train()
    assert model(tokens(time=1), model.carried.zeros(4)).penalty == 0, "a single word has no temporal penalty"


def test_weight_drop_equals_a_plain_lstm_with_the_same_mask() -> None:
    """Outputs and every gradient, against torch's own LSTM with the masked weights, in float64."""
    layer = _WeightDropLstm(5, 6, 0.5).double().train()
    x = torch.randn(8, 3, 5, dtype=torch.float64, requires_grad=True)
    hidden, cell = torch.randn(2, 1, 3, 6, dtype=torch.float64)
    torch.manual_seed(4)
    outputs, last_hidden, last_cell = layer(x, hidden, cell)
    gradients = torch.autograd.grad(outputs.square().sum(), [x, *layer.parameters()])
    torch.manual_seed(4)
    mask = F.dropout(torch.ones_like(layer.raw.weight_hh_l0), 0.5)
    assert {0.0, 2.0} == set(mask.unique().tolist())
    plain = copy.deepcopy(layer.raw)
    plain.weight_hh_l0.data *= mask
    expected, (end_hidden, end_cell) = plain(x, (hidden, cell))
    assert torch.allclose(outputs, expected)
    assert torch.allclose(last_hidden, end_hidden)
    assert torch.allclose(last_cell, end_cell)
    references = torch.autograd.grad(expected.square().sum(), [x, *plain.parameters()])
    names = ["x", *dict(plain.named_parameters())]
    for name, gradient, reference in zip(names, gradients, references, strict=True):
        assert torch.allclose(gradient, reference * mask if name == "weight_hh_l0" else reference), name


def test_a_locked_mask_is_one_for_all_time_steps_and_another_for_each_text() -> None:
    x = torch.ones(50, 30, 20)
    dropped = _locked_dropout(x, 0.4, True)
    assert dropped.unique().tolist() == [0.0, pytest.approx(1 / 0.6)]
    assert (dropped == dropped[:1]).all()
    assert not torch.equal(dropped[0, 0], dropped[0, 1])
    assert (dropped == 0).float().mean().item() == pytest.approx(0.4, abs=0.08)
    assert _locked_dropout(x, 0.0, True) is _locked_dropout(x, 0.4, False) is x


def test_a_dropped_word_is_zero_wherever_it_stands() -> None:
    model = build(words=200, embedding_dropout=0.5).train()
    text = tokens(time=40, batch=8, words=200)
    rows = model.embed(text)
    is_zero = (rows == 0).all(dim=2)
    plain = model.embedding(text)
    assert torch.allclose(rows[~is_zero], 2 * plain[~is_zero])
    kept = {word: set(is_zero[text == word].tolist()) for word in text.unique().tolist()}
    assert all(len(fates) == 1 for fates in kept.values())
    assert 0.3 < sum(True in fates for fates in kept.values()) / len(kept) < 0.7
    assert torch.equal(model.eval().embed(text), plain)


@pytest.mark.parametrize(
    ("name", "settings"),
    [*(("awd_lstm", {**NO_DROPOUT, option: 0.5}) for option in DROPOUTS), ("lstm", {"dropout": 0.5})],
)
def test_each_dropout_acts_in_training_and_not_in_evaluation(name: str, settings: dict[str, float]) -> None:
    model = build(name, **settings)
    state = model.carried.zeros(4)
    assert not torch.allclose(model.train()(tokens(), state).logits, model(tokens(), state).logits)
    assert torch.equal(model.eval()(tokens(), state).logits, model(tokens(), state).logits)
    if settings.get("hidden_dropout"):  # it acts between layers only
        model, state = build(layers=1, **settings).train(), state[-2:]
        assert torch.equal(model(tokens(), state).logits, model(tokens(), state).logits)


def test_penalty_is_the_published_formula() -> None:
    """AR on the dropped output, TAR on the raw one, as awd-lstm-lm does: α·mean(d²) + β·mean((hₜ₊₁ − hₜ)²)."""
    model = build(layers=1, **{**NO_DROPOUT, "output_dropout": 0.5}, activation_penalty=3.0, temporal_penalty=5.0)
    text = tokens()
    torch.manual_seed(7)
    penalty = model.train()(text, model.carried.zeros(4)).penalty
    torch.manual_seed(7)
    raw, _ = model.layers[0].raw(model.embedding(text))
    dropped = _locked_dropout(raw, 0.5, True)
    expected = 3.0 * (dropped**2).mean() + 5.0 * ((raw[1:] - raw[:-1]) ** 2).mean()
    assert penalty.item() == pytest.approx(expected.item(), rel=1e-5)
    weights = [model.embedding.weight, model.layers[0].raw.weight_hh_l0]
    pairs = zip(torch.autograd.grad(penalty, weights), torch.autograd.grad(expected, weights), strict=True)
    assert all(torch.allclose(gradient, reference, atol=1e-6) for gradient, reference in pairs)


@pytest.mark.skipif(not computes_in_bfloat16(torch.device("cpu")), reason="oneDNN has no LSTM for bfloat16 here")
def test_the_kept_state_is_detached_float32_and_of_its_own() -> None:
    model = build().train()
    model.carried.reset(4)
    with torch.autocast("cpu", torch.bfloat16):
        output = model(tokens(), model.carried.read())
    assert output.logits.dtype == torch.bfloat16
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
    for batch_size in (0, 4, 5):
        other = build()
        other.carried.reset(batch_size)
        file.seek(0)
        other.load_state_dict(torch.load(file, weights_only=True))
        for there, here in zip(other.carried.read(), model.carried.read(), strict=True):
            assert torch.equal(there, here)


def test_other_models_and_other_tasks_are_refused() -> None:
    with pytest.raises(SpecError, match=r"model mlp reads no text; use `model: gpt`"):
        samples.build("mlp", (), 10)
    for name, inputs in (("awd_lstm", (3, 32, 32)), ("lstm", (64,)), ("gpt", (1, 8, 8))):
        with pytest.raises(SpecError, match=rf"model {name} reads text, and this task gives examples of shape \("):
            samples.build(name, inputs)


def gpt(words: int = 11, **settings: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    return samples.build("gpt", (), words, **{"width": 16, "heads": 2, "layers": 2, "dropout": 0.0, **settings})


def test_gpt_has_the_documented_size_and_initial_weights() -> None:
    with torch.device("meta"):
        assert samples.count(samples.build("gpt", (), 10_000)) == 8_268_032
    scaled = {"width": 256, "parametrization": "mup", "base_width": 64, "heads": 4}
    for settings, last in (({"width": 256, "heads": 4}, 768), (scaled, 4 * 768)):
        weights = dict(gpt(words=500, **settings).named_parameters())
        expected = {"embedding": 0.02, "decoder": last**-0.5, "layers.0.attention.inputs": 768**-0.5}
        expected |= {"layers.1.attention.outputs": (4 * 768) ** -0.5, "layers.1.dense2": (4 * 4 * 768) ** -0.5}
        for name, deviation in expected.items():
            assert weights[f"{name}.weight"].std().item() == pytest.approx(deviation, rel=0.02), name
    assert gpt().learning_rate_factors == {}
    factors = gpt(**scaled).learning_rate_factors
    assert len(factors) == 2 * 4 + 1 and {*factors.values()} == {64 / 256} and "embedding.weight" not in factors


def test_gpt_reads_no_later_word_and_no_other_text() -> None:
    model = gpt()
    text = tokens(time=9)
    changed = text.clone()
    changed[5:, 1] = (changed[5:, 1] + 1) % 11
    differs = (model(text) != model(changed)).any(dim=2)
    assert differs.nonzero().tolist() == [[time, 1] for time in range(5, 9)]
    torch.testing.assert_close(model(text)[:, 2], model(text[:, 2:3])[:, 0])


def test_gpts_attention_is_that_of_the_definition() -> None:
    """Word by word: a pair of numbers at place t is turned by t times its angle, so only distances count."""
    attention = gpt().layers[0].attention
    x = torch.randn(5, 1, 16)
    query, key, value = attention.inputs(x)[:, 0].view(5, 3, 2, 8).unbind(1)  # (T, h, d) each
    expected = torch.zeros(5, 2, 8)
    for now in range(5):
        for head in range(2):
            scores = torch.empty(now + 1)
            for before in range(now + 1):
                one, other = (
                    torch.view_as_complex(each[:, head].view(5, 2, 4).mT.contiguous()) for each in (query, key)
                )
                angles = torch.tensor([(now - before) * 10_000 ** (-2 * pair / 8) for pair in range(4)])
                turned = one[now] * torch.polar(torch.ones(4), angles)
                scores[before] = (turned * other[before].conj()).real.sum() / 8**0.5
            expected[now, head] = scores.softmax(0) @ value[: now + 1, head]
    torch.testing.assert_close(attention(x)[:, 0], attention.outputs(expected.flatten(1)))
    assert torch.equal(_turned(x)[..., :1, :], x[..., :1, :])


def test_gpts_dropout_acts_in_training_alone() -> None:
    model = gpt(dropout=0.5)
    assert not torch.equal(model(tokens()), model(tokens()))
    assert torch.equal(model.eval()(tokens()), model(tokens()))


@pytest.mark.parametrize(("parametrization", "growth"), [("mup", (0.6, 1.5)), ("standard", (2.5, 20.0))])
def test_with_mup_a_step_changes_the_output_as_much_at_any_width(
    parametrization: str, growth: tuple[float, float]
) -> None:
    """The coordinate check of Yang & Hu: some steps of Adam, at one learning rate, at widths 32 and 512."""
    changes = []
    for width in (32, 512):
        settings = {"base_width": 32} if parametrization == "mup" else {}
        model = gpt(width=width, heads=2, parametrization=parametrization, **settings)
        before, text = model(tokens()).detach(), tokens(time=8)
        groups = [
            {"params": [each], "lr": 3e-3 * model.learning_rate_factors.get(name, 1.0)}
            for name, each in model.named_parameters()
        ]
        optimizer = torch.optim.Adam(groups)
        for _ in range(3):
            optimizer.zero_grad()
            F.cross_entropy(model(text[:-1]).flatten(0, 1), text[1:].flatten()).backward()
            optimizer.step()
        changes.append((model(tokens()) - before).square().mean().sqrt().item())
    assert growth[0] < changes[1] / changes[0] < growth[1], changes


def test_gpts_settings_are_checked() -> None:
    with pytest.raises(ValidationError, match="width: 10 must be a multiple of twice the heads, 2"):
        gpt(width=10)
    for wrong in ({"parametrization": "mup"}, {"base_width": 64}):
        with pytest.raises(ValidationError, match="parametrization: mup needs base_width, such as 256"):
            gpt(**wrong)
