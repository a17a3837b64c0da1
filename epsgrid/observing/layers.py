"""The parameters of an optimizer by the names and kinds they have in their model.

A layer here is one parameter tensor under its name in the model, without the prefixes that wrappers put before it.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from epsgrid.errors import ObservationError
from epsgrid.numerics.magnitudes import OTHER
from epsgrid.observing.kinds import kinds_of

NamedParameters = Iterable[tuple[str, torch.Tensor]]

_HOW_TO_NAME = "give named_parameters=model.named_parameters(), or model=model"
_WRAPPED = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module", "_original_module"}
"""What torch.compile, FSDP, checkpointing and Fabric call the module that they wrap."""
_PARALLEL = "module"
_PARALLEL_CLASS = re.compile(r"DataParallel$|^DeepSpeedEngine$")
"""The classes whose wrapped module is called "module", as parts of other models may be."""


@dataclass(frozen=True, eq=False, slots=True)
class Layer:
    """One parameter tensor under its name in the model, without the prefixes of wrappers.

    `group` is the optimizer's parameter group that holds it; None where none does, and it is then frozen. `kind` is
    what it does, see `kinds`; "other" where no model is known.
    """

    name: str
    parameter: torch.Tensor = field(repr=False)
    group: dict[str, Any] | None = field(repr=False)
    kind: str = OTHER


def named_layers(
    optimizer: torch.optim.Optimizer,
    named_parameters: NamedParameters | None = None,
    model: nn.Module | None = None,
) -> tuple[Layer, ...]:
    """List an optimizer's parameters by name, in the order of the names.

    Args:
        optimizer: the real one, not a wrapper.
        named_parameters: pairs as `model.named_parameters()` gives them. A tied tensor is listed once. One that
            requires a gradient and is not in `optimizer` belongs to another optimizer and is left out.
        model: gives the kinds, and the names too where `named_parameters` is None. Without either, and for parameters
            that they lack, the names are those that the optimizer or its group was given, if they were.

    Raises:
        ObservationError: a parameter has no name or is complex, or two have the same name.
    """
    names = _names_of(optimizer, named_parameters, model)
    named = {id(parameter): name for name, parameter in names.items()}
    for number, group in enumerate(optimizer.param_groups):
        for place, parameter in enumerate(group["params"]):
            if id(parameter) not in named:
                raise ObservationError(
                    f"unnamed parameters: parameter {place} of group {number}, of shape {shape_text(parameter)}, is"
                    f" not among the {len(named)} named ones; {_HOW_TO_NAME}, of the whole model"
                )
            if parameter.is_complex():
                raise ObservationError(
                    f"parameter {named[id(parameter)]!r} is complex ({parameter.dtype}), which has no histogram here;"
                    " keep its real and imaginary part as one real parameter, as torch.view_as_real does"
                )
    kinds = {} if model is None else kinds_of(model)
    layers = [Layer(name, parameter, None, kinds.get(id(parameter), OTHER)) for name, parameter in names.items()]
    grouped = with_groups_of(layers, optimizer)
    return tuple(layer for layer in grouped if layer.group is not None or not layer.parameter.requires_grad)


def with_groups_of(layers: Iterable[Layer], optimizer: torch.optim.Optimizer) -> tuple[Layer, ...]:
    """Return layers with the parameter groups that an optimizer has them in."""
    groups = {id(parameter): group for group in optimizer.param_groups for parameter in group["params"]}
    return tuple(replace(layer, group=groups.get(id(layer.parameter))) for layer in layers)


def _names_of(
    optimizer: torch.optim.Optimizer,
    named_parameters: NamedParameters | None = None,
    model: nn.Module | None = None,
) -> dict[str, torch.Tensor]:
    """Return tensors by their bare names, each once; raises as `named_layers`."""
    if named_parameters is None and model is not None:
        named_parameters = model.named_parameters()
    elif named_parameters is None:
        named_parameters = []
        for number, group in enumerate(optimizer.param_groups):
            if "param_names" not in group and _name_in(group, 0) is None:
                raise ObservationError(
                    f"unnamed parameters: group {number} of {type(optimizer).__name__} has no names; {_HOW_TO_NAME}"
                )
            named_parameters += zip(group.get("param_names", ()), group["params"], strict=False)
    is_iterable = isinstance(named_parameters, Iterable) and not isinstance(named_parameters, nn.Module)
    firsts: dict[int, tuple[str, torch.Tensor]] = {}
    for pair in named_parameters if is_iterable else [named_parameters]:
        if not (isinstance(pair, tuple) and [isinstance(part, torch.Tensor) for part in pair] == [False, True]):
            text = type(pair).__name__ if isinstance(pair, torch.Tensor | nn.Module) else repr(pair)[:80]
            wanted = "expected pairs of name and parameter"
            raise ObservationError(f"unnamed parameters: {wanted}, got {text}; {_HOW_TO_NAME}")
        firsts.setdefault(id(pair[1]), (str(pair[0]), pair[1]))
    for group in optimizer.param_groups:
        for place, parameter in enumerate(group["params"]):
            if (name := _name_in(group, place)) is not None:
                firsts.setdefault(id(parameter), (name, parameter))
    names: dict[str, torch.Tensor] = {}
    full = [name for name, _ in firsts.values()]
    is_of_model = model is not None and {name for name, _ in model.named_parameters(remove_duplicate=False)}.issuperset(
        full
    )
    bare = bare_names(full, model if is_of_model else None)
    if len(set(bare)) < len(bare):  # what looks like a wrapper's was a name of the model's own
        bare = full
    for name, (_, parameter) in zip(bare, firsts.values(), strict=True):
        if name in names:
            raise ObservationError(
                f"two parameters are called {name!r}; name each differently, as model.named_parameters() does"
            )
        names[name] = parameter
    return names


def _name_in(group: dict[str, Any], place: int) -> str | None:
    """Return the name that a parameter has by the "name" of its group, as of Gaussians; None where that has none."""
    name = group.get("name")
    if not isinstance(name, str):
        return None
    return name if len(group["params"]) == 1 else f"{name}.{place}"


def bare_names(names: Sequence[str], model: nn.Module | None = None) -> list[str]:
    """Return names without the parts that wrappers add, in any nesting.

    A part "module" is DataParallel's or DDP's where the classes in `model`, whose names these are, say so. Without a
    model it is taken for theirs where every name begins with it: a model may have a part of that name.
    """
    parallel = set()
    for path, module in () if model is None else model.named_modules():
        if any(_PARALLEL_CLASS.search(base.__name__) for base in type(module).__mro__):
            parallel.add(f"{path}.{_PARALLEL}".lstrip("."))
    bare = []
    for name in names:
        parts = name.split(".")
        wrapped = [part in _WRAPPED or ".".join(parts[: place + 1]) in parallel for place, part in enumerate(parts)]
        bare.append([part for part, is_added in zip(parts, wrapped, strict=True) if not is_added])
    while model is None and bare and all(parts[0] == _PARALLEL and parts[1:] for parts in bare):
        bare = [parts[1:] for parts in bare]
    return [".".join(parts) for parts in bare]


def shape_text(tensor: torch.Tensor) -> str:
    """Return a shape such as 3×5; "()" for a scalar."""
    return "×".join(map(str, tensor.shape)) or "()"


class LayerRegistry:
    """An optimizer's layers during training, up to date after each `refresh`.

    `load_state_dict` puts new parameter groups in place of the old, and `add_param_group` brings more. Layers keep
    their places in `layers`; new ones are put at its end. `members` has index, parameter and group of each layer that
    the optimizer holds, and `on_cuda` says whether one of them lies on a CUDA device.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, layers: Sequence[Layer], model: nn.Module | None) -> None:
        self._optimizer, self._model = optimizer, model
        self.layers = list(layers)
        self.groups: list[dict[str, Any]] = []
        self.members: list[tuple[int, torch.Tensor, dict[str, Any]]] = []
        self.on_cuda = False
        self._ids: list[int] = []
        self._at: dict[tuple[int, int], int] = {}  # index of the layer at a place in a group
        self.refresh()

    def refresh(self) -> None:
        """Take over changes of the optimizer's parameter groups; mostly there are none, which costs little to see."""
        groups = self._optimizer.param_groups
        ids = [id(parameter) for group in groups for parameter in group["params"]]
        if ids == self._ids and len(groups) == len(self.groups) and all(map(operator.is_, groups, self.groups)):
            return
        self._ids, self.groups = ids, list(groups)
        self._add_new_layers()
        self.layers = list(with_groups_of(self.layers, self._optimizer))
        self.members = [
            (place, layer.parameter, layer.group) for place, layer in enumerate(self.layers) if layer.group is not None
        ]
        indexes = {id(parameter): index for index, parameter, _ in self.members}
        self._at = {
            (number, position): indexes[id(parameter)]
            for number, group in enumerate(groups)
            for position, parameter in enumerate(group["params"])
        }
        self.on_cuda = any(parameter.is_cuda for _, parameter, _ in self.members)

    def _add_new_layers(self) -> None:
        """Give each parameter that is not listed a name and a kind, and a place in the list.

        One that replaces another which has left the optimizer, as a larger one does when points are added to a cloud,
        is the same layer: it has that one's name in the model, or its place in the group.
        """
        known = {id(layer.parameter) for layer in self.layers}
        if known.issuperset(self._ids):
            return
        try:
            names = {id(parameter): name for name, parameter in _names_of(self._optimizer, model=self._model).items()}
        except ObservationError:  # without a model, parameters may have no names
            names = {}
        kinds = {} if self._model is None else kinds_of(self._model)
        indexes = {layer.name: index for index, layer in enumerate(self.layers)}
        left = {index for index, layer in enumerate(self.layers) if id(layer.parameter) not in self._ids}
        for number, group in enumerate(self.groups):
            for position, parameter in enumerate(group["params"]):
                key = id(parameter)
                if key in known:
                    continue
                name = names.get(key, "")
                index = indexes.get(name, None if key in kinds else self._at.get((number, position)))
                if index in left:
                    left.remove(index)
                    before = self.layers[index]
                    self.layers[index] = Layer(before.name, parameter, None, kinds.get(key, before.kind))
                    continue
                if not name or name in indexes:
                    name = f"group {number}, parameter {position}"
                indexes[name] = len(self.layers)
                self.layers.append(Layer(name, parameter, None, kinds.get(key, OTHER)))
