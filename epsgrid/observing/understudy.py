"""Second optimizers that see an optimizer's gradients and keep a state of their own, and never touch its weights.

An understudy is of the same class as the optimizer it follows, so no rule is written twice, and it is made without
calling the constructor, whose arguments we cannot know. It steps on stand-ins: copies of the weights, which are brought
up to date before every step. So nothing that it does can reach the weights themselves, whether the optimizer heeds a
learning rate of 0 or not, whatever 0/0 does to it at ε = 0; and coupled weight decay finds the weights as they were
before the real step.
"""

from __future__ import annotations

import copy
from collections import OrderedDict, defaultdict, deque
from collections.abc import Mapping
from typing import Any, Protocol

import torch

from epsgrid import optimizers
from epsgrid.errors import ObservationError
from epsgrid.observing.reading import local

Betas = float | tuple[float, float]
"""β₂ alone, or β₁ and β₂."""

_DECAYS = ("alpha", "rho")
"""What RMSprop and Adadelta call β₂."""

_HOOKS = (
    "_optimizer_step_pre_hooks",
    "_optimizer_step_post_hooks",
    "_optimizer_state_dict_pre_hooks",
    "_optimizer_state_dict_post_hooks",
    "_optimizer_load_state_dict_pre_hooks",
    "_optimizer_load_state_dict_post_hooks",
)
_NOT_COPIED = (*_HOOKS, "state", "param_groups", "step", "grad_scale", "found_inf")
"""`step` is found on an optimizer, and not on its class alone, where a schedule has wrapped it to count its calls."""

_NUMBERS = (bool, int, float, torch.Tensor)


class Tensors(Protocol):
    """Says for each parameter of the followed optimizer what an understudy steps on."""

    def __getitem__(self, parameter: torch.Tensor, /) -> torch.Tensor:
        """Return the tensor that stands for a parameter."""
        ...


class Itself:
    """Every parameter for itself: the understudy moves the weights."""

    def __getitem__(self, parameter: torch.Tensor, /) -> torch.Tensor:
        """Return the parameter."""
        return parameter


class StandIns:
    """Copies of an optimizer's parameters, for understudies to step on; one set serves several.

    They take the memory of the weights once more.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer
        self._copies: dict[torch.Tensor, torch.Tensor] = {}
        self._follow_groups()

    def __getitem__(self, parameter: torch.Tensor, /) -> torch.Tensor:
        """Return the stand-in of a parameter."""
        return self._copies[parameter]

    def _follow_groups(self) -> None:
        """Take over parameters that are new."""
        for group in self._optimizer.param_groups:
            for parameter in group["params"]:
                if parameter not in self._copies:
                    self._add(parameter)

    def _add(self, parameter: torch.Tensor) -> None:
        copied = parameter.detach().clone(memory_format=torch.preserve_format)
        if isinstance(parameter, torch.nn.Parameter):
            copied = torch.nn.Parameter(copied, parameter.requires_grad)
        else:
            copied.requires_grad_(parameter.requires_grad)
        vars(copied).update(vars(parameter))
        self._copies[parameter] = copied

    @torch.no_grad()
    def refresh(self) -> None:
        """Give the stand-ins the weights and the gradients as they are now; the gradients are not copied.

        A fused optimizer under a gradient scaler gets scaled gradients, and its kernel divides them in place: the
        stand-ins get quotients of their own.
        """
        self._follow_groups()
        originals, copies = map(list, (map(local, self._copies), map(local, self._copies.values())))
        torch._foreach_copy_(copies, originals)  # of a DTensor its shard: it has no such operation
        scale = getattr(self._optimizer, "grad_scale", None)
        for original, copied in self._copies.items():
            gradient = original.grad
            copied.grad = gradient if scale is None or gradient is None else gradient / scale.to(gradient.device)

    def moved(self) -> torch.Tensor | None:
        """Return a parameter that is no longer as it was when its stand-in was last refreshed; None if all are."""
        for original, copied in self._copies.items():
            if not torch.allclose(local(original), local(copied), rtol=0, atol=0, equal_nan=True):
                return original
        return None

    def release(self) -> None:
        """Let go of the gradients."""
        for copied in self._copies.values():
            copied.grad = None


class Understudy:
    """An optimizer that follows another one.

    Args:
        followed: the optimizer; of its hooks none is called, and its state and groups are only read.
        tensors: what the understudy steps on.
        betas: decays in place of the followed optimizer's own; None keeps them.
        moving: keep the followed optimizer's learning rate; else it is 0.

    Attributes:
        optimizer: the second optimizer, with fresh state.

    Raises:
        ObservationError: `betas` are out of range, or the optimizer has none.
    """

    def __init__(
        self,
        followed: torch.optim.Optimizer,
        tensors: Tensors,
        betas: Betas | None = None,
        *,
        moving: bool = False,
    ) -> None:
        self._followed, self._tensors, self._betas, self._moving = followed, tensors, betas, moving
        self._held: list[dict[str, Any]] = []
        self.optimizer = _without_state(followed)
        self._follow_groups()
        self.optimizer.state = defaultdict(dict, _fresh_state(followed, tensors))

    def step(self) -> None:
        """Take a step on the tensors' gradients, with the hyperparameters that the followed optimizer has now."""
        self._follow_groups()
        for own, group, held in zip(self.optimizer.param_groups, self._followed.param_groups, self._held, strict=True):
            numbers = {key: _own(value) for key, value in group.items() if isinstance(value, _NUMBERS)}
            own.update({**numbers, **held})
        vars(self.optimizer).update(grad_scale=None, found_inf=getattr(self._followed, "found_inf", None))
        self.optimizer.step()

    def _follow_groups(self) -> None:
        """Take over groups that have been added, and parameters that have been added to groups."""
        groups = self.optimizer.param_groups
        for group in self._followed.param_groups[len(groups) :]:
            held = _held_values(self._followed, group, self._betas, moving=self._moving)
            own = {key: _own(value) for key, value in group.items() if key != "params"}
            groups.append({"params": [], **own, **held})
            self._held.append(held)
        for own, group in zip(groups, self._followed.param_groups, strict=True):
            own["params"].extend(self._tensors[parameter] for parameter in group["params"][len(own["params"]) :])


def label(betas: Betas) -> str:
    """Return betas in words.

    >>> label(0.99), label((0.8, 0.99))
    ('β₂ = 0.99', 'β₁ = 0.8, β₂ = 0.99')
    """
    return f"β₁ = {betas[0]:g}, β₂ = {betas[1]:g}" if isinstance(betas, tuple) else f"β₂ = {betas:g}"


def _without_state(followed: torch.optim.Optimizer) -> torch.optim.Optimizer:
    optimizer: torch.optim.Optimizer = object.__new__(type(followed))
    attributes = {name: _own(value) for name, value in vars(followed).items() if name not in _NOT_COPIED}
    vars(optimizer).update(attributes, state=defaultdict(dict), param_groups=[])
    vars(optimizer).update({name: OrderedDict() for name in _HOOKS})
    return optimizer


def _own(value: Any) -> Any:
    """Return a copy of what may be written in place."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        copied = copy.copy(value)
        copied.update({key: _own(each) for key, each in value.items()})
        return copied
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return type(value)(_own(each) for each in value)
    return copy.copy(value) if isinstance(value, set | deque) else value


def _held_values(
    followed: torch.optim.Optimizer, group: Mapping[str, Any], betas: Betas | None, *, moving: bool
) -> dict[str, Any]:
    """Return what is not the followed optimizer's: the betas where asked for, the rate, Adamax's stored ε."""
    held: dict[str, Any] = {} if betas is None else _decays(followed, group, betas)
    if "lr" in group and not moving:
        rate = group["lr"]
        held["lr"] = torch.zeros_like(rate) if isinstance(rate, torch.Tensor) else 0.0
    if isinstance(followed, torch.optim.Adamax):
        held["eps"] = optimizers.probing_epsilon(optimizers.load("adamax"))
    return held


def _decays(followed: torch.optim.Optimizer, group: Mapping[str, Any], betas: Betas) -> dict[str, Any]:
    for beta in betas if isinstance(betas, tuple) else (betas,):
        if not 0 <= beta < 1:
            raise ObservationError(f"{label(betas)}: a decay must lie in [0, 1), got {beta!r}")
    name = type(followed).__name__
    if "betas" in group and len(group["betas"]) == 2:
        pair = betas if isinstance(betas, tuple) else (float(group["betas"][0]), betas)
        return {"betas": tuple(float(beta) for beta in pair)}
    for key in _DECAYS:
        if key in group:
            if isinstance(betas, tuple):
                raise ObservationError(f"{label(betas)}: {name} has no β₁, only {key}; give β₂ alone, as {betas[1]:g}")
            return {key: float(betas)}
    raise ObservationError(
        f"{label(betas)}: {name} has no decay that could be another (its groups have no betas, alpha or rho)"
    )


def _fresh_state(followed: torch.optim.Optimizer, tensors: Tensors) -> dict[torch.Tensor, dict[str, Any]]:
    """Return the state that an optimizer has before its first step, over other tensors.

    Most have none. Adagrad is built with one. Of a class that we do not know, a state in which no step is counted yet
    is taken to be the one it was built with.
    """
    fresh = {}
    for group in followed.param_groups:
        for parameter in group["params"]:
            state = followed.state.get(parameter, {})
            if isinstance(followed, torch.optim.Adagrad):
                fresh[tensors[parameter]] = _adagrads(state, group, tensors[parameter])
            elif state and not float(state.get("step", 1)):
                fresh[tensors[parameter]] = _own(state)
    return fresh


def _adagrads(state: Mapping[str, Any], group: Mapping[str, Any], stand_in: torch.Tensor) -> dict[str, Any]:
    start = group["initial_accumulator_value"]
    sums = torch.full_like(stand_in, start, memory_format=torch.preserve_format, requires_grad=False)
    return {"step": torch.zeros_like(state["step"]), "sum": sums}
