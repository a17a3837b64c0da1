"""Observe an optimizer during training: after its steps, count √v̂ of every layer; the rest is computed on request.

An observer hooks `optimizer.step` and reads; it changes nothing, draws no random number and, where the state lies on a
CUDA device, waits for nothing but betas or an ε that are tensors there.
"""

from __future__ import annotations

import warnings
from array import array
from collections.abc import Iterator, Sequence
from typing import Any
from weakref import WeakSet

import torch
from torch import nn

from epsgrid.errors import ObservationError
from epsgrid.numerics.bounds import EpsilonBounds
from epsgrid.numerics.histogram import LogHistogram
from epsgrid.numerics.magnitudes import TAIL_FRACTION, LayerStatus
from epsgrid.numerics.series import FRACTIONS, LayerSnapshot, Series, Snapshot
from epsgrid.numerics.tables import Counter
from epsgrid.observing.adapters import Adapter, adapter_for, epsilon_in, unwrap, warn_of_underflow
from epsgrid.observing.history import History, Row
from epsgrid.observing.layers import Layer, LayerRegistry, NamedParameters, named_layers
from epsgrid.observing.reading import (
    AdaptableFraction,
    Reading,
    adaptable_fraction,
    bounds_by_placement,
    histogram_of,
    local,
    measure_reading,
    read,
    threshold_of,
)

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
        optimizer: of torch's kind, or a wrapper of Lightning's or Accelerate's around one.
        named_parameters: pairs as `model.named_parameters()` gives them; not needed with `model` or an optimizer that
            was built from named parameters.
        model: gives the kind of layer that each parameter belongs to, and the names.
        every: number of steps from one count to the next, at least 1; None counts only when something is asked.
        tail_fraction: share of the non-zero entries beyond each order statistic of the bounds, in (0, 0.5).

    Raises:
        ObservationError: the optimizer has no second moment, is not known, is being observed, or holds a parameter
            without a name; or `every` or `tail_fraction` is out of range.
    """
    real = unwrap(optimizer)
    adapter = adapter_for(real)
    layers = named_layers(real, named_parameters, model)
    warn_of_underflow(real)
    return Observer(real, layers, adapter, every, tail_fraction, model=model)


def check_whole(**arguments: object) -> None:
    """Raise ObservationError unless all arguments are whole numbers from 1 on."""
    for name, value in arguments.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ObservationError(f"{name} must be a whole number, at least 1, got {value!r}")


class Observer:
    """Observes one optimizer; `observe` makes it, and `close` or the end of a `with` block ends it.

    A step that a GradScaler skips is none. A step inside a captured CUDA graph is seen by no hook: call `after_step`
    after each replay. The attributes are `optimizer`, its `adapter`, and `every` and `tail_fraction` as given to
    `observe`.
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
        if every is not None:
            check_whole(every=every)
        if not 0 < tail_fraction < 0.5:
            raise ObservationError(f"tail_fraction must lie between 0 and 0.5, got {tail_fraction!r}")
        if optimizer in _OPEN:
            name = type(optimizer).__name__
            raise ObservationError(f"this {name} is being observed already; use that observer, or close() it first")
        self.optimizer, self.adapter, self.every, self.tail_fraction = optimizer, adapter, every, tail_fraction
        self._registry = LayerRegistry(optimizer, layers, model)
        self._history, self._counter = History(every or 1), Counter(FRACTIONS)
        self._latest: Row | None = None
        self._indexes: tuple[int, ...] = ()
        self._names: tuple[str, ...] = ()
        self._calls = 0
        self._skipped: int | torch.Tensor = 0
        # Beside its own class's there is that of torch.optim.Optimizer, which does nothing.
        self._has_several_steps = sum("step" in base.__dict__ for base in type(optimizer).__mro__) > 2
        self._seen: list[Any] = []
        self._warned = False
        uncompiled = torch.compiler.disable(self._on_step)  # type: ignore[no-untyped-call]

        def hook(*arguments: Any) -> None:
            # Always calling the uncompiled one would cost more than most of what an observer does.
            (uncompiled if torch.compiler.is_dynamo_compiling() else self._on_step)(*arguments)

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
        return self._calls - int(self._skipped)

    @step.setter
    def step(self, steps: int) -> None:
        self._calls, self._skipped, self._latest = steps, 0, None
        self._history.keep_until(steps)

    @property
    def nonfinite(self) -> int:
        """Entries of v that were NaN or infinite at the latest observed step; an average never forgets one."""
        return 0 if self._latest is None else int(self._latest.totals[:, 2].sum())

    def bounds(self) -> EpsilonBounds:
        """Estimate the ε range from the state as it is now, with exact order statistics; also when closed.

        Raises ObservationError where the optimizer has no state yet, or one that cannot be read, and NoBoundsError
        where no layer has finite non-zero entries only.
        """
        readings = self._readings()
        statistics = [measure_reading(reading, self.tail_fraction) for reading in readings]
        return bounds_by_placement(statistics, [reading.placement for reading in readings], self.tail_fraction)

    def histograms(self) -> dict[str, LogHistogram]:
        """Return by name the histograms of the latest observed step, or of the present state where there was none.

        Raises ObservationError where the optimizer has no state yet, or one that cannot be read.
        """
        if self._latest is None:
            return {each.layer.name: histogram_of(each) for each in self._readings() if each.values is not None}
        row, found = self._latest, {}
        for place, (name, scale) in enumerate(zip(row.names, row.scales, strict=True)):
            try:
                found[name] = self._counter.histogram(place, scale)
            except ValueError as error:
                raise ObservationError(f"layer {name!r}: {error}") from error
        return found

    def series(self) -> Series:
        """Return the stored history of the observed steps: percentiles of at most 512, histograms of at most 64."""
        layers = self.layers
        self._warn_of_nonfinite()
        snapshots = tuple(
            Snapshot(row.step, None, threshold_of(self.adapter, self._trained_at(row)), row.snapshots(len(layers)))
            for row in self._history.rows(self._latest, self._counter)
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

        Where √v̂ is larger than the magnitude that ε corresponds to, an adaptive optimizer adapts; where it is smaller,
        ε is most of the denominator. The share is off by at most that of the bin that holds ε.

        `epsilon` ≥ 0 is in the optimizer's own units; None takes that of each layer. Raises ObservationError where
        there is no state yet, `epsilon` is negative, or None and a parameter group has no "eps".
        """
        counted = ((each, histogram_of(each)) for each in self._readings() if each.values is not None)
        return adaptable_fraction(counted, epsilon)

    def snapshot(self, epoch: float | None = None) -> Snapshot:
        """Count every layer now, after `epoch` epochs, with a coarser histogram of each; not added to the series."""
        readings = self._readings()
        layers = (None if each.values is None else LayerSnapshot.of(histogram_of(each)) for each in readings)
        trained = ((each.layer.group, each.step, each.epsilon) for each in readings if each.values is not None)
        return Snapshot(self.step, epoch, threshold_of(self.adapter, trained), tuple(layers))

    def after_step(self) -> None:
        """Count a step that no hook has seen, such as one in the replay of a CUDA graph."""
        # Set by a GradScaler, for optimizers that skip by themselves.
        found_inf = getattr(self.optimizer, "found_inf", None)
        if found_inf is not None and found_inf.is_cpu:
            if float(found_inf):
                return
            found_inf = None
        if self._has_several_steps and not self._has_moved():
            return
        self._calls += 1
        if found_inf is not None:
            self._skipped = self._skipped + (found_inf != 0)
        if self.every is not None and self._calls % self.every == 0:
            self._observe(found_inf)

    def close(self) -> None:
        """Stop observing; what was seen, and the optimizer's present state, can still be asked for."""
        if not self._closed:
            self._closed = True
            self._handle.remove()
            _OPEN.discard(self.optimizer)

    def __enter__(self) -> Observer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _on_step(self, _optimizer: torch.optim.Optimizer, _args: Any, _kwargs: Any) -> None:
        """Count a step, as a hook; one that is only recorded into a CUDA graph is none."""
        if not (self._registry.on_cuda and torch.cuda.is_current_stream_capturing()):
            self.after_step()

    def _has_moved(self) -> bool:
        """Tell whether the optimizer's state was written since the last call.

        An optimizer whose `step` calls that of its base class runs the hook twice in a step, once for each of the two.
        """
        self._registry.refresh()
        seen = [
            (id(entry), entry._version) if isinstance(entry, torch.Tensor) else entry
            for _, parameter, _ in self._registry.members
            for entry in self.optimizer.state.get(parameter, {}).values()
            if isinstance(entry, torch.Tensor | int | float)
        ]
        moved = seen != self._seen
        self._seen = seen
        return moved

    def _observe(self, left_out: torch.Tensor | None) -> None:
        """Count the state as it is now, and keep the result."""
        self._registry.refresh()
        second_moment, state = self.adapter.second_moment, self.optimizer.state
        moments = [
            (index, moment)
            for index, parameter, group in self._registry.members
            if parameter.requires_grad and (moment := second_moment(state.get(parameter, {}), group)) is not None
        ]
        if not moments:
            return
        values = [local(moment.values) for _, moment in moments]
        indexes = tuple([index for index, _ in moments])
        if indexes != self._indexes:  # shared by all rows until something changes: mostly nothing ever does
            self._indexes = indexes
            self._names = tuple(self._registry.layers[index].name for index in indexes)
        decays = tuple([moment.decay for _, moment in moments])
        epsilons = tuple([epsilon_in(group) for group in self._registry.groups])
        self._latest = None  # its tables are about to be written
        try:
            self._counter.count(values)
        except ValueError:
            for (index, _), v in zip(moments, values, strict=True):  # raises with the name of the layer
                histogram_of(Reading(self._registry.layers[index], LayerStatus.MEASURED, v))
            raise
        totals = self._counter.totals()
        steps = _kept([moment.step for _, moment in moments])
        row = Row(self._calls, self._skipped, left_out, self._indexes, self._names, decays, steps, epsilons, totals)
        self._latest = row
        self._history.add(row, self._counter, values)
        if totals.is_cpu:
            self._warn_of_nonfinite()

    def _warn_of_nonfinite(self) -> None:
        """Warn of NaN or infinite entries at the latest observed step, once; waits for the device."""
        if self._warned or not self.nonfinite or self._latest is None:
            return
        self._warned = True
        row = self._latest
        first, *more = [name for name, number in zip(row.names, row.totals[:, 2].tolist(), strict=True) if number]
        others = f" and {len(more)} more layers" if more else ""
        warnings.warn(
            f"the second moment of layer {first!r}{others} has {self.nonfinite} NaN or infinite entries: the loss or a"
            " gradient was not finite; from now on they are counted in `observer.nonfinite` without a warning",
            RuntimeWarning,
            stacklevel=3,
        )

    def _readings(self) -> tuple[Reading, ...]:
        """Read all layers; refuse where there is nothing to read yet."""
        readings = read(self.optimizer, self.layers, self.adapter)
        self._warn_of_nonfinite()
        if not self.step and all(reading.values is None for reading in readings):
            name = type(self.optimizer).__name__
            raise ObservationError(f"the state of this {name} is not built yet; ask after its first step")
        return readings

    def _trained_at(self, row: Row) -> Iterator[tuple[dict[str, Any], float, float | None]]:
        """Yield what `threshold_of` takes of each layer at an observed step.

        ε and the steps are those of that time; other options of the groups are taken to be the present ones.
        """
        numbers = {id(group): number for number, group in enumerate(self._registry.groups)}
        for index, steps in zip(row.indexes, row.steps_taken, strict=True):
            group = self._registry.layers[index].group
            if group is not None:
                number = numbers[id(group)]
                yield group, max(steps, 1.0), row.epsilons[number] if number < len(row.epsilons) else None


def _kept(steps: list[Any]) -> torch.Tensor | array[float]:
    """Return counts of steps where the optimizer will not go on changing them: those on a device stay there."""
    devices = {step.device for step in steps if isinstance(step, torch.Tensor) and not step.is_cpu}
    if not devices:
        return array("d", map(float, steps))
    if len(devices) > 1 or not all(isinstance(step, torch.Tensor) and step.device in devices for step in steps):
        device = devices.pop()
        steps = [torch.as_tensor(step, dtype=torch.float32).to(device, non_blocking=True) for step in steps]
    return torch.stack(steps)
