"""Copy a model and its optimizer together, so that a probe can train the copies and never touch the originals.

Both copies share one memo: whatever the copied optimizer refers to are the copied parameters. It has the state that it
would have before its first step, and none of the original's hooks.
"""

from __future__ import annotations

import contextlib
import copy
import functools
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Mapping
from types import CellType, FunctionType, MethodType
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.utils._pytree import tree_leaves

from epsgrid.errors import EpsgridError, ObservationError, in_a_line
from epsgrid.observing.adapters import Adapter

_Memo = dict[int, Any]
"""What `copy.deepcopy` takes: the copies made so far, by identity of the original."""

_NOT_COPIED = {"state", "step", "grad_scale", "found_inf"}
"""`step` is found on an optimizer, and not on its class alone, where a schedule has wrapped it to count its calls."""

_T = TypeVar("_T")


def copy_model(model: nn.Module) -> tuple[nn.Module, _Memo]:
    """Copy a model with its mode, buffers and attributes, without gradients; return it and a memo of copied parameters.

    Raises ObservationError where the model has lazy parameters, or cannot be copied.
    """
    name = type(model).__name__
    tensors = [*model.parameters(), *model.buffers()]
    if any(is_lazy(tensor) for tensor in tensors):
        raise ObservationError(
            f"{name} has lazy parameters, which get their shape from the first batch; run one batch through the model"
            " first"
        )
    memo: _Memo = {}
    for module in model.modules():  # results of an earlier forward pass, such as a hidden state or a normed weight
        for value in tree_leaves(dict(vars(module))):
            if isinstance(value, torch.Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    copied = _deepcopy(model, memo, name)
    twins = [*copied.parameters(), *copied.buffers()]
    if len(twins) != len(tensors) or any(twin is original for twin, original in zip(twins, tensors, strict=True)):
        raise _cannot_copy(name, "copy.deepcopy does not give each parameter a copy of its own")
    for original, twin in zip(tensors, twins, strict=True):
        memo[id(original)] = twin  # again: the C++ code that copies a scripted model leaves it out
        twin.requires_grad_(original.requires_grad)
        vars(twin).update(_deepcopy(vars(original), memo, name))  # which torch does not copy with a parameter
        for hook in list((original._backward_hooks or {}).values()):  # nor those that clip or mask its gradient
            if twin.requires_grad:
                twin.register_hook(_rebound(hook, memo))  # type: ignore[no-untyped-call]
    for module in copied.modules():  # such as hooks
        for held in (vars(module), *(part for part in vars(module).values() if isinstance(part, dict))):
            for key, value in held.items():
                if isinstance(value, FunctionType | MethodType):
                    held[key] = _rebound(value, memo)
    return copied, memo


def _rebound(value: Any, memo: _Memo) -> Any:
    """Return what stands for a value in the copy, also for functions that refer to parts of the model."""
    if id(value) in memo:
        return memo[id(value)]
    if isinstance(value, MethodType):
        return MethodType(_rebound(value.__func__, memo), _rebound(value.__self__, memo))
    if not isinstance(value, FunctionType) or not (value.__closure__ or value.__defaults__):
        return value
    cells = tuple(CellType() for _ in value.__closure__ or ())
    defaults = tuple(_rebound(each, memo) for each in value.__defaults__ or ())
    twin = FunctionType(value.__code__, value.__globals__, value.__name__, defaults, cells)
    twin.__kwdefaults__ = value.__kwdefaults__
    memo[id(value)] = functools.update_wrapper(twin, value)
    for cell, original in zip(cells, value.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # an empty cell
            cell.cell_contents = _rebound(original.cell_contents, memo)
    return twin


def copy_optimizer(optimizer: torch.optim.Optimizer, memo: _Memo, adapter: Adapter) -> torch.optim.Optimizer:
    """Copy an optimizer with the optimizers inside it, in the state that they have before their first step.

    torch's own copies of an optimizer lack whatever a subclass adds, such as the optimizer that it wraps. Step hooks
    are left out; parameters that `memo` lacks are copied; `adapter` gives the ε to probe with, where that is another
    one. Raises ObservationError where it cannot be copied.
    """
    originals = list(optimizers_in(optimizer))
    for original in originals:
        memo[id(original)] = object.__new__(type(original))
        memo.setdefault(id(original.state), defaultdict(dict))  # one state may belong to several of them
    for original in originals:
        hooks = {name for name in vars(original) if name.startswith("_optimizer_") and name.endswith("_hooks")}
        kept = {name: value for name, value in vars(original).items() if name not in _NOT_COPIED | hooks}
        attributes: dict[str, Any] = memo[id(original)].__dict__
        attributes.update({name: OrderedDict() for name in hooks})
        attributes.update(_deepcopy(kept, memo, type(optimizer).__name__))
        if "state" in vars(original):
            attributes["state"] = memo[id(original.state)]
    for original in originals:
        memo[id(original.state)].update(_fresh_state(original, memo))
    copied: torch.optim.Optimizer = memo[id(optimizer)]
    if adapter.probing_epsilon is not None:
        for group in copied.param_groups:
            group["eps"] = adapter.probing_epsilon
    return copied


def take_step(optimizer: torch.optim.Optimizer, closure: Callable[[], torch.Tensor], *, needed: bool = False) -> bool:
    """Take a step on computed gradients; return whether the optimizer needs a closure, as sharpness-aware ones do.

    `closure` computes them again and returns the loss; it is tried only where a step without it fails, unless it is
    known to be `needed`. Raises ObservationError where a step fails either way.
    """
    failures = []
    for arguments in ((closure,),) if needed else ((), (closure,)):
        try:
            optimizer.step(*arguments)
        except EpsgridError:
            raise
        except Exception as error:  # whatever the code of an optimizer raises
            failures.append(in_a_line(error))
        else:
            return bool(arguments)
    raise ObservationError(
        f"a copy of this {type(optimizer).__name__} cannot take a step ({failures[0]}), nor one with a closure"
        f" ({failures[-1]}): observe the training itself, with epsgrid.observe(optimizer, model=model)"
    )


def _deepcopy(value: _T, memo: _Memo, name: str) -> _T:
    try:
        with torch.no_grad():  # or scripted models get parameters that are results of a computation
            return copy.deepcopy(value, memo)
    except Exception as error:  # whatever the code of a model or an optimizer raises
        raise _cannot_copy(name, in_a_line(error)) from error


def _cannot_copy(name: str, reason: str) -> ObservationError:
    return ObservationError(
        f"{name} cannot be copied ({reason}), and a probe works on a copy of model and optimizer: keep what cannot be"
        " copied outside of them, or observe the training itself, with epsgrid.observe(optimizer, model=model)"
    )


def optimizers_in(value: Any, seen: set[int] | None = None) -> Iterator[torch.optim.Optimizer]:
    """Yield an optimizer and those that it holds, as attributes or in containers; not those that were `seen`."""
    seen = set() if seen is None else seen
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, torch.optim.Optimizer):
        yield value
        value = {name: part for name, part in vars(value).items() if name not in ("state", "param_groups")}
    if isinstance(value, dict | list | tuple | set):
        for part in list(value.values() if isinstance(value, dict) else value):
            yield from optimizers_in(part, seen)


def _fresh_state(original: torch.optim.Optimizer, memo: _Memo) -> dict[Any, Any]:
    """Return the state that an optimizer has before its first step, over the copies of its parameters.

    Most have none; Adagrad is built with one. In a class that we do not know, an entry in which no step is counted yet,
    or which holds zeros only, is taken to be the one it was built with.
    """
    starts = {
        id(parameter): group["initial_accumulator_value"]
        for group in original.param_groups
        for parameter in group["params"]
        if isinstance(original, torch.optim.Adagrad)
    }
    fresh = {}
    for key, entry in original.state.items():
        own = memo.get(id(key), key)
        if id(key) in starts:
            sums = torch.full_like(own, starts[id(key)], memory_format=torch.preserve_format, requires_grad=False)
            fresh[own] = {"step": torch.zeros_like(entry["step"]), "sum": sums}
        elif _is_unused(entry):
            fresh[own] = copy.deepcopy(entry, memo)
    return fresh


def _is_unused(entry: Any) -> bool:
    if isinstance(entry, Mapping):
        return not entry["step"] if "step" in entry else all(map(_is_unused, entry.values()))
    return not (entry.any() if isinstance(entry, torch.Tensor) else entry)
