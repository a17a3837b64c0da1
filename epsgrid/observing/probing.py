"""Probe a model and an optimizer before any training: gradients go in, bounds of ε with their reliability come out.

The published method (arXiv 2311.11532 and its research code) accumulates v over the first epoch without moving the
weights: every gradient is taken at the random initialisation, in training mode, with coupled weight decay added as the
optimizer sees it. Here a copy of the real optimizer does that on a copy of the model. It takes real steps at the real
learning rate, and after each step the weights are put back from the original. So no optimizer is written twice, and
model and optimizer are left as they were found.
"""

from __future__ import annotations

import copy
import fnmatch
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from epsgrid.errors import NoBoundsError, ObservationError
from epsgrid.numerics.bounds import ROUNDING_NOISE, EpsilonBounds, Reliability, Variant, VariantKind
from epsgrid.numerics.counting import measure
from epsgrid.numerics.magnitudes import TAIL_FRACTION, LayerStatistics
from epsgrid.numerics.placement import Placement
from epsgrid.numerics.reliability import judge
from epsgrid.numerics.series import FRACTIONS, Series
from epsgrid.numerics.trajectory import Trajectory, has_settled, trajectory_of
from epsgrid.observing.adapters import Adapter, adapter_for, unwrap, warn_of_underflow
from epsgrid.observing.copying import copy_model, copy_optimizer
from epsgrid.observing.layers import Layer, NamedParameters, named_layers
from epsgrid.observing.observer import Observer
from epsgrid.observing.reading import Reading, bounds_by_placement, local, measure_reading, read
from epsgrid.observing.restoring import devices_of, generators_restored
from epsgrid.observing.rounding import Loss, RoundingNoise, rounding_noise

Betas = float | tuple[float, float]
"""β₂ alone, or β₁ and β₂."""

_OTHER_TAILS = (0.01, 0.05)
_LOOKS_PER_DOUBLING = 8
_NAMES_SHOWN = 8
_USE_THE_COPY = "compute it with the model that loss_fn(model, batch) is called with, a copy, and not with the original"
_ONLY_THE_LOSS = "it must compute the loss and nothing else; leave backward() and optimizer.step() to the probe"


def probe(
    model: nn.Module,
    optimizer: Any,
    batches: Iterable[Any],
    loss_fn: Loss,
    *,
    epochs: int = 1,
    steps: int | None = None,
    clip_norm: float | None = None,
    accumulate: int = 1,
    named_parameters: NamedParameters | None = None,
    tail_fraction: float = TAIL_FRACTION,
    update_weights: bool = False,
    stop_when_settled: bool = False,
    check_rounding: bool = True,
    betas: Sequence[Betas] = (),
    on_step: Callable[[int], None] | None = None,
) -> EpsilonBounds:
    """Estimate the ε range of an optimizer on a model of your own; leave both exactly as they are.

    >>> import torch, epsgrid
    >>> _ = torch.manual_seed(0)
    >>> model = torch.nn.Sequential(torch.nn.Linear(8, 64), torch.nn.ReLU(), torch.nn.Linear(64, 3))
    >>> batches = [(torch.randn(32, 8), torch.randint(3, (32,))) for _ in range(20)]
    >>> def loss(model, batch):
    ...     return torch.nn.functional.cross_entropy(model(batch[0]), batch[1])
    >>> bounds = epsgrid.probe(model, torch.optim.Adam(model.parameters()), batches, loss)
    >>> bounds.low.decade, bounds.high.decade
    (0.001, 0.1)

    A copy of the model is trained by a copy of the optimizer, with real steps at the real learning rate, and its
    weights are put back after each step unless `update_weights`. While it runs it holds a second copy of the weights,
    buffers and optimizer state; the check for rounding noise holds two more of the weights for a moment, see
    `rounding_noise`, and each of `betas` one more of the state. Hooks of the optimizer are not called.

    The global random number generators of torch, numpy and Python are put back, also where `loss_fn` raises or Ctrl-C
    comes, and so are those that `batches` holds, such as the generator of a DataLoader or of its sampler. An iterator
    is used up, and whatever else `batches` counts of its passes goes on.

    Args:
        model: a copy of a model in eval mode is put into training mode; one in training mode stays as it is, so parts
            that you keep in eval mode do too.
        optimizer: as you would train with; may have taken steps, the probe's state is fresh.
        batches: iterated once for each epoch, over anything that `loss_fn` takes. A generator lasts for one epoch.
        loss_fn: called as loss_fn(model, batch) with the copy; returns the scalar loss of which you would call
            `backward()`, and does nothing else. May use autocast; a loss is not scaled, so with float16 small gradients
            become zeros.
        epochs: at least 1; 1 as published.
        steps: the most steps to take; None takes all.
        clip_norm: bound on the norm of the whole gradient, as with `torch.nn.utils.clip_grad_norm_`.
        accumulate: batches for each step; the step's gradient is the mean of theirs.
        named_parameters: names other than those of `model.named_parameters()`, or of a loss's parameters as well.
        tail_fraction: share of the non-zero entries beyond each order statistic, in (0, 0.5); 0.02 as published.
        update_weights: let the copy's weights move, as in training.
        stop_when_settled: stop as soon as `has_settled` says that further steps would change no decade.
        check_rounding: look, on the first batch, for entries whose gradient is only rounding noise.
        betas: further decays (β₂, or a pair β₁, β₂) to state the bounds for, from the same gradients.
        on_step: called with the number of steps taken after each.

    Returns:
        The bounds, with their reliability: variants for other tails, without rounding noise and for `betas`, and the
        bounds over the steps.

    Raises:
        ObservationError: model or optimizer cannot be copied, there is no batch, `batches` does not last for all
            epochs, the loss is no scalar or has no gradient, `loss_fn` uses the original model, steps or moves weights,
            a gradient is sparse, an argument is out of range, or the optimizer cannot be observed; see `observe`.
        NoBoundsError: no layer has a finite non-zero second moment, as where the loss is not finite.
    """
    for name, count in {"epochs": epochs, "steps": steps, "accumulate": accumulate}.items():
        if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < 1):
            raise ObservationError(f"{name} must be a whole number, at least 1, got {count!r}")
    real = unwrap(optimizer)
    warn_of_underflow(real)
    probing = Probing(
        model,
        real,
        loss_fn,
        batches,
        clip_norm=clip_norm,
        named_parameters=named_parameters,
        tail_fraction=tail_fraction,
        update_weights=update_weights,
        check_rounding=check_rounding,
        betas=betas,
    )
    with probing:
        by_step = itertools.islice(_batches_by_step(batches, epochs, accumulate), steps)
        probing.run(by_step, on_step, stop_when_settled=stop_when_settled)
        return probing.bounds()


class Probing:
    """A probe in progress; a context manager, at whose end random number generators are put back.

    It holds a second copy of the weights and a second state of the optimizer; for each of `betas` one more state, and
    with moving weights one more copy of the weights.

    Arguments that `probe` has too are described there.

    Args:
        model: stays untouched.
        optimizer: the real one, no wrapper; may have a state, and stays untouched.
        loss: as `loss_fn` of `probe`; so are the options that `probe` has too.
        batches: the object whose random number generators are put back at the end, such as a DataLoader.
        leave_out: shell patterns of the names of layers that have no say in the bounds.
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
        leave_out: Sequence[str] = (),
        every: int = 1,
        adapter: Adapter | None = None,
    ) -> None:
        if clip_norm is not None and not clip_norm > 0:
            raise ObservationError(f"clip_norm must be positive, got {clip_norm!r}")
        self.steps = 0
        self._loss, self._clip_norm, self._tail_fraction = loss, clip_norm, tail_fraction
        self._moving, self._check_rounding, self._betas = update_weights, check_rounding, betas
        self._adapter = adapter or adapter_for(optimizer)
        layers = named_layers(optimizer, named_parameters, model)
        _refuse_shards(layers)
        self._left_out = frozenset(_matching(leave_out, [layer.name for layer in layers]))
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
        self._variants = [(each, self._with_betas(each)) for each in betas]
        self._noise = RoundingNoise(checked=False)
        self._observer = Observer(self.optimizer, self._layers, self._adapter, every, tail_fraction)
        self._generators = ExitStack()
        self._generators.enter_context(generators_restored(devices_of(model), batches))
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
        self._generators.close()

    def run(
        self,
        batches: Iterable[Sequence[Any]],
        on_step: Callable[[int], None] | None = None,
        *,
        stop_when_settled: bool = False,
    ) -> None:
        """Take a step for each entry of `batches`.

        Args:
            batches: the batches of each step.
            on_step: called with the number of steps taken after each.
            stop_when_settled: stop as soon as the bounds have settled.

        Raises:
            ObservationError: as `probe`.
        """
        for of_a_step in batches:
            self.step(*of_a_step)
            if on_step is not None:
                on_step(self.steps)
            if stop_when_settled and self._has_settled():
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

    def _has_settled(self) -> bool:
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
        others = self._trajectory(self.noisy) if self.noisy else None
        return others is None or not others.steps or has_settled(others)

    @property
    def noisy(self) -> tuple[str, ...]:
        """Names of the layers that have entries whose gradient is only rounding noise."""
        return tuple(layer.name for layer in self._layers if layer.parameter in self._noise.masks)

    def bounds(self, others: Sequence[Variant] = (), without_noise: Sequence[Variant] = ()) -> EpsilonBounds:
        """Estimate the ε range from the steps so far, with rounding noise and without, and judge it.

        Args:
            others: the bounds of other probes, such as of another seed, to judge these by.
            without_noise: the same without the layers that are `noisy`.

        Raises:
            ObservationError: there was no step.
            NoBoundsError: no layer has a finite non-zero second moment.
        """
        if not self.steps:
            raise ObservationError("no batches: a probe needs at least one; check what is given as batches")
        tail = self._tail_fraction
        readings = read(self.optimizer, self._layers, self._adapter)
        statistics, rests = self._measured(readings, tail), self._measured(readings, tail, noise=False)
        bounds = bounds_by_placement(statistics, _placements(readings), tail)
        pairs = zip(statistics, rests, strict=True)
        noise = {layer.name: 1 - rest.nonzero / layer.nonzero for layer, rest in pairs if rest.nonzero < layer.nonzero}
        bare = _variant("without", ROUNDING_NOISE, readings, rests, tail) if noise else []
        published = replace(bounds, reliability=self._judge(bounds, readings, noise, (*others, *bare)))
        if not bare:
            return published
        trusted = replace(bounds, low=bare[0].low, high=bare[0].high, layers=tuple(rests))
        if trusted.decades == bounds.decades:
            return published
        judged = self._judge(trusted, readings, noise, without_noise, with_noise=bounds)
        return published.beside(replace(trusted, reliability=judged))

    def _judge(
        self,
        bounds: EpsilonBounds,
        readings: Sequence[Reading],
        noise: Mapping[str, float],
        others: Sequence[Variant],
        with_noise: EpsilonBounds | None = None,
    ) -> Reliability:
        """Judge bounds; `with_noise` are those with rounding noise, where they and `others` are those without."""
        tail, has_noise, variants = self._tail_fraction, with_noise is None, list(others)
        for other in _OTHER_TAILS:
            if other != tail:
                measured = self._measured(readings, other, noise=has_noise)
                variants += _variant("tail", f"{100 * other:g} %", readings, measured, other)
        for betas, optimizer in self._variants:
            own = read(optimizer, _with_groups_of(self._layers, optimizer), self._adapter)
            measured = self._measured(own, tail, noise=has_noise)
            variants += _variant("betas", _betas_label(betas), own, measured, tail)
        trajectory = self._trajectory(() if has_noise else tuple(noise)) if tail in FRACTIONS else None
        if trajectory is not None and self.steps not in trajectory.steps[-1:]:
            low, high = bounds.low.epsilon, bounds.high.epsilon
            trajectory = Trajectory((*trajectory.steps, self.steps), (*trajectory.low, low), (*trajectory.high, high))
        placement = next(place for place in _placements(readings) if place is not None)
        checked, steps = self._noise.checked, self.steps
        judged = judge(bounds, placement, variants, trajectory, noise, checked, steps, with_noise)
        if self._noise.reason:
            why = f"rounding noise could not be told from gradients: {self._noise.reason}"
            judged = replace(judged, reasons=(*judged.reasons, why))
        return judged

    def variant(self, kind: VariantKind, name: str, leave_out: Collection[str] = ()) -> list[Variant]:
        """Return the present bounds, to compare another probe's with; none where no layer sets any.

        Args:
            kind: of the comparison.
            name: its label.
            leave_out: names of layers without a say.
        """
        readings = read(self.optimizer, self._layers, self._adapter)
        kept = [reading for reading in readings if reading.layer.name not in leave_out]
        return _variant(kind, name, kept, self._measured(kept, self._tail_fraction), self._tail_fraction)

    def _begin(self, batches: Sequence[Any]) -> None:
        """Compute the first gradients, with the checks that are made once."""
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
            self._restart_counters()

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

    def _with_betas(self, betas: Betas) -> torch.optim.Optimizer:
        variant = self._copy_of_optimizer()
        for group in variant.param_groups:
            group.update(_decays(variant, group, betas))
        return variant

    def _step_aside(self, optimizer: torch.optim.Optimizer) -> None:
        """Let another optimizer take a step that changes neither weights nor gradients."""
        gradients = [weight.grad for weight in self._weights]
        for weight, gradient in zip(self._weights, gradients, strict=True):
            weight.grad = None if gradient is None else gradient.clone()
        optimizer.step()
        for weight, gradient in zip(self._weights, gradients, strict=True):
            weight.grad = gradient
        _copy(self._weights, self._weights_before)

    def _restart_counters(self) -> None:
        """Reset what the steps of an optimizer that was trained have written into its groups, such as their number.

        A step of another copy shows which entries these are. A fresh optimizer has their defaults, or none of them.
        """
        stepped, defaults = self._copy_of_optimizer(), self.optimizer.defaults
        self._step_aside(stepped)
        for place, after in enumerate(stepped.param_groups):
            for key, value in list(self.optimizer.param_groups[place].items()):
                if not isinstance(value, int | float | torch.Tensor):
                    continue
                if bool((torch.as_tensor(value) == torch.as_tensor(after[key])).all()):
                    continue
                for optimizer in (self.optimizer, *(variant for _, variant in self._variants)):
                    del optimizer.param_groups[place][key]
                    if key in defaults:
                        optimizer.param_groups[place][key] = copy.copy(defaults[key])

    def _trajectory(self, leave_out: Sequence[str] = ()) -> Trajectory:
        group = next((layer.group for layer in self._layers if layer.group is not None), {})
        return trajectory_of(
            self.series(),
            lambda step: self._adapter.placement(group, step),
            self._tail_fraction,
            leave_out=(*leave_out, *self._left_out),
        )

    def _measured(self, readings: Sequence[Reading], tail: float, *, noise: bool = True) -> list[LayerStatistics]:
        """Return the layers' statistics, with the entries that are noise or over the others alone."""
        measured = []
        for reading in readings:
            layer, mask = measure_reading(reading, tail), self._noise.masks.get(reading.layer.parameter)
            if not noise and mask is not None and reading.values is not None:
                entries = reading.values[~mask.to(reading.values.device)]
                rest = measure(layer.name, entries, reading.scale, tail)
                layer = replace(rest, shape=layer.shape, kind=layer.kind)
            measured.append(layer.left_out() if reading.layer.name in self._left_out else layer)
        return measured


def _betas_label(betas: Betas) -> str:
    """Return the label of betas.

    >>> _betas_label(0.99), _betas_label((0.8, 0.99))
    ('β₂ = 0.99', 'β₁ = 0.8, β₂ = 0.99')
    """
    return f"β₁ = {betas[0]:g}, β₂ = {betas[1]:g}" if isinstance(betas, tuple) else f"β₂ = {betas:g}"


def _decays(optimizer: torch.optim.Optimizer, group: dict[str, Any], betas: Betas) -> dict[str, Any]:
    """Return the options of a parameter group that give it other decays."""
    label, name = _betas_label(betas), type(optimizer).__name__
    for beta in betas if isinstance(betas, tuple) else (betas,):
        if not 0 <= beta < 1:
            raise ObservationError(f"{label}: a decay must lie in [0, 1), got {beta!r}")
    if "betas" in group and len(group["betas"]) == 2:
        pair = betas if isinstance(betas, tuple) else (group["betas"][0], betas)
        return {"betas": tuple(float(beta) for beta in pair)}
    key = next((key for key in ("alpha", "rho") if key in group), None)  # β₂ of RMSprop and of Adadelta
    if key is None:
        raise ObservationError(
            f"{label}: {name} has no decay that could be changed (its groups have no betas, alpha or rho)"
        )
    if isinstance(betas, tuple):
        raise ObservationError(f"{label}: {name} has no β₁, only {key}; give β₂ alone, as {betas[1]:g}")
    return {key: float(betas)}


def _matching(patterns: Sequence[str], names: Sequence[str]) -> Iterator[str]:
    """Yield the names that shell patterns match; raises ObservationError for a pattern that matches none."""
    for pattern in patterns:
        matched = fnmatch.filter(names, pattern)
        if not matched:
            more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
            known = f"{', '.join(names[:_NAMES_SHOWN])}{more}"
            raise ObservationError(f"leave_out: {pattern!r} matches no layer; the layers are {known}")
        yield from matched


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
    statistics: Sequence[LayerStatistics],
    tail_fraction: float,
) -> list[Variant]:
    """Return the bounds of some layers as a variant; none where no layer sets one."""
    try:
        bounds = bounds_by_placement(statistics, _placements(readings), tail_fraction)
    except NoBoundsError:
        return []
    return [Variant(kind, name, bounds.low, bounds.high)]


def _placements(readings: Sequence[Reading]) -> list[Placement | None]:
    return [reading.placement for reading in readings]


def _refuse_shards(layers: Sequence[Layer]) -> None:
    for layer in layers:
        if not is_lazy(layer.parameter) and local(layer.parameter).numel() != layer.parameter.numel():
            raise ObservationError(
                f"this process holds only a part of {layer.name!r}, and a probe measures whole layers: probe before the"
                " model is sharded, or observe the training and call `epsgrid.observing.distributed.gathered_bounds`"
            )


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


def _batches_by_step(batches: Iterable[Any], epochs: int, accumulate: int) -> Iterator[list[Any]]:
    """Yield the batches of each step."""
    for epoch in range(epochs):
        remaining = iter(batches)
        taken = 0
        while group := list(itertools.islice(remaining, accumulate)):
            taken += 1
            yield group
        if not taken and epoch:
            raise ObservationError(
                f"batches were used up after epoch {epoch} of {epochs}: a generator lasts for one; give something that"
                " can be gone through again, such as a list or a DataLoader, or epochs=1"
            )
