"""A probe in progress: gradients go in step by step, bounds with their reliability come out.

The published method (arXiv 2311.11532 and its research code) accumulates v over the first epoch without moving the
weights: every gradient is taken at the random initialisation, in training mode, with coupled weight decay added as the
optimizer sees it. Here a copy of the real optimizer does that on a copy of the model. It takes real steps at the real
learning rate, and after each step the weights are put back from the original. So no optimizer is written twice, and
model and optimizer are left as they were found.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from epsgrid.errors import NoBoundsError, ObservationError
from epsgrid.numerics.bounds import EpsilonBounds, Variant, VariantKind
from epsgrid.numerics.magnitudes import TAIL_FRACTION, LayerStatistics
from epsgrid.numerics.reliability import ROUNDING_NOISE, judge
from epsgrid.numerics.series import FRACTIONS, Series
from epsgrid.numerics.trajectory import Trajectory, has_settled, trajectory_of
from epsgrid.observing.adapters import Adapter, adapter_for
from epsgrid.observing.copying import copy_model, copy_optimizer
from epsgrid.observing.layers import Layer, NamedParameters, named_layers
from epsgrid.observing.observer import Observer
from epsgrid.observing.reading import Reading, bounds_of_readings, local, measure_reading, read
from epsgrid.observing.restoring import devices_of, generators_restored
from epsgrid.observing.rounding import Loss, RoundingNoise, noise_share, rounding_noise, without_noise

Betas = float | tuple[float, float]
"""β₂ alone, or β₁ and β₂."""

_OTHER_TAILS = (0.01, 0.05)
_LOOKS_PER_DOUBLING = 8
_DECAYS = ("alpha", "rho")
"""The names of β₂ in RMSprop and Adadelta."""


class Probing:
    """A probe in progress; a context manager, at whose end random number generators are put back.

    It holds a second copy of the weights and a second state of the optimizer; for each of `betas` one more state, and
    with moving weights one more copy of the weights.

    Args:
        model: stays untouched.
        optimizer: the real one, no wrapper; may have a state, and stays untouched.
        loss: as `loss_fn` of `probe`.
        batches: the object whose random number generators are put back at the end, such as a DataLoader.
        clip_norm: as for `probe`, and so are the following.
        named_parameters: names other than the model's.
        tail_fraction: in (0, 0.5).
        update_weights: let the weights move.
        check_rounding: look for rounding noise before the first step.
        betas: further decays.
        every: number of steps from one snapshot of the series to the next.
        adapter: knows where the optimizer keeps v; None finds the one of its class.

    Attributes:
        model: the copy that is trained.
        optimizer: the copy that trains it; its learning rates may be set before each step.
        steps: taken so far.

    Raises:
        ObservationError: as `probe`.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss: Loss,
        batches: object = None,
        *,
        clip_norm: float | None = None,
        named_parameters: NamedParameters | None = None,
        tail_fraction: float = TAIL_FRACTION,
        update_weights: bool = False,
        check_rounding: bool = True,
        betas: Sequence[Betas] = (),
        every: int = 1,
        adapter: Adapter | None = None,
    ) -> None:
        if not 0 < tail_fraction < 0.5:
            raise ObservationError(f"tail_fraction must lie between 0 and 0.5, got {tail_fraction!r}")
        if clip_norm is not None and not clip_norm > 0:
            raise ObservationError(f"clip_norm must be positive, got {clip_norm!r}")
        layers = named_layers(optimizer, named_parameters, model)
        _refuse_shards(layers)
        for group in optimizer.param_groups:
            for each in betas:
                _decays(optimizer, group, each)
        self.steps = 0
        self._loss, self._clip_norm, self._tail_fraction = loss, clip_norm, tail_fraction
        self._moving, self._check_rounding, self._betas = update_weights, check_rounding, betas
        self._adapter = adapter or adapter_for(optimizer)
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
        self.optimizer = copy_optimizer(optimizer, memo, self._adapter)
        self._was_trained = len(self.optimizer.state) < len(optimizer.state)
        self._weights = list(_parameters_of(self.optimizer).values())
        self._weights_before = [each.clone() if update_weights else sources[id(each)] for each in self._weights]
        self._parameters = list(dict.fromkeys([*self.model.parameters(), *self._weights]))
        copied = (replace(layer, parameter=memo.get(id(layer.parameter), layer.parameter)) for layer in layers)
        self._layers = _with_groups_of(copied, self.optimizer)
        self._variants: list[tuple[Betas, torch.optim.Optimizer]] = []
        self._noise = RoundingNoise(checked=False)
        self._observer = Observer(self.optimizer, self._layers, self._adapter, every, tail_fraction)
        self._at_the_end = ExitStack()
        self._at_the_end.enter_context(generators_restored(devices_of(model), batches))
        if not self.model.training:
            self.model.train()

    def __enter__(self) -> Probing:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._observer.close()
        with torch.no_grad():
            for parameter, content, gradient in self._of_the_loss:
                parameter.copy_(content)
                parameter.grad = gradient
        self._at_the_end.close()

    def run(
        self,
        batches: Iterable[Sequence[Any]],
        on_step: Callable[[int], None] | None = None,
        *,
        stop_when_settled: bool = False,
    ) -> None:
        """Take a step for each entry of `batches`, which is one or several batches.

        Args:
            batches: of each step.
            on_step: called with the number of steps taken after each.
            stop_when_settled: stop as soon as the bounds have settled.

        Raises:
            ObservationError: as `probe`.
        """
        for of_a_step in batches:
            self.step(*of_a_step)
            if on_step is not None:
                on_step(self.steps)
            if stop_when_settled and self.settled():
                break

    def step(self, *batches: Any) -> None:
        """Take a step on the mean gradient of one or several batches."""
        if self.steps:
            self._compute_gradients(batches)
        else:
            self._begin(batches)
        if self._moving and self._variants:
            _copy(self._weights_before, self._weights)
        for _, variant in self._variants:
            self._step_aside(variant)
        self.optimizer.step()
        if not self._moving:
            _copy(self._weights, self._weights_before)
        self.steps += 1

    def series(self) -> Series:
        """Return the percentiles and histograms over the steps, as an observer keeps them."""
        return self._observer.series()

    def settled(self) -> bool:
        """Return whether the bounds have settled, with layers of rounding noise and without them.

        It looks only now and then, a few times while the steps double, and returns False in between.

        Raises:
            ObservationError: the tail fraction is none of those that are followed.
        """
        if self._tail_fraction not in FRACTIONS:
            followed = ", ".join(f"{fraction:g}" for fraction in FRACTIONS if fraction < 0.5)
            raise ObservationError(
                f"whether the bounds have settled is followed for the tail fractions {followed},"
                f" not for {self._tail_fraction:g}"
            )
        if self.steps % max(1, (1 << self.steps.bit_length()) // (2 * _LOOKS_PER_DOUBLING)):
            return False
        if not has_settled(self._trajectory()):
            return False
        marked = {id(parameter) for parameter in self._noise.parameters.values()}
        noisy = [layer.name for layer in self._layers if id(layer.parameter) in marked]
        others = self._trajectory(noisy) if noisy else None
        return others is None or not others.steps or has_settled(others)

    def bounds(self, others: Sequence[Variant] = ()) -> EpsilonBounds:
        """Estimate the ε range from the steps so far, and judge it.

        Args:
            others: the bounds of other probes, such as of another seed, to judge these by.

        Raises:
            ObservationError: there was no step.
            NoBoundsError: no layer has a finite non-zero second moment.
        """
        if not self.steps:
            raise ObservationError("no batches: a probe needs at least one; check what is given as batches")
        tail = self._tail_fraction
        readings = read(self.optimizer, self._layers, self._adapter)
        statistics = [measure_reading(reading, tail) for reading in readings]
        bounds = bounds_of_readings(readings, statistics, tail)
        rests = self._without_noise(readings, statistics)
        pairs = zip(statistics, rests, strict=True)
        noise = {layer.name: share for layer, rest in pairs if (share := noise_share(layer, rest))}
        variants = list(others)
        for other in _OTHER_TAILS:
            if other != tail:
                variants += _variant("tail", f"{100 * other:g} %", readings, other)
        for betas, optimizer in self._variants:
            own = read(optimizer, _with_groups_of(self._layers, optimizer), self._adapter)
            variants += _variant("betas", betas_label(betas), own, tail)
        if noise:
            variants += _variant("without", ROUNDING_NOISE, readings, tail, rests)
        trajectory = self._trajectory() if tail in FRACTIONS else None
        if trajectory is not None and self.steps not in trajectory.steps[-1:]:
            low, high = bounds.low.epsilon, bounds.high.epsilon
            trajectory = Trajectory((*trajectory.steps, self.steps), (*trajectory.low, low), (*trajectory.high, high))
        placement = next(reading.placement for reading in readings if reading.placement is not None)
        judged = judge(bounds, placement, variants, trajectory, noise, self._noise.checked, self.steps)
        if self._noise.reason:
            why = f"rounding noise could not be told from gradients: {self._noise.reason}"
            judged = replace(judged, reasons=(*judged.reasons, why))
        return replace(bounds, reliability=judged)

    def variant(self, kind: VariantKind, name: str) -> Variant | None:
        """Return the present bounds, to compare another probe's with; None where no layer sets any."""
        found = _variant(kind, name, read(self.optimizer, self._layers, self._adapter), self._tail_fraction)
        return found[0] if found else None

    def _begin(self, batches: Sequence[Any]) -> None:
        """Compute the first gradients, with the checks that are made once, and make the beta variants."""
        with _refusing_calls(self._originals):
            if self._check_rounding:
                self._noise = rounding_noise(self.model, self._loss, batches[0], self.optimizer, self._adapter)
            self._compute_gradients(batches)
        if all(parameter.grad is None for parameter in self._parameters):
            raise ObservationError(f"the loss depends on none of the model's parameters: {_USE_THE_COPY}")
        moved = _first_difference(self._weights, self._weights_before)
        if moved is not None:
            name = next(layer.name for layer in self._layers if layer.parameter is moved)
            raise ObservationError(f"loss_fn has moved the weights of {name!r}: {_ONLY_THE_LOSS}")
        if self._was_trained:
            self._start_counters_again()
        for betas in self._betas:
            variant = self._copy_of_optimizer()
            for group in variant.param_groups:
                group.update(_decays(variant, group, betas))
            self._variants.append((betas, variant))

    def _compute_gradients(self, batches: Sequence[Any]) -> None:
        for parameter in self._parameters:
            parameter.grad = None
        with torch.enable_grad():
            for number, batch in enumerate(batches):
                loss = self._loss(self.model, batch)
                _check_loss(loss)
                if not number and any(parameter.grad is not None for parameter in self._parameters):
                    raise ObservationError(f"loss_fn calls backward(): {_ONLY_THE_LOSS}")
                (loss if len(batches) == 1 else loss / len(batches)).backward()  # type: ignore[no-untyped-call]
        for layer in self._layers:
            if layer.parameter.grad is not None and layer.parameter.grad.is_sparse:
                raise ObservationError(
                    f"layer {layer.name!r} has a sparse gradient, and a probe needs dense ones;"
                    " build the model with torch.nn.Embedding(…, sparse=False)"
                )
        if self._clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self._parameters, self._clip_norm)

    def _copy_of_optimizer(self) -> torch.optim.Optimizer:
        """Return another optimizer of the same copied weights, in the state before its first step."""
        memo = {id(each): each for each in (self.model, *self._parameters)}
        return copy_optimizer(self.optimizer, memo, self._adapter)

    def _step_aside(self, optimizer: torch.optim.Optimizer) -> None:
        """Let another optimizer take a step that changes neither weights nor gradients."""
        gradients = [weight.grad for weight in self._weights]
        for weight, gradient in zip(self._weights, gradients, strict=True):
            weight.grad = None if gradient is None else gradient.clone()
        optimizer.step()
        for weight, gradient in zip(self._weights, gradients, strict=True):
            weight.grad = gradient
        _copy(self._weights, self._weights_before)

    def _start_counters_again(self) -> None:
        """Set back what steps write into the groups of an optimizer that was trained, such as a count of the steps.

        A step of a copy shows what that is.
        """
        stepped, defaults = self._copy_of_optimizer(), self.optimizer.defaults
        self._step_aside(stepped)
        for group, after in zip(self.optimizer.param_groups, stepped.param_groups, strict=True):
            for key, value in list(group.items()):
                if not isinstance(value, int | float | torch.Tensor):
                    continue
                if bool((torch.as_tensor(value) != torch.as_tensor(after[key])).any()):
                    del group[key]
                    if key in defaults:
                        group[key] = copy.copy(defaults[key])

    def _trajectory(self, leave_out: Sequence[str] = ()) -> Trajectory:
        group = next((layer.group for layer in self._layers if layer.group is not None), {})
        return trajectory_of(
            self.series(),
            lambda step: self._adapter.placement(group, step),
            self._tail_fraction,
            leave_out=leave_out,
        )

    def _without_noise(
        self, readings: Sequence[Reading], statistics: Sequence[LayerStatistics]
    ) -> list[LayerStatistics]:
        """Return the layers' statistics over the entries that are not noise."""
        masks = {id(parameter): self._noise.masks[name] for name, parameter in self._noise.parameters.items()}
        rests = []
        for reading, layer in zip(readings, statistics, strict=True):
            mask = masks.get(id(reading.layer.parameter))
            if mask is not None and reading.values is not None:
                layer = without_noise(layer, reading.values, reading.scale, mask, self._tail_fraction)
            rests.append(layer)
        return rests


def betas_label(betas: Betas) -> str:
    """Return the label of betas.

    >>> betas_label(0.99), betas_label((0.8, 0.99))
    ('β₂ = 0.99', 'β₁ = 0.8, β₂ = 0.99')
    """
    return f"β₁ = {betas[0]:g}, β₂ = {betas[1]:g}" if isinstance(betas, tuple) else f"β₂ = {betas:g}"


def _decays(optimizer: torch.optim.Optimizer, group: dict[str, Any], betas: Betas) -> dict[str, Any]:
    """Return the options of a parameter group that give it other decays."""
    for beta in betas if isinstance(betas, tuple) else (betas,):
        if not 0 <= beta < 1:
            raise ObservationError(f"{betas_label(betas)}: a decay must lie in [0, 1), got {beta!r}")
    name = type(optimizer).__name__
    if "betas" in group and len(group["betas"]) == 2:
        pair = betas if isinstance(betas, tuple) else (group["betas"][0], betas)
        return {"betas": tuple(float(beta) for beta in pair)}
    for key in _DECAYS:
        if key in group:
            if isinstance(betas, tuple):
                raise ObservationError(
                    f"{betas_label(betas)}: {name} has no β₁, only {key}; give β₂ alone, as {betas[1]:g}"
                )
            return {key: float(betas)}
    raise ObservationError(
        f"{betas_label(betas)}: {name} has no decay that could be changed (its groups have no betas, alpha or rho)"
    )


def _parameters_of(optimizer: torch.optim.Optimizer) -> dict[int, torch.Tensor]:
    """Return the parameters of all groups by identity."""
    return {id(parameter): parameter for group in optimizer.param_groups for parameter in group["params"]}


def _with_groups_of(layers: Iterable[Layer], optimizer: torch.optim.Optimizer) -> tuple[Layer, ...]:
    groups = {id(parameter): group for group in optimizer.param_groups for parameter in group["params"]}
    return tuple(replace(layer, group=groups.get(id(layer.parameter))) for layer in layers)


@torch.no_grad()
def _copy(targets: Sequence[torch.Tensor], sources: Sequence[torch.Tensor]) -> None:
    torch._foreach_copy_(list(map(local, targets)), list(map(local, sources)))  # not defined for DTensors


def _first_difference(some: Sequence[torch.Tensor], others: Sequence[torch.Tensor]) -> torch.Tensor | None:
    """Return the first of some tensors that differs from its counterpart; waits for the device."""
    for one, other in zip(some, others, strict=True):
        if not torch.allclose(local(one), local(other), rtol=0, atol=0, equal_nan=True):
            return one
    return None


def _variant(
    kind: VariantKind,
    name: str,
    readings: Sequence[Reading],
    tail_fraction: float,
    statistics: Sequence[LayerStatistics] | None = None,
) -> list[Variant]:
    """Return the bounds of some layers as a variant; none where no layer sets one."""
    if statistics is None:
        statistics = [measure_reading(reading, tail_fraction) for reading in readings]
    try:
        bounds = bounds_of_readings(readings, statistics, tail_fraction)
    except NoBoundsError:
        return []
    return [Variant(kind, name, bounds.low, bounds.high)]


def _refuse_shards(layers: Sequence[Layer]) -> None:
    for layer in layers:
        if not is_lazy(layer.parameter) and local(layer.parameter).numel() != layer.parameter.numel():
            raise ObservationError(
                f"this process holds only a part of {layer.name!r}, and a probe measures whole layers: probe before the"
                " model is sharded, or observe the training and call `epsgrid.observing.distributed.gathered_bounds`"
            )


_USE_THE_COPY = "compute it with the model that loss_fn(model, batch) is called with, a copy, and not with the original"
_ONLY_THE_LOSS = "it must compute the loss and nothing else; leave backward() and optimizer.step() to the probe"


@contextmanager
def _refusing_calls(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Refuse a loss that uses the original model, before it changes a buffer or a gradient of it."""

    def refuse(*_: Any) -> None:
        raise ObservationError(f"the loss uses the original model or a part of it: {_USE_THE_COPY}")

    # Scripted modules take no hooks.
    plain = (module for module in modules if not isinstance(module, torch.jit.ScriptModule))
    handles = [module.register_forward_pre_hook(refuse) for module in plain]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _check_loss(loss: Any) -> None:
    if not isinstance(loss, torch.Tensor):
        raise ObservationError(
            f"loss_fn must return the loss as a tensor, got {type(loss).__name__}; return it before .item()"
        )
    if loss.numel() != 1:
        shape = "×".join(map(str, loss.shape))
        raise ObservationError(f"loss_fn must return a scalar, got shape {shape}; take the mean or the sum")
    if not loss.requires_grad:
        raise ObservationError(
            "the loss has no gradient: it depends on no parameter that requires one, or was detached or computed under"
            " torch.no_grad()"
        )
