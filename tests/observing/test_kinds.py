"""Kinds of layers, from the modules of real architectures."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from epsgrid.observing.kinds import cancelled_biases, kinds_of


class MyRMSNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8))


class CausalSelfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c_attn, self.norm = nn.Linear(8, 24), nn.LayerNorm(8)


class Conv1D(nn.Module):
    """As in the transformers package: a dense layer, whatever its name."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(8, 24)), nn.Parameter(torch.ones(24))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mha = nn.MultiheadAttention(8, 2, add_bias_kv=True)
        self.attention = CausalSelfAttention()
        self.norm = MyRMSNorm()
        self.widen = Conv1D()
        self.pos_embedding = nn.Parameter(torch.zeros(1, 5, 8))
        self.scale = nn.Parameter(torch.ones(()))
        self.free = nn.Parameter(torch.ones(8, 8))


EXPECTED = {
    "pos_embedding": "embedding",
    "scale": "other",
    "free": "other",
    "mha.in_proj_weight": "attention",
    "mha.in_proj_bias": "bias",
    "mha.bias_k": "bias",
    "mha.bias_v": "bias",
    "mha.out_proj.weight": "attention",
    "mha.out_proj.bias": "bias",
    "attention.c_attn.weight": "attention",
    "attention.c_attn.bias": "bias",
    "attention.norm.weight": "normalisation",
    "attention.norm.bias": "normalisation",
    "norm.weight": "normalisation",
    "widen.weight": "dense",
    "widen.bias": "bias",
}


def kinds(model: nn.Module) -> dict[str, str]:
    found = kinds_of(model)
    return {name: found[id(parameter)] for name, parameter in model.named_parameters()}


def test_modules_tell_the_kinds_of_their_parameters_also_where_they_hold_each_other() -> None:
    model = Block()
    assert kinds(model) == EXPECTED
    model.attention.back = model
    assert kinds(model) == EXPECTED


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (nn.Linear(3, 2), ["dense", "bias"]),
        (nn.Bilinear(3, 2, 4), ["dense", "bias"]),
        (nn.Conv1d(3, 2, 1), ["convolution", "bias"]),
        (nn.ConvTranspose3d(3, 2, 1), ["convolution", "bias"]),
        (nn.SyncBatchNorm(3), ["normalisation"] * 2),
        (nn.GroupNorm(1, 3), ["normalisation"] * 2),
        (nn.LayerNorm(3), ["normalisation"] * 2),
        (nn.RMSNorm(3), ["normalisation"]),
        (nn.Embedding(3, 2), ["embedding"]),
        (nn.LSTM(3, 2, bidirectional=True, proj_size=1), (["recurrent"] * 2 + ["bias"] * 2 + ["recurrent"]) * 2),
        (nn.GRUCell(3, 2), ["recurrent"] * 2 + ["bias"] * 2),
        (nn.PReLU(), ["other"]),
    ],
    ids=lambda case: type(case).__name__,
)
def test_torchs_own_modules(module: nn.Module, expected: list[str]) -> None:
    assert list(kinds(module).values()) == list(kinds(nn.Sequential(module)).values()) == expected


def test_a_parametrized_weight_is_what_it_was_before() -> None:
    plain = nn.Sequential(nn.Conv2d(3, 2, 3), nn.LSTM(2, 3))
    nn.utils.parametrizations.weight_norm(plain[0])
    nn.utils.parametrizations.weight_norm(plain[1], "weight_hh_l0")
    found = kinds(plain)
    assert found["0.parametrizations.weight.original0"] == "convolution"
    assert found["1.parametrizations.weight_hh_l0.original1"] == "recurrent"
    assert found["0.bias"] == found["1.bias_ih_l0"] == "bias"
    nn.utils.parametrize.register_parametrization(plain[0], "bias", nn.Identity())
    assert kinds(plain)["0.parametrizations.bias.original"] == "bias"


def test_a_tied_weight_is_what_its_first_module_makes_of_it() -> None:
    model = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 9))
    model[1].weight = model[0].weight
    assert kinds(model) == {"0.weight": "embedding", "1.bias": "bias"}


class _Attention(nn.Module):
    """As GPT-2 has it: queries, keys and values from one projection."""

    def __init__(self) -> None:
        super().__init__()
        self.c_attn, self.c_proj = nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        queries, keys, values = self.c_attn(x).split(8, dim=-1)
        return self.c_proj(nn.functional.scaled_dot_product_attention(queries, keys, values))


class _Separate(nn.Module):
    """As BERT has it; and an ordinary layer that is called "key" outside of any attention."""

    class SelfAttention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query, self.key, self.value = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.scaled_dot_product_attention(self.query(x), self.key(x), self.value(x))

    def __init__(self) -> None:
        super().__init__()
        self.key, self.attention = nn.Linear(8, 8), self.SelfAttention()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.attention(self.key(x))


def _image_model() -> nn.Module:
    norms = nn.BatchNorm2d(6), nn.InstanceNorm2d(6), nn.GroupNorm(2, 6), nn.LayerNorm([6, 8, 8])
    layers = [layer for norm in norms for layer in (nn.Conv2d(6, 6, 3, padding=1), norm, nn.ReLU())]
    return nn.Sequential(*layers, nn.Conv2d(6, 6, 1), nn.ReLU(), nn.Flatten(), nn.Linear(384, 5), nn.BatchNorm1d(5))


@pytest.mark.parametrize(
    ("model", "shape", "cancelled"),
    [
        (_image_model(), (4, 6, 8, 8), {"0.bias": 6, "3.bias": 6, "15.bias": 5}),
        (nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0), (4, 5, 8), {"self_attn.in_proj_bias": 8}),
        (_Attention(), (4, 5, 8), {"c_attn.bias": 8}),
        (_Separate(), (4, 5, 8), {"attention.key.bias": 8}),
        (nn.Sequential(nn.Conv2d(6, 6, 3), nn.BatchNorm2d(6).requires_grad_(False)), (4, 6, 8, 8), {"0.bias": 6}),
        (nn.Sequential(nn.Linear(8, 6, bias=False), nn.BatchNorm1d(6)), (4, 8), {}),
    ],
    ids=["norms", "encoder", "fused", "separate", "frozen", "without"],
)
def test_biases_that_a_norm_or_a_softmax_cancels_are_found(
    model: nn.Module, shape: tuple[int, ...], cancelled: dict[str, int]
) -> None:
    """Their gradient in float64 is nothing but rounding, that of all other entries is not."""
    torch.manual_seed(0)
    model = model.double()
    found = cancelled_biases(model)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert {names[id(bias)]: int(mask.sum()) for bias, mask in found.items()} == cancelled
    output = model(torch.randn(shape, dtype=torch.float64))
    (output * torch.randn_like(output)).sum().backward()
    for parameter in model.parameters():
        if parameter.grad is not None:
            mask = found.get(parameter, torch.zeros(parameter.shape, dtype=torch.bool))
            assert bool((parameter.grad[mask].abs() < 1e-13).all())
            assert not bool((parameter.grad[~mask].abs() < 1e-13).all()) or not bool((~mask).any())


def test_keys_that_are_rotated_have_a_gradient() -> None:
    class RotaryEmbedding(nn.Module):
        pass

    model = nn.Sequential(_Separate(), RotaryEmbedding())
    assert cancelled_biases(model) == {}
