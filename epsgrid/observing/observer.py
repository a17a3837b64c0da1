"""Observe an optimizer during training: after its steps, count √v̂ of every layer; the rest is computed on request.

An observer hooks `optimizer.step` and reads; it changes nothing, draws no random number and, where the state lies on a
CUDA device, waits for nothing but betas or an ε that are tensors there.
"""

from __future__ import annotations

import itertools
import sys
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from weakref import WeakSet

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from epsgrid.errors import EpsgridError, ObservationError
from epsgrid.numerics.bounds import EpsilonBounds
from epsgrid.numerics.histogram import LogHistogram
from epsgrid.numerics.magnitudes import TAIL_FRACTION
from epsgrid.numerics.series import FRACTIONS, LayerSnapshot, Series, Snapshot
from epsgrid.numerics.tables import Counter
from epsgrid.observing.adapters import Adapter, adapter_for, epsilon_in, name_of, unwrap, warn_of_underflow
from epsgrid.observing.diagnosis import Alarm, Diagnosis, EpsilonWarning, arguments_of, diagnose
from epsgrid.observing.history import History, Row
from epsgrid.observing.judging import Estimation
from epsgrid.observing.kinds import cancelled_biases
from epsgrid.observing.layers import Layer, LayerRegistry, NamedParameters, named_layers
from epsgrid.observing.reading import (
    AdaptableFraction,
    Reading,
    adaptable_fraction,
    check_shape,
    histogram_of,
    local,
    read,
    threshold_of,
)
from epsgrid.observing.rounding import Loss, RoundingNoise, noise_by_kind, rounding_noise
from epsgrid.streams import warn_anyway

_OPEN: WeakSet[torch.optim.Optimizer] = WeakSet()
"""The optimizers that are being observed."""

_STEP = torch.optim.Optimizer.profile_hook_step(lambda: None).__code__
"""The code that torch puts around `step` of every class; it runs the hooks."""


def observe(
    optimizer: Any,
    named_parameters: NamedParameters | None = None,
    *,
    model: nn.Module | None = None,
    every: int | None = 1,
    tail_fraction: float = TAIL_FRACTION,
    alarm: bool = False,
    loss_fn: Loss | None = None,
    batch: Any = None,
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
        optimizer: of torch's kind, or a wrapper around one, such as Lightning's or Accelerate's; see `adapters.unwrap`.
        named_parameters: pairs as `model.named_parameters()` gives them; not needed with `model` or an optimizer that
            was built from named parameters.
        model: gives the kind of layer that each parameter belongs to, and the names.
        every: number of steps from one count to the next, at least 1; None counts only when something is asked.
        tail_fraction: share of the non-zero entries beyond each order statistic of the bounds, in (0, 0.5).
        alarm: warn, by an EpsilonWarning, of layers whose steps ε shortens; see `Observer.diagnosis`. It looks at steps
            20, 40, 60, … and ever more rarely, and waits for a device there.
        loss_fn: as that of `probe`: with it and a `batch`, entries whose gradient is only rounding noise are found at
            once, by comparing with float64 on copies. Without, biases that a normalisation or a softmax cancels are
            taken for noise where their √v̂ is far below the others'.
        batch: for `loss_fn`.

    Raises:
        ObservationError: the optimizer has no second moment, is not known, is being observed, or holds a parameter
            without a name, or its steps cannot be seen; or `every` or `tail_fraction` is out of range.
    """
    real = unwrap(optimizer)
    adapter = adapter_for(real)
    layers = named_layers(real, named_parameters, model)
    warn_of_underflow(real)
    if (loss_fn is None) is not (batch is None) or (loss_fn is not None and model is None):
        raise ObservationError("loss_fn, batch and model go together: give all three, or neither loss_fn nor batch")
    noise = None
    if model is not None and loss_fn is not None:
        noise = rounding_noise(model, loss_fn, batch, real, adapter)
    return Observer(real, layers, adapter, every, tail_fraction, model=model, alarm=alarm, noise=noise)


def check_whole(**arguments: object) -> None:
    """Raise ObservationError unless all arguments are whole numbers from 1 on."""
    for name, value in arguments.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ObservationError(f"{name} must be a whole number, at least 1, got {value!r}")


class Observer:
    """Observes one optimizer; `observe` makes it, and `close` or the end of a `with` block ends it.

    A step is an outermost call of the optimizer's `step`; one that a GradScaler skips is none. A step inside a captured
    CUDA graph is seen by no hook: call `after_step` after each replay. A state that cannot be read ends no training: a
    warning names the layer, nothing is counted from then on, and asking raises the reason as an ObservationError. The
    attributes are `optimizer`, its `adapter`, and `every` and `tail_fraction` as given to `observe`.
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
        alarm: bool = False,
        noise: RoundingNoise | None = None,
    ) -> None:
        if every is not None:
            check_whole(every=every)
        if not 0 < tail_fraction < 0.5:
            raise ObservationError(f"tail_fraction must lie between 0 and 0.5, got {tail_fraction!r}")
        if optimizer in _OPEN:
            name = type(optimizer).__name__
            raise ObservationError(f"this {name} is being observed already; use that observer, or close() it first")
        if not hasattr(optimizer, "_optimizer_step_post_hooks"):
            raise ObservationError(
                f"the steps of this {type(optimizer).__name__} cannot be seen: its class does not call"
                " torch.optim.Optimizer.__init__, so it has no hooks"
            )
        self.optimizer, self.adapter, self.every, self.tail_fraction = optimizer, adapter, every, tail_fraction
        self._registry = LayerRegistry(optimizer, layers, model)
        self._history, self._counter = History(every or 1), Counter(FRACTIONS)
        self._latest: Row | None = None
        self._indexes: tuple[int, ...] = ()
        self._names: tuple[str, ...] = ()
        self._members: object = None
        self._calls = 0
        self._skipped: int | torch.Tensor = 0
        self._failure = ""
        self._alarm = Alarm() if alarm else None
        self._noise = noise
        self._cancelled = {} if model is None or noise is not None else cancelled_biases(model)
        self._warned = False
        self._has_seen_steps = False
        self._at_first = self._marks()
        # Not a method that its class may have in place of torch's.
        self._handle = torch.optim.Optimizer.register_step_post_hook(optimizer, _StepHook(self._on_step))
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
        self._warn_of_unseen_steps()
        return self._calls - int(self._skipped)

    @step.setter
    def step(self, steps: int) -> None:
        self._calls, self._skipped, self._latest, self._failure = steps, 0, None, ""
        self._alarm = Alarm(steps) if self._alarm else None
        self._history.keep_until(steps)

    @property
    def nonfinite(self) -> int:
        """Entries of v that were NaN or infinite at the latest observed step; an average never forgets one."""
        return 0 if self._latest is None else int(self._latest.totals[:, 2].sum())

    def bounds(self) -> EpsilonBounds:
        """Estimate the ε range from the state as it is now, with exact order statistics; also when closed.

        Entries that are only rounding noise are left out, and `reliability` says how far to trust the range.

        Raises ObservationError where the optimizer has no state yet, or one that cannot be read, and NoBoundsError
        where no layer has finite non-zero entries only.
        """
        readings = self._readings()
        steps = int(max(reading.step for reading in readings))
        # Without biases to look at, nothing has to be counted for them.
        noise, tail = self._noise_in(_counted(readings) if self._cancelled else ()), self.tail_fraction
        estimation = Estimation(readings, self.adapter, self.series(), steps, tail, noise, who="the optimizer")
        bounds = estimation.bounds().chosen("trusted")
        return bounds.measured_on(name_of(self.optimizer), (each.placement for each in readings), steps)

    def _noise_in(self, counted: Sequence[tuple[Reading, LogHistogram]]) -> RoundingNoise:
        """Return the entries that are only rounding noise, as they were checked, or by the kinds of layers."""
        return self._noise or noise_by_kind(self._cancelled, counted)

    def cancelled(self) -> tuple[str, ...]:
        """Return the names of the layers whose gradient ought to be zero by the kinds of layers."""
        masks = ((layer.name, self._cancelled.get(layer.parameter)) for layer in self.layers)
        return tuple(name for name, mask in masks if mask is not None and bool(mask.all()))

    def histograms(self) -> dict[str, LogHistogram]:
        """Return by name the histograms of the latest observed step, or of the present state where there was none.

        Raises ObservationError where the optimizer has no state yet, or one that cannot be read.
        """
        if self._latest is None:
            return {reading.layer.name: histogram for reading, histogram in _counted(self._readings())}
        row, found = self._latest, {}
        for place, (name, scale) in enumerate(zip(row.names, row.scales, strict=True)):
            try:
                found[name] = self._counter.histogram(place, scale)
            except ValueError as error:
                raise ObservationError(f"layer {name!r}: {error}") from error
        return found

    def series(self) -> Series:
        """Return the stored history of the observed steps: percentiles of at most 512, histograms of at most 64.

        Raises ObservationError where there is none because the optimizer's state could not be read.
        """
        number = len(self.layers)
        self._warn_of_nonfinite()
        self._warn_of_unseen_steps()
        snapshots = tuple(
            Snapshot(row.step, None, threshold_of(self.adapter, self._trained_at(row)), row.snapshots(number))
            for row in self._history.rows(self._latest, self._counter)
        )
        if self._failure and not snapshots:
            raise ObservationError(self._failure)
        return self._series(*snapshots)

    def adaptable_fraction(self, epsilon: float | None = None) -> AdaptableFraction:
        """Return the share of the entries with √v̂ above ε, of each layer and of all, as they are now.

        Where √v̂ is larger than the magnitude that ε corresponds to, an adaptive optimizer adapts; where it is smaller,
        ε is most of the denominator. The share is off by at most that of the bin that holds ε.

        `epsilon` ≥ 0 is in the optimizer's own units; None takes that of each layer. Raises ObservationError where
        there is no state yet, `epsilon` is negative, or None and a parameter group has no "eps", or several in it.
        """
        return adaptable_fraction(_counted(self._readings()), epsilon)

    def diagnosis(self) -> Diagnosis:
        """Say by how much ε shortens the steps of each layer, from the state as it is now; print it to read it.

        Raises ObservationError where the optimizer has no state yet, or one that cannot be read.
        """
        return self._diagnosis(_counted(self._readings()))

    def snapshot(self, epoch: float | None = None) -> Snapshot:
        """Count every layer now, after `epoch` epochs, with a coarser histogram of each; not added to the series."""
        return self._snapshot(_counted(self._readings()), epoch)

    def look(self, epoch: float | None = None) -> tuple[Series, Diagnosis]:
        """Return a series of what `snapshot` returns, and the diagnosis; every layer is counted once for both."""
        counted = _counted(self._readings())
        return self._series(self._snapshot(counted, epoch)), self._diagnosis(counted)

    def _series(self, *snapshots: Snapshot) -> Series:
        layers = self.layers
        return Series(
            names=tuple(layer.name for layer in layers),
            kinds=tuple(layer.kind for layer in layers),
            entries=tuple(local(layer.parameter).numel() for layer in layers),
            fractions=FRACTIONS,
            snapshots=snapshots,
        )

    def _snapshot(self, counted: Sequence[tuple[Reading, LogHistogram]], epoch: float | None) -> Snapshot:
        held = {reading.layer.name: LayerSnapshot.of(histogram) for reading, histogram in counted}
        trained = ((each.layer.group, each.step, each.epsilon) for each, _ in counted)
        layers = tuple(held.get(layer.name) for layer in self.layers)
        return Snapshot(self.step, epoch, threshold_of(self.adapter, trained), layers)

    def _diagnosis(self, counted: Sequence[tuple[Reading, LogHistogram]]) -> Diagnosis:
        masks = self._noise_in(counted).masks
        names = ((each.layer.name, masks.get(each.layer.parameter)) for each, _ in counted)
        noisy = [name for name, mask in names if mask is not None and bool(mask.all())]
        return diagnose(type(self.optimizer).__name__, self.step, itertools.starmap(arguments_of, counted), noisy)

    def after_step(self) -> None:
        """Count a step that no hook has seen, such as one in the replay of a CUDA graph."""
        # Set by a GradScaler, for optimizers that skip by themselves.
        found_inf = getattr(self.optimizer, "found_inf", None)
        if not isinstance(found_inf, torch.Tensor) or found_inf.is_cpu:
            if found_inf:
                return
            found_inf = None
        self._has_seen_steps = True
        self._calls += 1
        if found_inf is not None:
            self._skipped = self._skipped + (found_inf != 0)
        is_counted = self.every is not None and self._calls % self.every == 0
        is_look = self._alarm is not None and self._calls >= self._alarm.next_look
        if (is_counted or is_look) and not self._failure:
            try:
                if is_counted:
                    self._observe(found_inf)
                if is_look:
                    self._warn_of_short_steps()
            except Exception as error:  # whatever a state does that cannot be read
                self._fail(error)

    def close(self) -> None:
        """Stop observing; what was seen, and the optimizer's present state, can still be asked for."""
        if not self._closed:
            self._warn_of_unseen_steps()
            self._closed = True
            self._handle.remove()
            _OPEN.discard(self.optimizer)

    def __enter__(self) -> Observer:
        return self

    def __exit__(self, error: object, *_: object) -> None:
        self._has_seen_steps |= error is not None  # or may have been in the middle of one
        self.close()

    def _on_step(self, optimizer: torch.optim.Optimizer, _args: Any, _kwargs: Any) -> None:
        """Count a step, as a hook; one that is only recorded into a CUDA graph is none."""
        if optimizer is not self.optimizer or _is_nested(optimizer):  # the former is a wrapper with the same hooks
            return
        self._has_seen_steps = True
        if not (self._registry.on_cuda and torch.cuda.is_current_stream_capturing()):
            self.after_step()

    def _marks(self) -> list[Any]:
        """Return what is another list after a step, or after another state was loaded."""
        entries = tree_leaves([self.optimizer.state.get(each, {}) for _, each, _ in self._registry.members])
        marks = [
            (id(entry), entry._version)
            if isinstance(entry, torch.Tensor) and not entry.is_inference()
            else (entry if isinstance(entry, int | float) else id(entry))
            for entry in entries
        ]
        return [*map(id, self.optimizer.param_groups), *marks]

    def _warn_of_unseen_steps(self) -> None:
        """Warn, once, where no hook was called and yet the state has changed."""
        groups = len(self.optimizer.param_groups)
        if self._has_seen_steps or self._closed or (marks := self._marks()) == self._at_first:
            return
        # A loaded state comes with other groups, and is no step.
        if is_step := marks[:groups] == self._at_first[:groups]:
            warn_anyway(
                f"no step of this {type(self.optimizer).__name__} is seen, though its state has changed: its step()"
                " does not run the hooks of torch.optim.Optimizer; call observer.after_step() after each step",
                RuntimeWarning,
                stacklevel=3,
            )
        self._at_first, self._has_seen_steps = marks, is_step

    def _fail(self, error: Exception) -> None:
        """Count nothing any more, and warn of it; what cannot be read is found by reading each layer by itself."""
        self._latest = None
        self._failure = str(error) if isinstance(error, EpsgridError) else f"{type(error).__name__}: {error}"
        try:
            for reading in read(self.optimizer, self._registry.layers, self.adapter):
                if reading.values is not None:
                    histogram_of(reading)
        except ObservationError as named:
            self._failure = str(named)
        warn_anyway(
            f"{type(self.optimizer).__name__} cannot be observed from step {self._calls} on, and the training goes on:"
            f" {self._failure}",
            RuntimeWarning,
            stacklevel=6,
        )

    def _warn_of_short_steps(self) -> None:
        """Warn of what the alarm finds new."""
        assert self._alarm is not None
        text = self._alarm.look(self.diagnosis())
        self._alarm.next_look += int(self._skipped)  # looks are due by calls, and a diagnosis counts steps
        if text is not None:
            warn_anyway(text, EpsilonWarning, stacklevel=6)

    def _observe(self, left_out: torch.Tensor | None) -> None:
        """Count the state as it is now, and keep the result."""
        self._registry.refresh()
        second_moment, state = self.adapter.second_moment, self.optimizer.state
        moments = [
            (index, moment)
            for index, parameter, group in self._registry.members
            if (moment := second_moment(state.get(parameter, {}), group)) is not None
            # A layer that is frozen for a while stays; one that always was may have a state, of zeros.
            and (parameter.requires_grad or parameter.grad is not None or index in self._indexes)
        ]
        if not moments:
            return
        values = [local(moment.values) for _, moment in moments]
        indexes = tuple([index for index, _ in moments])
        # Shared by all rows until something changes: mostly nothing ever does.
        if indexes != self._indexes or self._members is not self._registry.members:
            layers = [self._registry.layers[index] for index in indexes]
            for layer, (_, moment) in zip(layers, moments, strict=True):
                check_shape(layer, moment.values)
            self._indexes, self._names = indexes, tuple(layer.name for layer in layers)
            self._members = self._registry.members
        decays = tuple([moment.decay for _, moment in moments])
        epsilons = tuple([epsilon_in(group) for group in self._registry.groups])
        self._latest = None  # its tables are about to be written
        self._counter.count(values)
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
        warn_anyway(
            f"the second moment of layer {first!r}{others} has {self.nonfinite} NaN or infinite entries: the loss or a"
            " gradient was not finite; from now on they are counted in `observer.nonfinite` without a warning",
            RuntimeWarning,
            stacklevel=3,
        )

    def _readings(self) -> tuple[Reading, ...]:
        """Read all layers; refuse where there is nothing to read yet."""
        readings = read(self.optimizer, self.layers, self.adapter)
        self._warn_of_nonfinite()
        if any(reading.values is not None for reading in readings):
            return readings
        name = type(self.optimizer).__name__
        if not self.step:
            raise ObservationError(f"the state of this {name} is not built yet; ask after its first step")
        state, parameters = self.optimizer.state, [layer.parameter for layer in self.layers]
        trained = [parameter for parameter in parameters if parameter.grad is not None]
        if (state or trained) and not any(parameter in state for parameter in parameters):
            raise ObservationError(
                f"the state of this {name} is not kept by parameter, as self.state[parameter], so no second moment is"
                " found in it"
            )
        if entries := next((state[parameter] for parameter in trained if state.get(parameter)), None):
            held = ", ".join(map(str, entries)) if isinstance(entries, Mapping) else type(entries).__name__
            raise ObservationError(
                f"the state of this {name} ({held}) has no second moment where that of its class is looked for: tell"
                f" where it is by epsgrid.register_optimizer({name}, …)"
            )
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


def _counted(readings: Sequence[Reading]) -> list[tuple[Reading, LogHistogram]]:
    """Return the layers that have a second moment, each with its histogram."""
    return [(each, histogram_of(each)) for each in readings if each.values is not None]


def _kept(steps: list[Any]) -> torch.Tensor | array[float]:
    """Return counts of steps where the optimizer will not go on changing them: those on a device stay there."""
    devices = {step.device for step in steps if isinstance(step, torch.Tensor) and not step.is_cpu}
    if not devices:
        return array("d", map(float, steps))
    if len(devices) > 1 or not all(isinstance(step, torch.Tensor) and step.device in devices for step in steps):
        device = devices.pop()
        steps = [torch.as_tensor(step, dtype=torch.float32).to(device, non_blocking=True) for step in steps]
    return torch.stack(steps)


class _StepHook:
    """Calls a function after each step; in an optimizer that is copied or pickled with its hooks, it does nothing."""

    def __init__(self, function: Callable[..., None] = lambda *_: None) -> None:
        self._function = function
        self._uncompiled = torch.compiler.disable(function)  # type: ignore[no-untyped-call]

    def __call__(self, *arguments: Any) -> None:
        # Always calling the uncompiled one would cost more than most of what an observer does.
        (self._uncompiled if torch.compiler.is_dynamo_compiling() else self._function)(*arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return _StepHook, ()


def _is_nested(optimizer: torch.optim.Optimizer) -> bool:
    """Return whether a hook is run by a step within another step of the same optimizer, as of its base class.

    torch runs the hooks for each of them. Nothing is kept from hook to hook, where a step that raises would leave it
    wrong: the stack tells. Compiled code has the same name and file.
    """
    is_own, frame = True, sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code.co_name == _STEP.co_name and code.co_filename == _STEP.co_filename:
            if not is_own and next(iter(frame.f_locals.get("args", ())), None) is optimizer:
                return True
            is_own = False  # the first is the one that runs the hook
        frame = frame.f_back  # type: ignore[assignment]
    return False
