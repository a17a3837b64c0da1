"""Record what an optimizer's steps do to v: after each step, or every few, count the entries and keep the result.

All of it is quick, and where the state lies on a device nothing waits for it: steps, percentiles and a gradient
scaler's verdict on a step stay there until they are asked for.
"""

from __future__ import annotations

import warnings
from array import array
from collections.abc import Mapping
from typing import Any

import torch

from epsgrid.errors import ObservationError
from epsgrid.numerics.magnitudes import LayerStatus
from epsgrid.numerics.series import FRACTIONS
from epsgrid.numerics.tables import Counted, Counter
from epsgrid.observing.adapters import Adapter, epsilon_in
from epsgrid.observing.history import History, Row
from epsgrid.observing.layers import LayerRegistry
from epsgrid.observing.reading import Reading, histogram_of, local
from epsgrid.optimizers import SecondMoment

_NO_STATE: Mapping[str, Any] = {}


class StepRecorder:
    """Counts an optimizer's steps, and every few steps the entries of v.

    Attributes:
        registry: the optimizer's layers.
        history: what is kept of the observed steps.
        latest: the step observed last, with its counts; None before the first.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, adapter: Adapter, registry: LayerRegistry, every: int | None
    ) -> None:
        if every is not None and (not isinstance(every, int) or isinstance(every, bool) or every < 1):
            raise ObservationError(f"every must be a whole number of steps, at least 1, got {every!r}")
        self.registry, self.history = registry, History(every or 1)
        self.latest: tuple[Row, Counted] | None = None
        self._optimizer, self._adapter, self._every = optimizer, adapter, every
        self._counter = Counter(FRACTIONS)
        self._constants: tuple[tuple[int, ...], tuple[str, ...], tuple[float, ...], tuple[float | None, ...]]
        self._constants = ((), (), (), ())
        self._calls = 0
        self._skipped: int | torch.Tensor = 0
        # Beside its own class's there is that of torch.optim.Optimizer, which does nothing.
        self._has_several_steps = sum("step" in base.__dict__ for base in type(optimizer).__mro__) > 2
        self._seen: list[Any] = []
        self._warned = False

    @property
    def step(self) -> int:
        """Steps seen so far; waits for the device where a scaler makes the optimizer skip steps there."""
        return self._calls - int(self._skipped)

    @step.setter
    def step(self, step: int) -> None:
        """Go on counting from a step; what was observed after it is forgotten."""
        self._calls, self._skipped = step, 0
        self.history.keep_until(step)
        self.latest = None

    @property
    def nonfinite(self) -> int:
        """Entries that were NaN or infinite at the latest observed step; waits for the device."""
        return 0 if self.latest is None else int(self.latest[0].totals[:, 2].sum())

    def rows(self) -> list[Row]:
        """Return what is kept of the observed steps, the latest among them; waits for the device."""
        return self.history.rows(self.latest)

    def on_step(self, _optimizer: torch.optim.Optimizer, _args: Any, _kwargs: Any) -> None:
        """Count a step, as a hook; one that is only recorded into a CUDA graph is none."""
        if not (self.registry.on_cuda and torch.cuda.is_current_stream_capturing()):
            self.after_step()

    def after_step(self) -> None:
        """Count a step."""
        # Set by a GradScaler, for optimizers that skip by themselves.
        found_inf = getattr(self._optimizer, "found_inf", None)
        if found_inf is not None and found_inf.is_cpu:
            if float(found_inf):
                return
            found_inf = None
        if self._has_several_steps and not self._has_moved():
            return
        self._calls += 1
        if found_inf is not None:
            self._skipped = self._skipped + (found_inf != 0)
        if self._every is not None and self._calls % self._every == 0:
            self._observe(found_inf)

    def _has_moved(self) -> bool:
        """Tell whether the optimizer's state was written since the last call.

        An optimizer whose `step` calls that of its base class runs the hook twice in a step, once for each of the two.
        """
        self.registry.refresh()
        seen = [
            (id(entry), entry._version) if isinstance(entry, torch.Tensor) else entry
            for _, parameter, _ in self.registry.members
            for entry in self._optimizer.state.get(parameter, _NO_STATE).values()
            if isinstance(entry, torch.Tensor | int | float)
        ]
        moved = seen != self._seen
        self._seen = seen
        return moved

    def _observe(self, left_out: torch.Tensor | None) -> None:
        """Count the state as it is now, and keep the result."""
        self.registry.refresh()
        second_moment, state = self._adapter.second_moment, self._optimizer.state
        moments = [
            (index, moment)
            for index, parameter, group in self.registry.members
            if parameter.requires_grad and (moment := second_moment(state.get(parameter, _NO_STATE), group)) is not None
        ]
        if not moments:
            return
        values = [local(moment.values) for _, moment in moments]
        constants = (
            tuple([index for index, _ in moments]),
            tuple([self.registry.layers[index].name for index, _ in moments]),
            tuple([moment.decay for _, moment in moments]),
            tuple([epsilon_in(group) for group in self.registry.groups]),
        )
        if constants != self._constants:
            self._constants = constants  # shared by all rows until something changes: mostly nothing ever does
        indexes, names, decays, epsilons = self._constants
        counted = self._count(moments, values)
        totals = counted.totals()
        steps = _kept([moment.step for _, moment in moments])
        row = Row(self._calls, self._skipped, left_out, indexes, names, decays, steps, epsilons, totals)
        self.latest = row, counted
        self.history.add(row, counted, values)
        if totals.is_cpu:
            self.warn_of_nonfinite()

    def _count(self, moments: list[tuple[int, SecondMoment]], values: list[torch.Tensor]) -> Counted:
        self.latest = None  # its tables are about to be written
        try:
            return self._counter.count(values)
        except ValueError:
            for (index, _), v in zip(moments, values, strict=True):  # raises with the name of the layer
                histogram_of(Reading(self.registry.layers[index], LayerStatus.MEASURED, v))
            raise

    def warn_of_nonfinite(self) -> None:
        """Warn of NaN or infinite entries at the latest observed step, once; waits for the device."""
        if self._warned or not self.nonfinite or self.latest is None:
            return
        self._warned = True
        row = self.latest[0]
        first, *more = [name for name, number in zip(row.names, row.totals[:, 2].tolist(), strict=True) if number]
        others = f" and {len(more)} more layers" if more else ""
        warnings.warn(
            f"the second moment of layer {first!r}{others} has {self.nonfinite} NaN or infinite entries: the loss or a"
            " gradient was not finite; from now on they are counted in `observer.nonfinite` without a warning",
            RuntimeWarning,
            stacklevel=3,
        )


def _kept(steps: list[Any]) -> torch.Tensor | array[float]:
    """Return counts of steps where the optimizer will not go on changing them: those on a device stay there."""
    devices = {step.device for step in steps if isinstance(step, torch.Tensor) and not step.is_cpu}
    if not devices:
        return array("d", map(float, steps))
    if len(devices) > 1 or not all(isinstance(step, torch.Tensor) and step.device in devices for step in steps):
        device = devices.pop()
        steps = [torch.as_tensor(step, dtype=torch.float32).to(device, non_blocking=True) for step in steps]
    return torch.stack(steps)
