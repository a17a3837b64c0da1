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
