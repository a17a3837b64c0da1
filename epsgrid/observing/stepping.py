"""Steps of a copied optimizer on a copied model, with weights that are put back after each.

The copies take real steps at the real learning rate, so no optimizer is written twice, and model and optimizer are left
as they were found.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.utils._pytree import tree_leaves

from epsgrid.errors import ObservationError
from epsgrid.observing.adapters import Adapter
from epsgrid.observing.copying import copy_model, copy_optimizer, optimizers_in, take_step
from epsgrid.observing.layers import Layer, shape_text, with_groups_of
from epsgrid.observing.reading import local
from epsgrid.observing.rounding import Loss

_USE_THE_COPY = "compute it with the model that loss_fn(model, batch) is called with, a copy, and not with the original"
_ONLY_THE_LOSS = "it must compute the loss and nothing else; leave backward() and optimizer.step() to the probe"


class SteppedCopy:
    """A copy of a model, and one of its optimizer, which trains it; its layers are `layers`.

    Model and optimizer, which is no wrapper and may have a state, stay untouched. `loss` and `clip_norm` are as in
    `observing.probing.probe`, `layers` those of the model; `moving` lets the copy's weights move. Raises
    ObservationError where model or optimizer cannot be copied, or this process holds only a part of a layer.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss: Loss,
        adapter: Adapter,
        layers: Sequence[Layer],
        *,
        clip_norm: float | None,
        moving: bool,
    ) -> None:
        for layer in layers:
            if not is_lazy(layer.parameter) and local(layer.parameter).numel() != layer.parameter.numel():
                raise ObservationError(
                    f"this process holds only a part of {layer.name!r}, and a probe measures whole layers: probe before"
                    " the model is sharded, or observe the training and call"
                    " `epsgrid.observing.distributed.gathered_bounds`"
                )
        self._loss, self._adapter, self._clip_norm, self._moving = loss, adapter, clip_norm, moving
        trained = _parameters_of(optimizer)
        self._originals = [part for part in model.modules() if not set(map(id, part.parameters())).isdisjoint(trained)]
        self.model, memo = copy_model(model)
        # Parameters that only the loss has cannot be replaced in it: the copied optimizer steps on the real ones.
        self._of_the_loss = [
            (each, each.detach().clone(), each.grad) for key, each in trained.items() if key not in memo
        ]
        memo.update((id(each), each) for each, _, _ in self._of_the_loss)
        contents = {id(each): content for each, content, _ in self._of_the_loss}
        sources = {id(memo[key]): contents.get(key, each) for key, each in trained.items()}
        self.optimizer = copy_optimizer(optimizer, memo, adapter)
        self._was_trained = len(self.optimizer.state) < len(optimizer.state)
        self._weights = list(_parameters_of(self.optimizer).values())
        self._weights_before = [each.clone() if moving else sources[id(each)] for each in self._weights]
        self._parameters = list(dict.fromkeys([*self.model.parameters(), *self._weights]))
        copied = (replace(layer, parameter=memo.get(id(layer.parameter), layer.parameter)) for layer in layers)
        self.layers = with_groups_of(copied, self.optimizer)
        self._needs_closure = False
        if not self.model.training:
            self.model.train()
        if callable(train := getattr(self.optimizer, "train", None)):  # schedule-free ones have modes, as models have
            train()

    def compute_gradients(self, batches: Sequence[Any]) -> torch.Tensor:
        """Compute the mean gradient of one or several batches, clipped, and return their mean loss.

        Raises ObservationError where the loss is no scalar with a gradient or calls `backward()`, or a gradient is
        sparse.
        """
        for parameter in self._parameters:
            parameter.grad = None
        total: Any = 0.0
        with torch.enable_grad():
            for number, batch in enumerate(batches):
                loss = self._loss(self.model, batch)
                _check_loss(loss)
                if not number and any(parameter.grad is not None for parameter in self._parameters):
                    raise ObservationError(f"loss_fn calls backward(): {_ONLY_THE_LOSS}")
                loss = loss if len(batches) == 1 else loss / len(batches)
                loss.backward()  # type: ignore[no-untyped-call]
                total = total + loss.detach()
        for layer in self.layers:
            if layer.parameter.grad is not None and layer.parameter.grad.is_sparse:
                raise ObservationError(
                    f"layer {layer.name!r} has a sparse gradient, and a probe needs dense ones;"
                    " build the model with torch.nn.Embedding(…, sparse=False)"
                )
        if self._clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self._parameters, self._clip_norm)
        return torch.as_tensor(total)

    @contextmanager
    def original_refused(self) -> Iterator[None]:
        """Refuse a loss that uses the original model, before it changes a buffer or a gradient of it."""
        refusal = ObservationError(
            f"the loss, or a weak reference in the model, uses the original or a part of it: {_USE_THE_COPY}"
        )

        def refuse(*_: Any) -> None:
            raise refusal

        # Scripted modules take no hooks.
        plain = (module for module in self._originals if not isinstance(module, torch.jit.ScriptModule))
        handles = [module.register_forward_pre_hook(refuse) for module in plain]
        gradients = [(each, each.grad) for module in self._originals for each in module.parameters(recurse=False)]
        for parameter, _ in gradients:
            parameter.grad = None
        try:
            yield
            if any(parameter.grad is not None for parameter, _ in gradients):
                raise refusal
        finally:
            for handle in handles:
                handle.remove()
            for parameter, gradient in gradients:
                parameter.grad = gradient

    def begin(self, batches: Sequence[Any]) -> None:
        """Check the first gradients, those of `batches`, and start the counts of an optimizer that was trained again.

        Raises ObservationError where the loss depends on no parameter, or has moved the weights.
        """
        if all(parameter.grad is None for parameter in self._parameters):
            raise ObservationError(f"the loss depends on none of the model's parameters: {_USE_THE_COPY}")
        for weight, before in zip(self._weights, self._weights_before, strict=True):
            # A frozen one may be an average that the model keeps of others, as momentum encoders are.
            if weight.requires_grad and not torch.allclose(local(weight), local(before), 0, 0, equal_nan=True):
                name = next(layer.name for layer in self.layers if layer.parameter is weight)
                raise ObservationError(
                    f"loss_fn has moved the weights of {name!r}: {_ONLY_THE_LOSS}. Where the model sets them itself at"
                    " its first batch, run one through it before"
                )
        if self._was_trained:
            self._restart_counters(batches)

    def step(self, batches: Sequence[Any]) -> None:
        """Take a step on the gradients of `batches`; the weights move with it, or are put back."""
        closure = partial(self.compute_gradients, batches)
        self._needs_closure = take_step(self.optimizer, closure, needed=self._needs_closure)
        if not self._moving:
            _copy(self._weights, self._weights_before)

    def close(self) -> None:
        """Put back the parameters that only the loss has, and their gradients."""
        with torch.no_grad():
            for parameter, content, gradient in self._of_the_loss:
                parameter.copy_(content)
                parameter.grad = gradient

    def _restart_counters(self, batches: Sequence[Any]) -> None:
        """Reset what the steps of an optimizer that was trained have written into its groups, such as their number.

        A step of another copy shows which entries these are, and so does a default that is no argument of the class,
        where all groups have another value. A fresh optimizer has their defaults, or none of them. An attribute that
        a step raises by one counts steps, from 0.
        """
        memo = {id(each): each for each in (self.model, *self._parameters)}
        stepped, defaults = copy_optimizer(self.optimizer, memo, self._adapter), self.optimizer.defaults
        gradients = [None if weight.grad is None else weight.grad.clone() for weight in self._weights]
        take_step(stepped, partial(self.compute_gradients, batches))
        for weight, gradient in zip(self._weights, gradients, strict=True):
            weight.grad = gradient
        _copy(self._weights, self._weights_before)
        self._check_fresh(stepped)
        for own, after_step in zip(optimizers_in(self.optimizer), optimizers_in(stepped), strict=True):
            for name, value in vars(own).items():
                if isinstance(value, bool) or not isinstance(value, int | float | torch.Tensor):
                    continue
                raised = vars(after_step).get(name)
                if isinstance(raised, type(value)) and torch.as_tensor(value).numel() == 1:
                    vars(own)[name] = value * 0 if _are_equal(raised, value + 1) else value
        classes = {base for each in optimizers_in(stepped) for base in type(each).__mro__}
        arguments = {
            name for base in classes for name in inspect.signature(vars(base).get("__init__", object)).parameters
        }
        groups = [dict(group) for group in self.optimizer.param_groups]
        for group, after in zip(self.optimizer.param_groups, stepped.param_groups, strict=True):
            for key, value in list(group.items()):
                if not isinstance(value, int | float | torch.Tensor):
                    continue
                is_own = key in defaults.keys() - arguments and not isinstance(value, bool)
                if not _are_equal(value, after[key]) or (is_own and all(_are_equal(value, g[key]) for g in groups)):
                    del group[key]
                    if key in defaults:
                        group[key] = copy.copy(defaults[key])

    def _check_fresh(self, stepped: torch.optim.Optimizer) -> None:
        """Refuse an optimizer that was trained and keeps second moments in attributes, which are copied as they are."""
        attributes = [
            value
            for each in optimizers_in(stepped)
            for name, value in vars(each).items()
            if name not in ("param_groups", "defaults") and value is not getattr(each, "state", None)
        ]
        kept = {id(leaf) for leaf in tree_leaves(attributes)}
        for group in stepped.param_groups:
            for parameter in group["params"]:
                moment = self._adapter.second_moment(stepped.state.get(parameter, {}), group)
                if moment is not None and id(moment.values) in kept:
                    raise ObservationError(
                        f"this {type(stepped).__name__} was trained, and keeps its second moments in an attribute"
                        " beside `state`, so a copy does not start afresh: probe one that has taken no step"
                    )


def _are_equal(value: Any, other: Any) -> bool:
    return bool((torch.as_tensor(value) == torch.as_tensor(other)).all())


def _parameters_of(optimizer: torch.optim.Optimizer) -> dict[int, torch.Tensor]:
    """Return the parameters of all groups by identity."""
    return {id(parameter): parameter for group in optimizer.param_groups for parameter in group["params"]}


@torch.no_grad()
def _copy(targets: Sequence[torch.Tensor], sources: Sequence[torch.Tensor]) -> None:
    torch._foreach_copy_(list(map(local, targets)), list(map(local, sources)))  # not defined for DTensors


def _check_loss(loss: Any) -> None:
    if not isinstance(loss, torch.Tensor):
        raise ObservationError(
            f"loss_fn must return the loss as a tensor, got {type(loss).__name__}; return it before .item()"
        )
    if loss.numel() != 1:
        raise ObservationError(f"loss_fn must return a scalar, got shape {shape_text(loss)}; take the mean or the sum")
    if not loss.requires_grad:
        raise ObservationError(
            "the loss has no gradient: it depends on no parameter that requires one, or was detached or computed under"
            " torch.no_grad()"
        )
