"""Shapes, sizes and initial weights of the models."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from epsgrid import models
from epsgrid.errors import SpecError


def build(name: str, inputs: tuple[int, ...] = (3, 32, 32), outputs: int = 10, **settings: Any) -> torch.nn.Module:
    plugin = models.load(name)
    return plugin.build(plugin.Options(name=name, **settings), inputs, outputs)


def count(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def layers(model: torch.nn.Module) -> list[str]:
    return [type(module).__name__ for module in model.children()]


@pytest.mark.parametrize("name", ["alexnet", "mlp", "vgg11"])
def test_every_model_maps_a_batch_to_scores_and_is_seeded_by_torch(name: str) -> None:
    torch.manual_seed(3)
    model = build(name, outputs=7).eval()
    torch.manual_seed(3)
    again = build(name, outputs=7).eval()
    batch = torch.randn(2, 3, 32, 32)
    assert model(batch).shape == (2, 7)
    assert torch.equal(model(batch), again(batch))
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


def test_vgg11_is_the_published_one() -> None:
    model = build("vgg11")
    assert count(model) == 9_750_922
    assert "BatchNorm2d" not in layers(model)
    widths = [layer.out_channels for layer in model.children() if isinstance(layer, torch.nn.Conv2d)]
    assert widths == [64, 128, 256, 256, 512, 512, 512, 512]
    assert layers(model)[-7:] == ["Dropout", "Linear", "ReLU", "Dropout", "Linear", "ReLU", "Linear"]
    assert [layer.p for layer in model.children() if isinstance(layer, torch.nn.Dropout)] == [0.5, 0.5]


def test_vgg11_convolutions_start_as_published() -> None:
    torch.manual_seed(0)
    convolutions = [layer for layer in build("vgg11").children() if isinstance(layer, torch.nn.Conv2d)]
    for layer in convolutions:
        deviation = layer.weight.std().item()
        expected = math.sqrt(2 / (3 * 3 * layer.out_channels))
        assert deviation == pytest.approx(expected, rel=5 / math.sqrt(2 * layer.weight.numel()))
        assert layer.bias is not None and not layer.bias.any()


def test_vgg11_takes_larger_images() -> None:
    model = build("vgg11", (3, 64, 96), 200).eval()
    assert model(torch.zeros(1, 3, 64, 96)).shape == (1, 200)


def test_alexnet_has_the_documented_size_and_the_originals_dropout() -> None:
    model = build("alexnet")
    assert [parameter.numel() for parameter in model.parameters() if parameter.ndim > 1] == [
        3 * 9 * 64,
        64 * 9 * 192,
        192 * 9 * 384,
        384 * 9 * 256,
        256 * 9 * 256,
        1024 * 4096,
        4096 * 4096,
        4096 * 10,
    ]
    assert count(model) == 23_272_266
    assert layers(model)[-7:] == ["Dropout", "Linear", "ReLU", "Dropout", "Linear", "ReLU", "Linear"]


@pytest.mark.parametrize("side", [15, 16, 31, 33, 64])
def test_alexnet_counts_the_pixels_its_strides_leave(side: int) -> None:
    convolutions = build("alexnet", (1, side, side))[:14]  # type: ignore[index]
    model = build("alexnet", (1, side, side))
    first_dense = next(layer for layer in model.children() if isinstance(layer, torch.nn.Linear))
    assert convolutions(torch.zeros(1, 1, side, side)).shape == (1, first_dense.in_features)


def test_mlp_has_the_asked_for_layers() -> None:
    assert count(build("mlp", (1, 8, 8))) == 64 * 512 + 512 + 512 * 256 + 256 + 256 * 10 + 10
    assert layers(build("mlp", (5,), hidden=[4], dropout=0.3)) == ["Flatten", "Linear", "ReLU", "Dropout", "Linear"]
    assert layers(build("mlp", (5,), hidden=[])) == ["Flatten", "Linear"]


@pytest.mark.parametrize("inputs", [(7,), (3, 5), (1, 8, 8), (2, 3, 4, 5)])
def test_mlp_takes_examples_of_any_shape(inputs: tuple[int, ...]) -> None:
    assert build("mlp", inputs, 3, hidden=[6])(torch.zeros(4, *inputs)).shape == (4, 3)


@pytest.mark.parametrize(
    ("name", "inputs", "words"),
    [
        ("vgg11", (1, 8, 8), r"vgg11 needs images of at least 32×32 pixels.*gives \(1, 8, 8\).*name: mlp"),
        ("vgg11", (3, 32, 31), "vgg11 needs images"),
        ("vgg11", (1024,), "vgg11 needs images"),
        ("alexnet", (3, 14, 32), "alexnet needs images of at least 15×15"),
    ],
)
def test_too_small_inputs_are_refused(name: str, inputs: tuple[int, ...], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        build(name, inputs)


@pytest.mark.parametrize(
    ("name", "settings"),
    [("mlp", {"hidden": [0]}), ("mlp", {"dropout": 1}), ("vgg11", {"dropout": -0.1}), ("alexnet", {"dropout": 1})],
)
def test_options_out_of_range_are_refused(name: str, settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="than"):
        models.load(name).Options(name=name, **settings)
