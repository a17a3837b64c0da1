"""Parameters by name: of models, of pairs, of named optimizers; tied, frozen, wrapped, of several optimizers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from epsgrid.errors import ObservationError
from epsgrid.observing.layers import LayerRegistry, bare_names, named_layers


def net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))


def adam(parameters: Any, **settings: Any) -> torch.optim.Adam:
    return torch.optim.Adam(parameters, **settings)


def listed(*arguments: Any, **keywords: Any) -> list[tuple[str, str]]:
    return [(layer.name, layer.kind) for layer in named_layers(*arguments, **keywords)]


def test_layers_have_the_models_names_order_groups_and_kinds() -> None:
    model = net()
    parameters = dict(model.named_parameters())
    optimizer = adam(
        [
            {"params": [parameters["3.weight"]]},
            {"params": [p for n, p in parameters.items() if n[0] < "3"]},
            {"params": [parameters["3.bias"]]},
        ]
    )
    layers = named_layers(optimizer, model=model)
    assert [(layer.name, layer.kind) for layer in layers] == [
        ("0.weight", "convolution"),
        ("0.bias", "bias"),
        ("1.weight", "normalisation"),
        ("1.bias", "normalisation"),
        ("3.weight", "dense"),
        ("3.bias", "bias"),
    ]
    assert all(layer.parameter is parameters[layer.name] for layer in layers)
    groups = [next(i for i, g in enumerate(optimizer.param_groups) if g is layer.group) for layer in layers]
    assert groups == [1, 1, 1, 1, 0, 2]
    assert "Parameter" not in repr(layers[0])  # nobody wants to see the weights


def test_names_come_from_pairs_and_kinds_from_the_model_where_both_are_given() -> None:
    model = net()
    names = [(f"net.{name}", parameter) for name, parameter in model.named_parameters()]
    assert listed(adam(model.parameters()), iter(names), model)[:2] == [
        ("net.0.weight", "convolution"),
        ("net.0.bias", "bias"),
    ]
    assert listed(adam(model.parameters()), names)[2] == ("net.1.weight", "other")


def test_a_tied_tensor_is_listed_once_under_its_first_name() -> None:
    model = nn.ModuleDict({"embedding": nn.Embedding(9, 4), "decoder": nn.Linear(4, 9)})
    model["decoder"].weight = model["embedding"].weight
    expected = [("embedding.weight", "embedding"), ("decoder.bias", "bias")]
    optimizer = adam(model.parameters())
    assert listed(optimizer, model=model) == expected
    assert listed(optimizer, model.named_parameters(remove_duplicate=False), model) == expected


def test_frozen_parameters_are_listed_and_other_optimizers_are_not() -> None:
    model = net()
    model[0].requires_grad_(False)
    first, second = adam(model[:2].parameters()), adam(model[3].parameters())
    assert [name for name, _ in listed(first, model=model)] == ["0.weight", "0.bias", "1.weight", "1.bias"]
    layers = named_layers(second, model.named_parameters())
    assert [layer.name for layer in layers] == ["0.weight", "0.bias", "3.weight", "3.bias"]
    assert [layer.group is None for layer in layers] == [True, True, False, False]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["module.a", "module.b.c"], ["a", "b.c"]),
        (["module.module.a"], ["a"]),
        (["module.a", "b"], ["module.a", "b"]),
        (["module._orig_mod.a", "module._orig_mod.b"], ["a", "b"]),
        (["_fsdp_wrapped_module.layers.0._checkpoint_wrapped_module.a"], ["layers.0.a"]),
        (["my_orig_mod.a", "a_module.b"], ["my_orig_mod.a", "a_module.b"]),
        (["_forward_module.a", "_forward_module.b"], ["a", "b"]),
        (["_forward_module.module._orig_mod.a", "_original_module.module.b"], ["a", "b"]),
        (["module", "module.a"], ["module", "module.a"]),
    ],
)
def test_prefixes_of_wrappers_are_taken_off(names: list[str], expected: list[str]) -> None:
    assert bare_names(names) == expected


def test_wrapped_models_have_the_names_and_kinds_of_the_bare_ones() -> None:
    model = net()
    optimizer = adam(model.parameters())
    expected = listed(optimizer, model=model)
    assert listed(optimizer, model=nn.DataParallel(model)) == expected
    compiled = torch.compile(model, backend="eager")
    assert listed(optimizer, model=compiled) == expected
    assert listed(optimizer, nn.DataParallel(compiled).named_parameters(), compiled) == expected


class Holder(nn.Module):
    """A model whose part is called as a wrapper calls its own."""

    def __init__(self, part: nn.Module, **others: nn.Module) -> None:
        super().__init__()
        self.module = part
        for name, other in others.items():
            setattr(self, name, other)


def test_names_that_would_coincide_without_a_wrappers_part_keep_it() -> None:
    model = nn.ModuleDict({"_orig_mod": nn.Linear(2, 1, bias=False)})
    model.register_parameter("weight", nn.Parameter(torch.ones(1)))
    assert [name for name, _ in listed(adam(model.parameters()), model=model)] == ["weight", "_orig_mod.weight"]


class OwnParallel(nn.DataParallel):
    pass


@pytest.mark.parametrize(
    ("wrap", "expected"),
    [
        (lambda part: Holder(part), ["module.weight", "module.bias"]),
        (lambda part: nn.DataParallel(Holder(part)), ["module.weight", "module.bias"]),
        (lambda part: Holder(OwnParallel(part)), ["module.weight", "module.bias"]),
        (lambda part: OwnParallel(nn.DataParallel(part)), ["weight", "bias"]),
        (lambda part: nn.ModuleDict({"a": nn.DataParallel(part), "module": nn.Flatten()}), ["a.weight", "a.bias"]),
        (lambda part: nn.Sequential(torch.compile(nn.DataParallel(part), backend="eager")), ["0.weight", "0.bias"]),
    ],
)
def test_a_part_called_module_is_a_wrappers_where_its_class_says_so(wrap: Any, expected: list[str]) -> None:
    model = wrap(nn.Linear(2, 1))
    optimizer = adam(model.parameters())
    for given in (None, model.named_parameters()):
        assert [name for name, _ in listed(optimizer, given, model)] == expected


def test_unnamed_parameters_are_told_with_the_way_to_mend_it() -> None:
    model = net()
    optimizer = adam(model.parameters())
    with pytest.raises(
        ObservationError, match=r"unnamed parameters: group 0 of Adam has no names; give named_parameters="
    ):
        named_layers(optimizer)
    for wrong, word in ((model.parameters(), "Parameter"), (model, "Sequential"), (3, "3"), (["a"], "'a'")):
        with pytest.raises(
            ObservationError, match=f"unnamed parameters: expected pairs of name and parameter, got {word}; give"
        ):
            named_layers(optimizer, wrong)  # type: ignore[arg-type]


def test_a_parameter_outside_the_names_is_told_by_shape_and_group() -> None:
    model = net()
    optimizer = adam([{"params": list(model.parameters())}, {"params": [nn.Parameter(torch.ones(3, 5))]}])
    words = "unnamed parameters: parameter 0 of group 1, of shape 3×5, is not among the 6 named ones; give"
    with pytest.raises(ObservationError, match=words):
        named_layers(optimizer, model=model)


def test_two_tensors_of_one_name_and_complex_ones_are_refused() -> None:
    first, second = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    with pytest.raises(ObservationError, match="two parameters are called 'a'; name each differently"):
        named_layers(adam([first, second]), [("a", first), ("a", second)])
    first = nn.Parameter(torch.ones(2, dtype=torch.complex64))
    with pytest.raises(ObservationError, match=r"parameter 'a' is complex \(torch.complex64\), which has no histogram"):
        named_layers(adam([first]), [("a", first)])


def names(registry: LayerRegistry) -> list[str]:
    registry.refresh()
    return [layer.name for layer in registry.layers]


def test_added_parameters_have_the_names_that_the_optimizer_was_given_or_group_and_place() -> None:
    model = net()
    optimizer = adam(model.parameters())
    registry = LayerRegistry(optimizer, named_layers(optimizer, model.named_parameters()), None)
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))]})
    assert names(registry)[6:] == ["group 1, parameter 0", "group 1, parameter 1"]
    assert registry.layers[6].kind == "other"
    optimizer = adam(model[3].named_parameters())
    registry = LayerRegistry(optimizer, named_layers(optimizer), None)
    optimizer.add_param_group({"params": [("head.bias", nn.Parameter(torch.ones(2)))]})
    assert names(registry) == ["weight", "bias", "head.bias"]


def test_a_tensor_that_takes_anothers_place_takes_its_place_in_the_list() -> None:
    model = net()
    optimizer = adam(model.parameters())
    registry = LayerRegistry(optimizer, named_layers(optimizer, model=model), model)
    model[3].weight = optimizer.param_groups[0]["params"][4] = nn.Parameter(torch.ones(2, 16))
    assert names(registry) == [name for name, _ in model.named_parameters()]
    assert registry.layers[4].parameter is model[3].weight
    assert [index for index, *_ in registry.members] == list(range(6))


def test_a_layer_that_leaves_the_optimizer_stays_listed_without_a_group() -> None:
    model = net()
    optimizer = adam([{"params": list(model[0].parameters())}, {"params": list(model[3].parameters())}])
    registry = LayerRegistry(optimizer, named_layers(optimizer, model=model), model)
    del optimizer.param_groups[0]
    assert names(registry) == ["0.weight", "0.bias", "3.weight", "3.bias"]
    assert [layer.group is None for layer in registry.layers] == [True, True, False, False]
    assert [index for index, *_ in registry.members] == [2, 3]


def cloud(*sizes: int) -> torch.optim.Adam:
    """The optimizer of a point cloud: a group for each property, with its name."""
    named = zip(("position", "opacity"), sizes, strict=True)
    return adam([{"params": [nn.Parameter(torch.ones(size, 3))], "name": name} for name, size in named])


def test_parameters_without_a_model_have_the_names_of_their_groups() -> None:
    assert [name for name, _ in listed(cloud(4, 5))] == ["position", "opacity"]
    several = adam([{"params": [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))], "name": "both"}])
    assert [name for name, _ in listed(several)] == ["both.0", "both.1"]
    with pytest.raises(ObservationError, match="two parameters are called 'same'; name each differently"):
        listed(adam([{"params": [nn.Parameter(torch.ones(2))], "name": "same"} for _ in range(2)]))
    model = net()
    optimizer = adam(model.parameters())
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))], "name": "extra"})
    assert [name for name, _ in listed(optimizer, model=model)][-2:] == ["3.bias", "extra"]


@pytest.mark.parametrize("has_names", [True, False])
def test_a_larger_tensor_in_the_place_of_another_is_the_same_layer(has_names: bool) -> None:
    optimizer = cloud(4, 5)
    pairs = [(f"my.{group['name']}", group["params"][0]) for group in optimizer.param_groups]
    registry = LayerRegistry(optimizer, named_layers(optimizer, None if has_names else pairs), None)
    before = names(registry)
    for size in (6, 9):
        for group in optimizer.param_groups:
            if not has_names:
                group.pop("name", None)
            group["params"][0] = nn.Parameter(torch.ones(size, 3))
        assert names(registry) == before == (["position", "opacity"] if has_names else ["my.position", "my.opacity"])
        assert [layer.parameter.shape[0] for layer in registry.layers] == [size, size]
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))], "name": "position"})
    assert names(registry)[2:] == ["group 2, parameter 0"]  # the name is taken


def test_another_part_of_the_model_in_the_place_of_one_is_another_layer() -> None:
    model = nn.ModuleDict({"old": nn.Linear(2, 1, bias=False)})
    optimizer = adam(model.parameters())
    registry = LayerRegistry(optimizer, named_layers(optimizer, model=model), model)
    model["new"] = nn.Linear(2, 1, bias=False)
    optimizer.param_groups[0]["params"][0] = model["new"].weight
    assert names(registry) == ["old.weight", "new.weight"]
    assert [layer.group is None for layer in registry.layers] == [True, False]
