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


@pytest.mark.parametrize("name", ["alexnet", "densenet121", "mlp", "resnet34", "vgg11", "vit"])
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


def test_alexnet_has_the_documented_size_and_the_originals_dropout() -> None:
    with torch.device("meta"):
        model = build("alexnet")
    assert count(model) == 23_272_266
    assert layers(model)[-7:] == ["Dropout", "Linear", "ReLU", "Dropout", "Linear", "ReLU", "Linear"]


@pytest.mark.parametrize("name", ["alexnet", "vgg11"])
@pytest.mark.parametrize("shape", [(15, 15), (16, 31), (33, 64), (64, 96)])
def test_the_first_dense_layer_takes_the_pixels_that_strides_leave(name: str, shape: tuple[int, int]) -> None:
    if name == "vgg11" and min(shape) < 32:
        pytest.skip("vgg11 needs 32 pixels")
    with torch.device("meta"):
        model = build(name, (1, *shape), 200).eval()
        assert model(torch.zeros(1, 1, *shape)).shape == (1, 200)


def test_mlp_has_the_asked_for_layers() -> None:
    assert count(build("mlp", (1, 8, 8))) == 64 * 512 + 512 + 512 * 256 + 256 + 256 * 10 + 10
    assert layers(build("mlp", (5,), hidden=[4], dropout=0.3)) == ["Flatten", "Linear", "ReLU", "Dropout", "Linear"]
    assert layers(build("mlp", (5,), hidden=[])) == ["Flatten", "Linear"]


def test_resnet34_is_the_published_one() -> None:
    model = build("resnet34")
    assert count(model) == 21_282_122, "a convolution in front of a norm has no bias"
    shapes = []
    for module in model.children():
        if isinstance(module, torch.nn.Sequential):
            module.register_forward_hook(lambda _, __, result: shapes.append(tuple(result.shape[1:])))
    model.eval()(torch.zeros(1, 3, 32, 32))
    assert shapes == [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4)]
    assert [len(stage) for stage in model.children() if isinstance(stage, torch.nn.Sequential)] == [3, 4, 6, 3]


def test_densenet121_is_the_published_one() -> None:
    model = build("densenet121")
    assert count(model) == 6_956_298
    blocks = [len(part) for part in model.children() if isinstance(part, torch.nn.Sequential)]
    assert blocks == [6, 4, 12, 4, 24, 4, 16]
    dense = next(layer for layer in model.children() if isinstance(layer, torch.nn.Linear))
    assert dense.in_features == 1024


@pytest.mark.parametrize(("name", "settings"), [("resnet34", {"width": 4}), ("densenet121", {"growth": 4})])
@pytest.mark.parametrize("inputs", [(1, 8, 8), (3, 64, 48)])
def test_residual_and_dense_networks_take_other_images(
    name: str, settings: dict[str, Any], inputs: tuple[int, ...]
) -> None:
    model = build(name, inputs, 5, **settings)
    scores = model(torch.randn(2, *inputs))
    assert scores.shape == (2, 5)
    scores.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_residual_block_starts_from_its_input() -> None:
    """With the second norm's weight at zero nothing is added: the block passes on what came in, above zero."""
    block = build("resnet34", width=4).stage1[0].eval()  # type: ignore[union-attr, index, operator]
    torch.nn.init.zeros_(block.norm2.weight)
    images = torch.randn(2, 4, 5, 5)
    assert torch.equal(block(images), images.relu())


def test_a_dense_layer_keeps_what_came_in() -> None:
    images = torch.randn(2, 4, 5, 5)
    result = build("densenet121", growth=2).block1[0].eval()(images)  # type: ignore[union-attr, index, operator]
    assert result.shape == (2, 6, 5, 5)
    assert torch.equal(result[:, 2:], images)


def test_vit_has_the_documented_size() -> None:
    model = build("vit")
    assert count(model) == 2_689_738
    assert count(model.layers) == 6 * 444_288  # type: ignore[arg-type]


def test_vit_without_positions_does_not_see_the_order_of_patches() -> None:
    """The mean over patches of a network that treats them alike; its positions are what tells them apart."""
    torch.manual_seed(0)
    model = build("vit", (3, 8, 8), width=12, depth=2, dropout=0).eval()
    image = torch.randn(1, 3, 8, 8)
    exchanged = torch.cat([image[..., 4:], image[..., :4]], -1)
    assert not torch.allclose(model(image), model(exchanged), atol=1e-6)
    torch.nn.init.zeros_(model.positions)  # type: ignore[arg-type]
    torch.testing.assert_close(model(image), model(exchanged))


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


def test_vit_starts_as_documented() -> None:
    torch.manual_seed(0)
    model = build("vit")
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            assert module.weight.abs().max() <= 0.04
            assert module.bias is None or not module.bias.any()


def test_every_layer_of_vit_has_a_true_gradient() -> None:
    """None is at the level of rounding noise, as that of a bias of the keys would be."""
    torch.manual_seed(0)
    model = build("vit", (3, 8, 8), width=24, depth=2, dropout=0).double()
    scores = model(torch.randn(16, 3, 8, 8, dtype=torch.float64))
    torch.nn.functional.cross_entropy(scores, torch.arange(16) % 10).backward()  # type: ignore[no-untyped-call]
    medians = {
        name: each.grad.abs().median().item() for name, each in model.named_parameters() if each.grad is not None
    }
    assert len(medians) == len(list(model.parameters()))
    assert min(medians.values()) > 1e-10, min(medians, key=medians.__getitem__)


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
        ("resnet34", (3, 7, 32), "resnet34 needs images of at least 8×8"),
        ("densenet121", (3, 7, 32), "densenet121 needs images of at least 8×8"),
        ("vit", (64,), "vit needs images of at least 4×4"),
        ("vit", (3, 32, 30), "patches of 4×4 do not cover images of 32×30 pixels; set model.patch"),
    ],
)
def test_too_small_inputs_are_refused(name: str, inputs: tuple[int, ...], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        build(name, inputs)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("mlp", {"hidden": [0]}),
        ("mlp", {"dropout": 1}),
        ("vgg11", {"dropout": -0.1}),
        ("alexnet", {"dropout": 1}),
        ("resnet34", {"width": 0}),
        ("densenet121", {"growth": 0}),
        ("vit", {"patch": 0}),
    ],
)
def test_options_out_of_range_are_refused(name: str, settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="than"):
        models.load(name).Options(name=name, **settings)


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValidationError, match="width: 10 cannot be shared by 3 heads; take a multiple of heads"):
        models.load("vit").Options(name="vit", width=10)
