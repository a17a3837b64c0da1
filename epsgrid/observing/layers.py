"""The parameters of an optimizer by the names and kinds they have in their model.

An optimizer knows tensors and groups, and what people ask about are layers: which of them sets a bound, whether
embeddings differ from convolutions. A layer here is one parameter tensor under its name in the model, without what
wrappers put before it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from epsgrid.errors import ObservationError
from epsgrid.numerics.magnitudes import OTHER
from epsgrid.observing.kinds import kinds_of

NamedParameters = Iterable[tuple[str, torch.Tensor]]

_HOW_TO_NAME = "give named_parameters=model.named_parameters(), or model=model"
_WRAPPER = re.compile(r"(^|(?<=\.))(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_PARALLEL = "module."


@dataclass(frozen=True, eq=False, slots=True)
class Layer:
    """One parameter tensor.

    Attributes:
        name: its name in the model, without the prefixes of wrappers.
        parameter: the tensor.
        group: the optimizer's parameter group that holds it; None where none does, and it is then frozen.
        kind: what it does; one of `kinds.KINDS`.
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
        named_parameters: what `model.named_parameters()` gives. A tensor that comes twice (tied) is listed once, under
            its first name. One that requires a gradient and is not in `optimizer` is some other optimizer's and left
            out; one that requires none is listed all the same.
        model: tells the kinds, and the names too where `named_parameters` is None. Without either, the names are
            those that the optimizer was given, if it was.

    Raises:
        ObservationError: a parameter has no name or is complex, or two have the same name.
    """
    names = names_of(optimizer, named_parameters, model)
    groups = {id(parameter): group for group in optimizer.param_groups for parameter in group["params"]}
    _check_members(optimizer, names)
    kinds = kinds_of(names, model)
    return tuple(
        Layer(name, parameter, groups.get(id(parameter)), kinds[name])
        for name, parameter in names.items()
        if id(parameter) in groups or not parameter.requires_grad
    )


def names_of(
    optimizer: torch.optim.Optimizer,
    named_parameters: NamedParameters | None = None,
    model: nn.Module | None = None,
) -> dict[str, torch.Tensor]:
    """Return tensors by their bare names, each once.

    Raises:
        ObservationError: there are no names, or two tensors have the same.
    """
    if named_parameters is None:
        named_parameters = _names_in_groups(optimizer) if model is None else model.named_parameters()
    firsts: dict[int, tuple[str, torch.Tensor]] = {}
    for name, parameter in _pairs(named_parameters):
        firsts.setdefault(id(parameter), (name, parameter))
    names: dict[str, torch.Tensor] = {}
    for name, (_, parameter) in zip(bare([name for name, _ in firsts.values()]), firsts.values(), strict=True):
        if name in names:
            raise ObservationError(
                f"two parameters are called {name!r}; name each differently, as model.named_parameters() does"
            )
        names[name] = parameter
    return names


def bare(names: Iterable[str]) -> list[str]:
    """Return names without the prefixes of wrappers: torch.compile, FSDP, checkpointing, DataParallel and DDP.

    "module." is taken for a wrapper's only where every name begins with it: a model may have a part of that name.

    >>> bare(["module._orig_mod.0.weight", "module._orig_mod.0.bias"])
    ['0.weight', '0.bias']
    """
    stripped = [_WRAPPER.sub("", name) for name in names]
    while stripped and all(name.startswith(_PARALLEL) for name in stripped):
        stripped = [name.removeprefix(_PARALLEL) for name in stripped]
    return stripped


def shape_in_words(tensor: torch.Tensor) -> str:
    """Return a shape such as 3×5; "()" of a scalar."""
    return "×".join(map(str, tensor.shape)) or "()"


def _names_in_groups(optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, torch.Tensor]]:
    for number, group in enumerate(optimizer.param_groups):
        if "param_names" not in group:
            raise ObservationError(
                f"unnamed parameters: group {number} of {type(optimizer).__name__} has no names; {_HOW_TO_NAME}"
            )
        yield from zip(group["param_names"], group["params"], strict=True)


def _pairs(named_parameters: Any) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(named_parameters, nn.Module) or not isinstance(named_parameters, Iterable):
        raise _not_a_pair(named_parameters)
    for pair in named_parameters:
        if not (isinstance(pair, tuple) and [isinstance(part, torch.Tensor) for part in pair] == [False, True]):
            raise _not_a_pair(pair)
        name, parameter = pair
        yield str(name), parameter


def _not_a_pair(what: Any) -> ObservationError:
    words = type(what).__name__ if isinstance(what, torch.Tensor | nn.Module) else repr(what)[:80]
    return ObservationError(f"unnamed parameters: expected pairs of name and parameter, got {words}; {_HOW_TO_NAME}")


def _check_members(optimizer: torch.optim.Optimizer, names: Mapping[str, torch.Tensor]) -> None:
    named = {id(parameter): name for name, parameter in names.items()}
    for number, group in enumerate(optimizer.param_groups):
        for place, parameter in enumerate(group["params"]):
            if id(parameter) not in named:
                raise ObservationError(
                    f"unnamed parameters: parameter {place} of group {number}, of shape {shape_in_words(parameter)}, is"
                    f" not among the {len(named)} named ones; {_HOW_TO_NAME}, of the whole model"
                )
            if parameter.is_complex():
                raise ObservationError(
                    f"parameter {named[id(parameter)]!r} is complex ({parameter.dtype}), which has no histogram here;"
                    " keep its real and imaginary part as one real parameter, as torch.view_as_real does"
                )
