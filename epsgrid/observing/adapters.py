"""Where an optimizer keeps the second moment that its ε is compared with: torch's optimizers, ours, and yours.

The adapters of known optimizers are built from the files of `epsgrid.optimizers`; any other one is registered with
`register`, usually in one line:

    def second_moment(state, group):
        return epsgrid.SecondMoment(state["v"], group["betas"][1], state["step"]) if state else None

    epsgrid.register_optimizer(MyAdam, second_moment)
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import torch
from pydantic import ValidationError

from epsgrid import optimizers, plugins
from epsgrid.errors import ObservationError
from epsgrid.numerics.placement import Placement
from epsgrid.numerics.precision import DTYPES, underflow_warning
from epsgrid.optimizers import UNSUPPORTED, OptimizerPlugin, SecondMoment
from epsgrid.optimizers._in_place import EpsilonInPlace
from epsgrid.optimizers.adamax import PROBING_EPSILON
from epsgrid.streams import warn_anyway

_State = Mapping[str, Any]
_Group = Mapping[str, Any]

_PLACEMENT_OPTIONS = ("betas", "rho", "alpha", "centered", "rectify")
"""The options of our optimizers that their placements depend on; torch's groups have them under the same names."""

_REASONS = {
    **UNSUPPORTED,
    "adamatan2": "its arc tangent takes the place of a denominator, so it has no epsilon",
    "sgd": "it divides by no second moment, so it has no epsilon",
}


@dataclass(frozen=True)
class Adapter:
    """What has to be known of an optimizer to observe it.

    Attributes:
        second_moment: returns v of one parameter from its entry of `optimizer.state` (empty before its first step) and
            its group; None while there is none. It must not wait for a device.
        placement: returns where ε enters, from the group and the number of steps the parameter has taken.
        probing_epsilon: the ε to probe with where it gets into the second moment; None where any ε will do.
    """

    second_moment: Callable[[_State, _Group], SecondMoment | None]
    placement: Callable[[_Group, float], Placement]
    probing_epsilon: float | None = None


def adapter_for(optimizer: torch.optim.Optimizer) -> Adapter:
    """Return the adapter of an optimizer's class, or of the nearest of its base classes that has one.

    Raises ObservationError where it has no second moment of each weight, or its class is not known.
    """
    real = unwrap(optimizer)
    name = type(real).__name__
    for base in type(real).__mro__:
        if base in _ADAPTERS:
            return _ADAPTERS[base]
        reason = _REASONS.get(base.__name__.lower())
        if reason is not None:
            raise ObservationError(f"{name} cannot be observed: {reason}")
    known = sorted(known.__name__ for known in _ADAPTERS)
    held = ", ".join(dict.fromkeys(f".{where}" for where, _ in _optimizers_held_by(real)))
    if name in known:  # of the same name in another package
        name = f"{type(real).__module__}.{name}"
    raise ObservationError(
        f"{name} is an optimizer that epsgrid does not know (it knows {', '.join(known)}): register it with"
        f" epsgrid.register_optimizer({name}, lambda state, group: epsgrid.SecondMoment("
        'state["exp_avg_sq"], group["betas"][1], state["step"]) if state else None), with the names under which it'
        f" keeps them; if it wraps another optimizer, pass that one{f', of {held}' if held else ''}"
    )


def adapter_called(name: str) -> Adapter:
    """Return the adapter of an optimizer by its name, in any case: one of `epsgrid.optimizers`, or a known class.

    Raises ObservationError where it has no second moment of each weight, or is not known.
    """
    wanted = name.lower()
    if wanted in plugins.names("optimizers"):
        if _plugin(wanted).DEFAULT_EPSILON is None:
            raise ObservationError(f"{name} has nothing to inspect: it has no epsilon")
        return _of_plugins(lambda group: wanted)
    classes = {known.__name__.lower(): adapter for known, adapter in _ADAPTERS.items()}
    if wanted in classes:
        return classes[wanted]
    if (reason := _REASONS.get(wanted)) is not None:
        raise ObservationError(f"{name} has nothing to inspect: {reason}")
    valid = tuple(sorted({*plugins.names("optimizers"), *classes}))
    raise ObservationError(f"unknown optimizer {name!r}{plugins.suggestion(name, valid)}")


def register(
    optimizer_class: type[torch.optim.Optimizer],
    second_moment: Callable[[_State, _Group], SecondMoment | None],
    placement: Placement | Callable[[_Group, float], Placement] = Placement.outside(),  # noqa: B008 - frozen
) -> None:
    """Make a class of optimizers known to `observe` and `probe`, with its subclasses.

    Args:
        optimizer_class: a subclass of torch.optim.Optimizer, else ObservationError; if registered twice, the latest
            counts.
        second_moment: gets `optimizer.state` of one parameter (empty before its first step) and its group, with betas
            as numbers, and returns v, or None while there is none.
        placement: where ε enters; a function of the group and the number of steps where it depends on them.

    What these functions raise or return wrongly is reported as an ObservationError; it ends no training.
    """
    if not (isinstance(optimizer_class, type) and issubclass(optimizer_class, torch.optim.Optimizer)):
        raise ObservationError(f"expected a subclass of torch.optim.Optimizer to register, got {optimizer_class!r}")
    name = optimizer_class.__name__
    for role, given in (("second_moment", second_moment), ("placement", placement)):
        if not (callable(given) or (role == "placement" and isinstance(given, Placement))):
            raise ObservationError(f"{role} of {name} must be a function, got {given!r}")

    def checked(state: _State, group: _Group) -> SecondMoment | None:
        moment = _called("second_moment", name, second_moment, state, _plain(group))
        if moment is None:
            return None
        if not isinstance(moment, SecondMoment):
            raise ObservationError(
                f"second_moment registered for {name} must return an epsgrid.SecondMoment or None,"
                f" got {type(moment).__name__}"
            )
        if not isinstance(moment.values, torch.Tensor):
            raise ObservationError(
                f"the second moment registered for {name} must be a tensor, got a {type(moment.values).__name__}"
            )
        if isinstance(moment.decay, torch.Tensor):
            moment = replace(moment, decay=float(moment.decay))
        if not (isinstance(moment.decay, Real) and 0 <= moment.decay < 1):
            raise ObservationError(f"the decay registered for {name} must lie in [0, 1), got {moment.decay!r}")
        if not (isinstance(moment.step, torch.Tensor) or (isinstance(moment.step, Real) and moment.step >= 0)):
            raise ObservationError(f"the step registered for {name} must be a number, at least 0, got {moment.step!r}")
        return moment

    def placed(group: _Group, step: float) -> Placement:
        if isinstance(placement, Placement):
            return placement
        place = _called("placement", name, placement, _plain(group), step)
        if not isinstance(place, Placement):
            raise ObservationError(
                f"placement registered for {name} must return an epsgrid.Placement, got {type(place).__name__}"
            )
        return place

    _ADAPTERS[optimizer_class] = Adapter(checked, placed)


def from_plugin(plugin: OptimizerPlugin, options: Any) -> Adapter:
    """Return the adapter of an optimizer that a file of `epsgrid.optimizers`, or one like it, has built."""
    probing_epsilon = getattr(plugin, "PROBING_EPSILON", None)
    return Adapter(plugin.second_moment, lambda group, step: plugin.placement(options, step), probing_epsilon)


def _called(role: str, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except Exception as error:  # whatever a user's function raises
        raise ObservationError(
            f"{role} registered for {name} raised {type(error).__name__}: {error} (the state of a layer may be empty)"
        ) from error


def unwrap(optimizer: Any) -> torch.optim.Optimizer:
    """Return the optimizer that takes the steps, which wrappers, such as Lightning's and Accelerate's, hold.

    A wrapper has it as `optimizer` or `optim`; one of an unknown class may have it, and no other, under any name. Where
    what is held is not known and the wrapper is, this returns the wrapper. Raises ObservationError where there is no
    torch.optim.Optimizer.
    """
    chain: list[Any] = []
    inner = optimizer
    while inner is not None and not any(inner is outer for outer in chain):
        chain.append(inner)
        inner = _held_by(inner)
    real = [each for each in chain if isinstance(each, torch.optim.Optimizer)]
    if not real:
        held = ", ".join(dict.fromkeys(f".{where}" for where, _ in _optimizers_held_by(optimizer)))
        pass_one = f"; pass one of those that it holds in {held}" if held else ""
        raise ObservationError(f"expected a torch.optim.Optimizer, got {type(optimizer).__name__}{pass_one}")
    return next((each for each in reversed(real) if _is_known(each)), real[-1])


def name_of(optimizer: torch.optim.Optimizer) -> str:
    """Return what an optimizer is called: its class, or our file for it where the class does not tell."""
    group = optimizer.param_groups[0]
    if isinstance(optimizer, EpsilonInPlace):
        return IN_PLACE[group["squared"]]
    return "amsgrad" if group.get("amsgrad") else type(optimizer).__name__


def _is_known(optimizer: Any) -> bool:
    """Return whether an optimizer's class, or a base of it, has an adapter or a reason to have none."""
    return any(base in _ADAPTERS or base.__name__.lower() in _REASONS for base in type(optimizer).__mro__)


def _held_by(optimizer: Any) -> Any:
    """Return the optimizer that a wrapper holds; None where it is no wrapper, or holds several."""
    for name in ("optimizer", "optim"):  # the latter is ZeroRedundancyOptimizer's
        inner = getattr(optimizer, name, None)
        if isinstance(inner, torch.optim.Optimizer) or hasattr(inner, "param_groups"):
            return inner
    held = [] if _is_known(optimizer) else _optimizers_held_by(optimizer)
    return held[0][1] if len(held) == 1 else None


def _optimizers_held_by(optimizer: Any) -> list[tuple[str, Any]]:
    """Return what is an optimizer, or has its methods, among the attributes of an object or in a container there."""
    found: dict[int, tuple[str, Any]] = {}
    for name, value in getattr(optimizer, "__dict__", {}).items():
        parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else [value]
        for part in parts:
            is_like_one = isinstance(part, torch.optim.Optimizer) or (
                hasattr(part, "step") and hasattr(part, "zero_grad")
            )
            if is_like_one and part is not optimizer:
                found.setdefault(id(part), (name, part))
    return list(found.values())


def _plain(group: _Group) -> _Group:
    """Return a parameter group whose betas are numbers; reading one that lies on a device waits for it."""
    betas = group.get("betas")
    if isinstance(betas, list | tuple) and any(isinstance(beta, torch.Tensor) for beta in betas):
        return {**group, "betas": tuple(float(beta) if isinstance(beta, torch.Tensor) else beta for beta in betas)}
    return group


def epsilon_in(group: _Group, name: str = "eps") -> float | None:
    """Return the ε of a parameter group; None where it has no "eps", or several numbers in it, as Adafactor has.

    Of several, none is known to be the one that √v̂ is compared with. Another `name` asks for another number.
    """
    try:
        return float(group[name])
    except (KeyError, TypeError, ValueError, RuntimeError):  # the last is of a tensor of several
        return None


def warn_of_underflow(optimizer: torch.optim.Optimizer) -> None:
    """Warn, by a RuntimeWarning, of every ε that the type of its parameters cannot hold: in float16, 1e-8 is zero.

    Fused implementations compute in float32 whatever they keep, so they are left out. The warning points to the caller
    of the function that calls this one.
    """
    warned: set[str] = set()
    for group in optimizer.param_groups:
        epsilon = epsilon_in(group)
        if not epsilon or group.get("fused"):
            continue
        types = {str(parameter.dtype).removeprefix("torch.") for parameter in group["params"]}
        for dtype in sorted(types & set(DTYPES)):
            line = underflow_warning(epsilon, dtype)
            if line is not None and line not in warned:
                warned.add(line)
                warn_anyway(f"{type(optimizer).__name__}: {line}", RuntimeWarning, stacklevel=3)


_plugin = functools.cache(optimizers.load)


def _of_plugins(choose: Callable[[_Group], str], probing_epsilon: float | None = None) -> Adapter:
    """Return the adapter of a class that one or several of our optimizer files build; `choose` tells by group which."""

    def second_moment(state: _State, group: _Group) -> SecondMoment | None:
        return _plugin(choose(group)).second_moment(state, _plain(group))

    def placement(group: _Group, step: float) -> Placement:
        chosen, plain_group = choose(group), _plain(group)
        plugin = _plugin(chosen)
        fields = {key: plain_group[key] for key in _PLACEMENT_OPTIONS if key in plugin.Options.model_fields}
        try:
            return plugin.placement(plugin.Options(name=chosen, **fields), step)
        except ValidationError as error:
            reason = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise ObservationError(f"{chosen} with {fields} has no epsilon to bound: {reason}") from error

    return Adapter(second_moment, placement, probing_epsilon)


IN_PLACE = {"gradient": "eadam", "momentum": "adamomentum", "residual": "adabelief"}
"""The optimizer by what `EpsilonInPlace` squares."""

_ADAPTERS: dict[type, Adapter] = {
    torch.optim.Adadelta: _of_plugins(lambda group: "adadelta"),
    torch.optim.Adagrad: _of_plugins(lambda group: "adagrad"),
    torch.optim.Adam: _of_plugins(lambda group: "amsgrad" if group["amsgrad"] else "adam"),
    torch.optim.AdamW: _of_plugins(lambda group: "amsgrad" if group["amsgrad"] else "adam"),
    torch.optim.Adamax: _of_plugins(lambda group: "adamax", PROBING_EPSILON),
    torch.optim.NAdam: _of_plugins(lambda group: "nadam"),
    torch.optim.RAdam: _of_plugins(lambda group: "radam"),
    torch.optim.RMSprop: _of_plugins(lambda group: "rmsprop"),
    EpsilonInPlace: _of_plugins(lambda group: IN_PLACE[group["squared"]]),
}
