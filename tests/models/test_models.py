"""Shapes, sizes and initial weights of the models."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError

from epsgrid import models
from epsgrid.errors import SpecError
from epsgrid.models._vision import BasicBlock, DenseLayer
from tests.models.samples import build, count


def layers(model: torch.nn.Module) -> list[str]:
    return [type(module).__name__ for module in model.children()]


@pytest.mark.parametrize("name", ["alexnet", "cnn", "densenet121", "mlp", "resnet18", "resnet34", "vgg11", "vit"])
def test_every_model_maps_a_batch_to_scores_and_is_seeded_by_torch(name: str) -> None:
    torch.manual_seed(3)
    model = build(name, outputs=7).eval()
    torch.manual_seed(3)
    again = build(name, outputs=7).eval()
    batch = torch.randn(2, 3, 32, 32)
    assert model(batch).shape == (2, 7)
    assert torch.equal(model(batch), again(batch))
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("alexnet", 23_272_266),
        ("cnn", 24_346),
        ("densenet121", 6_956_298),
        ("resnet18", 11_173_962),
        ("resnet34", 21_282_122),  # a convolution in front of a norm has no bias
        ("vgg11", 9_750_922),
        ("vit", 2_689_738),
    ],
)
def test_sizes_are_the_published_or_documented_ones(name: str, parameters: int) -> None:
    with torch.device("meta"):
        assert count(build(name)) == parameters


def test_initial_weights_are_the_documented_ones() -> None:
    torch.manual_seed(0)
    for layer in build("vgg11").children():
        if isinstance(layer, torch.nn.Conv2d):
            expected = math.sqrt(2 / (3 * 3 * layer.out_channels))
            tolerance = 5 / math.sqrt(2 * layer.weight.numel())
            assert layer.weight.std().item() == pytest.approx(expected, rel=tolerance)
            assert layer.bias is not None and not layer.bias.any()
    for module in build("vit").modules():
        if isinstance(module, torch.nn.Linear):
            assert module.weight.abs().max() <= 0.04
            assert module.bias is None or not module.bias.any()


def test_a_block_of_resnet_adds_to_its_input_and_a_layer_of_densenet_keeps_it() -> None:
    """With the second norm's weight at zero nothing is added: the block passes on what came in, above zero."""
    block, layer = BasicBlock(4, 4, stride=1).eval(), DenseLayer(4, 2).eval()
    torch.nn.init.zeros_(block.norm2.weight)
    images = torch.randn(2, 4, 5, 5)
    assert torch.equal(block(images), images.relu())
    assert layer(images).shape == (2, 6, 5, 5)
    assert torch.equal(layer(images)[:, 2:], images)
    assert BasicBlock(4, 8, stride=2)(images).shape == (2, 8, 3, 3)


@pytest.mark.parametrize("name", ["alexnet", "vgg11"])
@pytest.mark.parametrize("shape", [(15, 15), (16, 31), (33, 64), (64, 96)])
def test_the_first_dense_layer_takes_the_pixels_that_strides_leave(name: str, shape: tuple[int, int]) -> None:
    if name == "vgg11" and min(shape) < 32:
        pytest.skip("vgg11 needs 32 pixels")
    with torch.device("meta"):
        model = build(name, (1, *shape), 200).eval()
        assert model(torch.zeros(1, 1, *shape)).shape == (1, 200)


@pytest.mark.parametrize(("name", "dense"), [("alexnet", 512), ("vgg11", 64)])
def test_a_narrower_one_has_all_layers_an_eighth_as_wide(name: str, dense: int) -> None:
    with torch.device("meta"):
        wide, narrow = (list(build(name, width=width).parameters()) for width in (64, 8))
    assert [8 * len(parameter) for parameter in narrow[:-2]] == [len(parameter) for parameter in wide[:-2]]
    assert len(narrow[-4]) == dense and len(narrow[-1]) == 10


def test_mlp_has_the_asked_for_layers() -> None:
    assert count(build("mlp", (1, 8, 8))) == 64 * 512 + 512 + 512 * 256 + 256 + 256 * 10 + 10
    assert layers(build("mlp", (5,), hidden=[4], dropout=0.3)) == ["Flatten", "Linear", "ReLU", "Dropout", "Linear"]
    assert layers(build("mlp", (5,), hidden=[])) == ["Flatten", "Linear"]
    for inputs in ((7,), (3, 5), (2, 3, 4, 5)):
        assert build("mlp", inputs, 3, hidden=[6])(torch.zeros(4, *inputs)).shape == (4, 3)


def test_vits_attention_is_that_of_the_definition() -> None:
    torch.manual_seed(0)
    attention = build("vit", width=12, depth=1).layers[0].attention  # type: ignore[union-attr, index]
    x = torch.randn(2, 5, 12)
    query, key, value = attention.inputs(x).chunk(3, -1)
    gathered = []
    for head in range(3):
        part = slice(4 * head, 4 * head + 4)
        scores = query[..., part] @ key[..., part].transpose(1, 2) / math.sqrt(4)
        gathered.append(scores.softmax(-1) @ value[..., part])
    torch.testing.assert_close(attention(x), attention.outputs(torch.cat(gathered, -1)))


@pytest.mark.parametrize(
    ("name", "inputs", "words"),
    [
        ("vgg11", (1, 8, 8), r"vgg11 needs images of at least 32×32 pixels.*gives \(1, 8, 8\).*`model: mlp`"),
        ("vgg11", (3, 32, 31), "vgg11 needs images"),
        ("vgg11", (1024,), "vgg11 needs images"),
        ("alexnet", (3, 14, 32), "alexnet needs images of at least 15×15"),
        ("resnet34", (3, 7, 32), "resnet34 needs images of at least 8×8"),
        ("resnet18", (3, 32, 7), "resnet18 needs images of at least 8×8"),
        ("densenet121", (3, 7, 32), "densenet121 needs images of at least 8×8"),
        ("cnn", (3, 7, 32), "cnn needs images of at least 8×8"),
        ("vit", (64,), "vit needs images of at least 4×4"),
        ("vit", (3, 32, 30), "patches of 4×4 do not cover images of 32×30 pixels; set model.patch"),
    ],
)
def test_too_small_inputs_are_refused(name: str, inputs: tuple[int, ...], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        build(name, inputs)


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"width: 10 cannot be shared by 3 heads; take a multiple of heads"):
        models.load("vit").Options(name="vit", width=10)
