"""The transformer: size, agreement with torch's own layers, masks, step-by-step decoding, initial weights."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from epsgrid.data import _parallel
from epsgrid.data._parallel import END
from epsgrid.errors import SpecError
from epsgrid.models._transformer import PAD, Attention, Transformer, _DecoderLayer, _EncoderLayer
from epsgrid.models.transformer import Options
from tests.models import samples
from tests.models.samples import count

SMALL = {"encoder_layers": 2, "decoder_layers": 3, "width": 16, "ffn": 24, "heads": 4, "max_length": 40}


def build(inputs: tuple[int, ...] = (30, 20), outputs: int = 25, **settings: Any) -> Transformer:
    model = samples.build("transformer", inputs, outputs, **settings)
    assert isinstance(model, Transformer)
    return model


def small(norm: str = "post", **settings: Any) -> Transformer:
    torch.manual_seed(0)
    return build(**(SMALL | {"norm": norm} | settings)).eval()


@pytest.fixture
def sentences() -> tuple[torch.Tensor, torch.Tensor]:
    """Four sentences of different lengths, filled; sources end with END, targets begin with it."""
    generator = torch.Generator().manual_seed(1)
    source = torch.randint(3, 30, (4, 7), generator=generator)
    target = torch.randint(3, 25, (4, 6), generator=generator)
    for row, (s, t) in enumerate(((7, 6), (4, 6), (2, 3), (5, 1))):
        source[row, s - 1], source[row, s:] = END, PAD
        target[row, t:] = PAD
    target[:, 0] = END
    return source, target


def test_parameters_of_the_published_model_and_its_variants() -> None:
    assert PAD == _parallel.PAD
    with torch.device("meta"):
        assert count(build((8_848, 1_024), 6_632)) == 39_469_056
        published = count(build((9, 9), 9))
        assert count(build((9, 9), 9, norm="pre")) == published + 2 * 2 * 512
        assert count(build((9, 9), 9, key_bias=False)) == published - 18 * 512


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_layers_equal_those_of_torch(norm: str) -> None:
    """torch.nn's layers are the obvious reference; ours only lay the same matrices out otherwise."""
    options = Options(name="transformer", **SMALL, norm=norm, dropout=0.0)
    shape = {"d_model": 16, "nhead": 4, "dim_feedforward": 24, "dropout": 0.0, "batch_first": True}
    memory, x = torch.randn(2, 5, 16), torch.randn(2, 4, 16)
    filled = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])

    encoder, reference = _EncoderLayer(options).eval(), nn.TransformerEncoderLayer(**shape, norm_first=norm == "pre")
    _copy(encoder, reference, {"attention": "self_attn"})
    ours = encoder(memory, ~filled[:, None, None, :])
    torch.testing.assert_close(ours[~filled], reference(memory, src_key_padding_mask=filled)[~filled])

    decoder, reference = _DecoderLayer(options).eval(), nn.TransformerDecoderLayer(**shape, norm_first=norm == "pre")
    _copy(decoder, reference, {"attention": "self_attn", "cross": "multihead_attn"})
    ours, _ = decoder(x, decoder.cross.look_at(memory), ~filled[:, None, None, :], None)
    causal = nn.Transformer.generate_square_subsequent_mask(4)
    theirs = reference(x, memory, tgt_mask=causal, memory_key_padding_mask=filled, tgt_is_causal=True)
    torch.testing.assert_close(ours, theirs)


def _copy(ours: _EncoderLayer | _DecoderLayer, theirs: nn.Module, attentions: dict[str, str]) -> None:
    """Give torch's layer the weights of ours, random everywhere."""
    for parameter in ours.parameters():
        nn.init.normal_(parameter, std=0.3)
    state = theirs.state_dict()
    for number, (name, their_name) in enumerate(attentions.items(), 1):
        attention = getattr(ours, name)
        assert isinstance(attention, Attention)
        for kind in ("weight", "bias"):
            parts = [getattr(layer, kind) for layer in (attention.query, attention.key, attention.value)]
            state[f"{their_name}.in_proj_{kind}"] = torch.cat(parts)
            state[f"{their_name}.out_proj.{kind}"] = getattr(attention.out, kind)
            state[f"norm{number}.{kind}"] = getattr(getattr(ours, f"{name}_norm"), kind)
    for kind in ("weight", "bias"):
        state[f"linear1.{kind}"] = getattr(ours.feed_forward.widen, kind)
        state[f"linear2.{kind}"] = getattr(ours.feed_forward.narrow, kind)
        state[f"norm{len(attentions) + 1}.{kind}"] = getattr(ours.feed_forward_norm, kind)
    theirs.load_state_dict(state)
    theirs.train(False)


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_filling_changes_nothing(norm: str, sentences: tuple[torch.Tensor, torch.Tensor]) -> None:
    model = small(norm)
    source, target = sentences
    together = model(source, target)
    for row in range(len(source)):
        s, t = (int((side[row] != PAD).sum()) for side in (source, target))
        alone = model(source[row : row + 1, :s], target[row : row + 1, :t])
        torch.testing.assert_close(together[row, :t], alone[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_decoding_step_by_step_equals_decoding_at_once(norm: str, sentences: tuple[torch.Tensor, torch.Tensor]) -> None:
    model = small(norm)
    source, target = sentences
    at_once = model(source, target)
    state = model.begin(model.encode(source))
    for position in range(target.shape[1]):
        scores, state = model.step(target[:, position], state)
        torch.testing.assert_close(scores, at_once[:, position], atol=1e-5, rtol=1e-5)
    assert state.length == target.shape[1]


def test_rows_of_a_sentence_can_be_put_in_another_order_and_sentences_dropped(
    sentences: tuple[torch.Tensor, torch.Tensor],
) -> None:
    """Three rows a sentence; after two steps sentences 0 and 2 go on, their rows from chosen ones."""
    model = small()
    source, _ = sentences
    prefixes = torch.randint(3, 25, (12, 3), generator=torch.Generator().manual_seed(5))
    state = model.begin(model.encode(source))
    for position in range(2):
        _, state = model.step(prefixes[:, position], state)
    rows = torch.tensor([2, 0, 0, 7, 7, 6])
    state = state.select(torch.tensor([0, 2]), rows)
    last = torch.tensor([4, 5, 6, 7, 8, 9])
    scores, _ = model.step(last, state)
    whole = torch.cat((prefixes[rows, :2], last[:, None]), dim=1)
    expected = model(source[[0, 0, 0, 2, 2, 2]], whole)[:, -1]
    torch.testing.assert_close(scores, expected, atol=1e-5, rtol=1e-5)


def test_dropouts_are_where_they_are_said_to_be(sentences: tuple[torch.Tensor, torch.Tensor]) -> None:
    for name in ("dropout", "attention_dropout", "activation_dropout"):
        settings = {"dropout": 0.0} | {name: 0.5}
        model = small(**settings).train()
        assert not torch.equal(model(*sentences), model(*sentences)), name
        assert torch.equal(model.eval()(*sentences), model.eval()(*sentences))
    model = small(dropout=0.0).train()
    assert torch.equal(model(*sentences), model(*sentences))


def test_weights_start_as_fairseqs() -> None:
    torch.manual_seed(0)
    model = build((500, 9), 400, encoder_layers=1, decoder_layers=1, width=64, ffn=128)
    for embedding in (model.source_embedding, model.target_embedding):
        assert not embedding.weight[PAD].any()
        assert embedding.weight[1:].std().item() == pytest.approx(64**-0.5, rel=0.02)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        elif "norm" in name:
            assert (parameter == 1).all(), name
        elif "embedding" not in name:
            together = any(part in name for part in ("query", "key", "value"))
            out, into = parameter.shape
            bound = math.sqrt(6 / (into + (3 * out if together else out)))
            assert parameter.abs().max().item() == pytest.approx(bound, rel=0.02), name
            assert parameter.abs().max().item() <= bound


def test_positions_are_sines_and_cosines() -> None:
    positions = small().positions
    assert positions.shape == (40, 16)
    assert positions[0].tolist() == [0.0] * 8 + [1.0] * 8
    assert positions[3, 0].item() == pytest.approx(math.sin(3))
    assert positions[3, 15].item() == pytest.approx(math.cos(3e-4))
    assert "positions" not in small().state_dict()


def test_wrong_settings_and_tasks_are_refused() -> None:
    with pytest.raises(ValidationError, match="width: 10 must be even and a multiple of heads: 4"):
        build(width=10)
    with pytest.raises(ValidationError, match="width: 3 must be even"):
        build(width=3, heads=3)
    with pytest.raises(SpecError, match=r"needs `task: translation`; this task gives examples \(3, 32, 32\)"):
        build((3, 32, 32))
    with pytest.raises(SpecError, match=r"model\.max_length: 40 tokens, but .* longest sentence has 41; raise"):
        build((30, 41), **SMALL)
