"""Probe a model and an optimizer before any training: gradients go in, bounds of ε with their reliability come out.

The published method (arXiv 2311.11532 and its research code) accumulates v over the first epoch without moving the
weights: every gradient is taken at the random initialisation, in training mode. Here a copy of the real optimizer does
that on a copy of the model; see `observing.stepping`.
"""

from __future__ import annotations

import fnmatch
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn

from epsgrid.errors import NoBoundsError, ObservationError
from epsgrid.numerics.bounds import EpsilonBounds, Variant, VariantKind
from epsgrid.numerics.magnitudes import TAIL_FRACTION
from epsgrid.numerics.precision import shortened
from epsgrid.numerics.series import FRACTIONS, Series
from epsgrid.numerics.trajectory import has_settled
from epsgrid.observing.adapters import Adapter, adapter_for, name_of, unwrap, warn_of_underflow
from epsgrid.observing.judging import Estimation
from epsgrid.observing.layers import NamedParameters, named_layers
from epsgrid.observing.observer import Observer, check_whole
from epsgrid.observing.reading import read
from epsgrid.observing.restoring import devices_of, generators_restored, surroundings_restored
from epsgrid.observing.rounding import Loss, RoundingNoise, rounding_noise
from epsgrid.observing.stepping import SteppedCopy

_LOOKS_PER_DOUBLING = 8
_NAMES_SHOWN = 8


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

    A copy of the optimizer, without its hooks, takes real steps at the real learning rate on a copy of the model, and
    the weights are put back after each step unless `update_weights`. The random number generators of torch, numpy and
    Python, those that `batches` and `loss_fn` hold, the modules that the loss holds, and the attributes of the
    model's classes are put back, also after an error or Ctrl-C; not the lists and counters that a function writes into.

    Args:
        model: a copy of a model in eval mode is put into training mode.
        optimizer: as you would train with; may have taken steps, the probe's state is fresh. One that wants a closure
            gets one.
        batches: iterated once for each epoch, over anything that `loss_fn` takes. A generator is consumed, and so is
            a stream that the data are read from; it lasts for one epoch.
        loss_fn: called as loss_fn(model, batch) with the copy; returns the scalar loss of which you would call
            `backward()`, and does nothing else. May use autocast.
        epochs: at least 1; 1 as published.
        steps: the most steps to take; None takes all.
        clip_norm: bound on the norm of the whole gradient, as with `torch.nn.utils.clip_grad_norm_`.
        accumulate: batches for each step; the step's gradient is the mean of theirs.
        named_parameters: names other than those of `model.named_parameters()`, or of a loss's parameters as well.
        tail_fraction: share of the non-zero entries beyond each order statistic, in (0, 0.5); 0.02 as published.
        update_weights: let the copy's weights move, as in training.
        stop_when_settled: stop as soon as `has_settled` says that further steps would change no decade.
        check_rounding: look, on the first batch, for entries whose gradient is only rounding noise.
        on_step: called with the number of steps taken after each.

    Returns:
        The bounds, with their reliability: variants for other tails and without rounding noise, and the course over the
        steps.

    Raises:
        ObservationError: model or optimizer cannot be copied or observed, `batches` are too few, `loss_fn` does not
            return a scalar with a gradient or does more than that, or an argument is out of range.
        NoBoundsError: no layer has a finite non-zero second moment, as where the loss is not finite.
    """
    check_whole(epochs=epochs, accumulate=accumulate, **({} if steps is None else {"steps": steps}))
    real = unwrap(optimizer)
    warn_of_underflow(real)
    with (
        torch.inference_mode(mode=False),
        Probing(
            model,
            real,
            loss_fn,
            batches,
            clip_norm=clip_norm,
            named_parameters=named_parameters,
            tail_fraction=tail_fraction,
            update_weights=update_weights,
            check_rounding=check_rounding,
        ) as probing,
    ):
        by_step = itertools.islice(_batches_by_step(batches, epochs, accumulate), steps)
        probing.run(by_step, on_step, stop_when_settled=stop_when_settled)
        placement = adapter_for(real).placement(real.param_groups[0], probing.steps)
        return probing.bounds().measured_on(name_of(real), [placement], probing.steps)


class Probing:
    """A probe in progress; a context manager, at whose end random number generators are put back.

    Args:
        model, optimizer: the real ones, no wrappers; they stay untouched.
        loss: as `loss_fn` of `probe`, which describes the other arguments, too.
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
        leave_out: Sequence[str] = (),
        every: int = 1,
        adapter: Adapter | None = None,
    ) -> None:
        if clip_norm is not None and not clip_norm > 0:
            raise ObservationError(f"clip_norm must be positive, got {clip_norm!r}")
        self.steps = 0
        self._loss, self._tail_fraction, self._check_rounding = loss, tail_fraction, check_rounding
        self._adapter = adapter or adapter_for(optimizer)
        layers = named_layers(optimizer, named_parameters, model)
        self._left_out = frozenset(_matching(leave_out, [layer.name for layer in layers]))
        if len(self._left_out) == len(layers):
            raise NoBoundsError("no bounds: leave_out leaves no layer that could set them; keep at least one")
        self._copy = SteppedCopy(
            model, optimizer, loss, self._adapter, layers, clip_norm=clip_norm, moving=update_weights
        )
        self.model, self.optimizer, self._layers = self._copy.model, self._copy.optimizer, self._copy.layers
        self._noise = RoundingNoise(checked=False)
        self._observer = Observer(self.optimizer, self._layers, self._adapter, every, tail_fraction)
        self._restored = ExitStack()
        self._restored.enter_context(surroundings_restored(model, loss))
        self._restored.enter_context(generators_restored(devices_of(model), batches, loss))

    def __enter__(self) -> Probing:
        return self

    def __exit__(self, *_: object) -> None:
        self._observer.close()
        self._copy.close()
        self._restored.close()

    def run(
        self,
        batches: Iterable[Sequence[Any]],
        on_step: Callable[[int], None] | None = None,
        *,
        stop_when_settled: bool = False,
    ) -> None:
        """Take a step for each entry of `batches`, the batches of that step; other arguments and errors as `probe`."""
        for of_a_step in batches:
            self.step(*of_a_step)
            if on_step is not None:
                on_step(self.steps)
            if stop_when_settled and self._has_settled():
                break

    def step(self, *batches: Any) -> None:
        """Take a step on the mean gradient of one or several batches."""
        if self.steps:
            self._copy.compute_gradients(batches)
        else:
            with self._copy.original_refused():
                if self._check_rounding:
                    self._noise = rounding_noise(self.model, self._loss, batches[0], self.optimizer, self._adapter)
                self._copy.compute_gradients(batches)
            self._copy.begin(batches)
        self._copy.step(batches)
        self.steps += 1

    def series(self) -> Series:
        """Return the percentiles and histograms over the steps, as an observer keeps them."""
        return self._observer.series()

    def _has_settled(self) -> bool:
        """Return whether the bounds have settled, with layers of rounding noise and without them.

        It looks only now and then, a few times while the steps double, and returns False in between.
        """
        if self._tail_fraction not in FRACTIONS:
            followed = ", ".join(f"{fraction:g}" for fraction in FRACTIONS if fraction < 0.5)
            raise ObservationError(
                f"whether the bounds have settled is followed for the tail fractions {followed},"
                f" not for {self._tail_fraction:g}"
            )
        if self.steps % max(1, (1 << self.steps.bit_length()) // (2 * _LOOKS_PER_DOUBLING)):
            return False
        estimation = self._estimation()
        others = estimation.trajectory(self.noisy) if self.noisy else None
        return has_settled(estimation.trajectory()) and (others is None or not others.steps or has_settled(others))

    @property
    def noisy(self) -> tuple[str, ...]:
        """Names of the layers that have entries whose gradient is only rounding noise."""
        return tuple(layer.name for layer in self._layers if layer.parameter in self._noise.masks)

    def bounds(self, others: Sequence[Variant] = (), without_noise: Sequence[Variant] = ()) -> EpsilonBounds:
        """Estimate the ε range from the steps so far, with rounding noise and without, and judge it.

        `others` are the bounds of other probes, such as of another seed, to judge these by; `without_noise` those
        without the layers that are `noisy`. Raises ObservationError without steps, NoBoundsError as `probe`.
        """
        if not self.steps:
            raise ObservationError("no batches: a probe needs at least one; check what is given as batches")
        estimation = self._estimation()
        if all(each.values is None for each in estimation.readings) and any(
            p.grad is not None for p in self.model.parameters()
        ):
            name = type(self.optimizer).__name__
            raise ObservationError(
                f"{name} holds no second moment after {self.steps} steps on gradients: it may skip steps at its"
                " learning rate (a warm-up begins at 0), keep its state in an optimizer inside it, which is then to"
                " be probed, or under another name than the one registered"
            )
        return estimation.bounds(others, without_noise)

    def variant(self, kind: VariantKind, name: str, leave_out: Collection[str] = ()) -> list[Variant]:
        """Return the present bounds without some layers, to compare another probe's with; none where none is set."""
        return self._estimation().variant(kind, name, leave_out)

    def _estimation(self) -> Estimation:
        """Return what bounds are estimated from, as it is now."""
        return Estimation(
            read(self.optimizer, self._layers, self._adapter),
            self._adapter,
            self.series(),
            self.steps,
            self._tail_fraction,
            self._noise,
            self._left_out,
        )


def _matching(patterns: Sequence[str], names: Sequence[str]) -> Iterator[str]:
    """Yield the names that shell patterns match; raises ObservationError for a pattern that matches none."""
    for pattern in patterns:
        matched = fnmatch.filter(names, pattern)
        if not matched:
            known = shortened(names, _NAMES_SHOWN)
            raise ObservationError(f"leave_out: {pattern!r} matches no layer; the layers are {known}")
        yield from matched


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
