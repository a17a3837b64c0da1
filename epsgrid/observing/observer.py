"""Observe an optimizer during training: after its steps, count √v̂ of every layer; the rest is computed on request.

An observer hooks `optimizer.step` and reads; it changes nothing, draws no random number and, where the state lies on a
CUDA device, waits for nothing. The weights of a training are the same, bit for bit, with it and without.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any
from weakref import WeakSet

import torch
from torch import nn

from epsgrid.errors import ObservationError
from epsgrid.numerics.bounds import EpsilonBounds
from epsgrid.numerics.magnitudes import TAIL_FRACTION, LayerStatistics
from epsgrid.numerics.series import FRACTIONS, LayerSnapshot, Series, Snapshot
from epsgrid.observing.adapters import Adapter, adapter_for, unwrap, warn_of_underflow
from epsgrid.observing.history import Histograms, Observation
from epsgrid.observing.layers import Layer, LayerRegistry, NamedParameters, named_layers
from epsgrid.observing.reading import (
    AdaptableFraction,
    Reading,
    adaptable_fraction,
    bounds_of_readings,
    common,
    histogram_of,
    local,
    measure_reading,
    read,
    threshold_of,
)
from epsgrid.observing.recorder import StepRecorder

_OPEN: WeakSet[torch.optim.Optimizer] = WeakSet()
"""The optimizers that are being observed."""


def observe(
    optimizer: Any,
    named_parameters: NamedParameters | None = None,
    *,
    model: nn.Module | None = None,
    every: int | None = 1,
    tail_fraction: float = TAIL_FRACTION,
) -> Observer:
    """Observe an optimizer from now on, until the observer is closed.

    >>> model = torch.nn.Linear(3, 2)
    >>> optimizer = torch.optim.Adam(model.parameters())
    >>> with observe(optimizer, model=model) as observer:
    ...     for _ in range(5):
    ...         model(torch.ones(1, 3)).sum().backward()
    ...         optimizer.step()
    >>> observer.step, list(observer.histograms())
    (5, ['weight', 'bias'])
    >>> observer.adaptable_fraction(epsilon=1e-8).total
    1.0

    Args:
        optimizer: of torch's kind, or a wrapper of Lightning's or Accelerate's around one. Another optimizer of the
            same training is observed by an observer of its own.
        named_parameters: pairs as `model.named_parameters()` gives them. May be left out where `model` is given, or
            where the optimizer was built from named parameters.
        model: gives the kind of layer that each parameter belongs to, and the names.
        every: number of steps from one count to the next, at least 1; None counts only when something is asked.
        tail_fraction: share of the non-zero entries beyond each order statistic of the bounds, in (0, 0.5).

    Raises:
        ObservationError: the optimizer has no second moment or is not known, is being observed, or holds a parameter
            without a name; or `every` or `tail_fraction` is out of range.
    """
    real = unwrap(optimizer)
    adapter = adapter_for(real)
    layers = named_layers(real, named_parameters, model)
    warn_of_underflow(real)
    return Observer(real, layers, adapter, every, tail_fraction, model=model)


class Observer:
    """Observes one optimizer; `observe` makes it, and `close` or the end of a `with` block ends it.

    A step that a GradScaler skips, because gradients overflowed, is none. A step that the optimizer takes inside a
    captured CUDA graph is seen by no hook: call `after_step` after each replay.

    Attributes:
        optimizer: the optimizer whose steps are counted.
        adapter: knows where it keeps v.
        every: steps from one count to the next; None where steps are not counted.
        tail_fraction: share of the non-zero entries beyond each order statistic of the bounds.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        layers: Sequence[Layer],
        adapter: Adapter,
        every: int | None = 1,
        tail_fraction: float = TAIL_FRACTION,
        *,
        model: nn.Module | None = None,
    ) -> None:
        if not 0 < tail_fraction < 0.5:
            raise ObservationError(f"tail_fraction must lie between 0 and 0.5, got {tail_fraction!r}")
        if optimizer in _OPEN:
            name = type(optimizer).__name__
            raise ObservationError(f"this {name} is being observed already; use that observer, or close() it first")
        self.optimizer, self.adapter, self.every, self.tail_fraction = optimizer, adapter, every, tail_fraction
        self._registry = LayerRegistry(optimizer, layers, model)
        self._recorder = StepRecorder(optimizer, adapter, self._registry, every)
        uncompiled = torch.compiler.disable(self._recorder.on_step)  # type: ignore[no-untyped-call]

        def hook(*arguments: Any) -> None:
            # Always calling the uncompiled one would cost more than most of what an observer does.
            (uncompiled if torch.compiler.is_dynamo_compiling() else self._recorder.on_step)(*arguments)

        self._handle = optimizer.register_step_post_hook(hook)
        self._closed = False
        _OPEN.add(optimizer)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers observed, frozen ones included."""
        self._registry.refresh()
        return tuple(self._registry.layers)

    @property
    def step(self) -> int:
        """Steps seen so far. Set it after loading a checkpoint to go on from there: later steps are dropped."""
        return self._recorder.step

    @step.setter
    def step(self, steps: int) -> None:
        self._recorder.step = steps

    @property
    def nonfinite(self) -> int:
        """Entries that were NaN or infinite at an observed step; each counts once, however long it stays so."""
        self._recorder.warn_of_nonfinite()
        return self._recorder.nonfinite

    def bounds(self) -> EpsilonBounds:
        """Estimate the ε range from the state as it is now, with exact order statistics; also when closed.

        Raises:
            ObservationError: the optimizer has no state yet, or one that cannot be read.
            NoBoundsError: it has a state, and no layer has finite non-zero entries only.
        """
        readings = self._readings()
        statistics = [measure_reading(reading, self.tail_fraction) for reading in readings]
        return bounds_of_readings(readings, statistics, self.tail_fraction)

    def statistics(self) -> tuple[LayerStatistics, ...]:
        """Measure every layer as its state is now; a layer that has none is listed with the reason.

        Raises:
            ObservationError: the state cannot be read.
        """
        readings = read(self.optimizer, self.layers, self.adapter)
        return tuple(measure_reading(reading, self.tail_fraction) for reading in readings)

    def histograms(self) -> Histograms:
        """Return the histograms of the latest observed step, or of the state as it is now where there was none.

        Raises:
            ObservationError: the optimizer has no state yet, or one that cannot be read.
        """
        latest_step = self._recorder.latest
        if latest_step is None:
            readings = [reading for reading in self._readings() if reading.values is not None]
            return Histograms({reading.layer.name: histogram_of(reading) for reading in readings}, self.series())
        observation, counted = latest_step
        pairs = enumerate(zip(observation.names, observation.scales, strict=True))
        with observation.naming_layers():
            return Histograms({name: counted.histogram(place, scale) for place, (name, scale) in pairs}, self.series())

    def series(self) -> Series:
        """Return what is kept of the observed steps: percentiles of at most 512, histograms of at most 64."""
        layers = self.layers
        self._recorder.warn_of_nonfinite()
        snapshots = tuple(
            Snapshot(row.observation.step, None, self._threshold_at(row.observation), row.snapshots(len(layers)))
            for row in self._recorder.rows()
        )
        return Series(
            names=tuple(layer.name for layer in layers),
            kinds=tuple(layer.kind for layer in layers),
            entries=tuple(local(layer.parameter).numel() for layer in layers),
            fractions=FRACTIONS,
            snapshots=snapshots,
        )

    def adaptable_fraction(self, epsilon: float | None = None) -> AdaptableFraction:
        """Return the share of the entries with √v̂ above ε, of each layer and of all, as they are now.

        It is read from the histograms, so it is off by at most the share of the bin that holds ε.

        Args:
            epsilon: ≥ 0, in the optimizer's own units; None for the ε that each layer is trained with.

        Raises:
            ObservationError: there is no state yet, or `epsilon` is negative, or None and a parameter group has no
                "eps".
        """
        return adaptable_fraction(self._readings(), epsilon)

    def snapshot(self, epoch: float | None = None) -> Snapshot:
        """Count every layer now, with a coarser histogram of each; it is not added to the series.

        Args:
            epoch: epochs done, to be stored with it.

        Raises:
            ObservationError: the optimizer has no state yet, or one that cannot be read.
        """
        readings = self._readings()
        layers = (None if each.values is None else LayerSnapshot.of(histogram_of(each)) for each in readings)
        return Snapshot(self.step, epoch, threshold_of(readings), tuple(layers))

    def after_step(self) -> None:
        """Count a step that no hook has seen, such as one in the replay of a CUDA graph."""
        self._recorder.after_step()

    def close(self) -> None:
        """Stop observing; what was seen, and the optimizer's present state, can still be asked for.

        Raises:
            ObservationError: it is closed already.
        """
        if self._closed:
            raise ObservationError(f"this observer of {type(self.optimizer).__name__} is closed already")
        self._closed = True
        self._handle.remove()
        _OPEN.discard(self.optimizer)

    def __enter__(self) -> Observer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._closed:
            self.close()

    def _readings(self) -> tuple[Reading, ...]:
        """Read all layers; refuse where there is nothing to read yet."""
        readings = read(self.optimizer, self.layers, self.adapter)
        self._recorder.warn_of_nonfinite()
        if not self.step and all(reading.values is None for reading in readings):
            name = type(self.optimizer).__name__
            raise ObservationError(f"the state of this {name} is not built yet; ask after its first step")
        return readings

    def _threshold_at(self, observation: Observation) -> float | None:
        """Return the magnitude that ε corresponded to at an observed step, as `threshold_of` does.

        Of what a placement depends on, ε and the steps are those of that time; the betas are taken to be the present
        ones.
        """
        groups, epsilons = self._registry.groups, observation.epsilons
        most: dict[int, float] = {}
        numbers = {id(group): number for number, group in enumerate(groups)}
        for index, steps in zip(observation.indexes, observation.steps_taken, strict=True):
            number = numbers.get(id(self._registry.layers[index].group))
            if number is not None:
                most[number] = max(steps, most.get(number, 1.0))
        return common(
            self.adapter.placement(groups[number], steps).magnitude_from_epsilon(epsilon)
            if number < len(epsilons) and (epsilon := epsilons[number]) is not None
            else None
            for number, steps in most.items()
        )
