"""What an observer does after a step: see whether it was one, count, and keep what has to be kept.

All of it is quick, and where the state lies on a device nothing waits for it: steps, percentiles and the scaler's
verdict on a step stay there until somebody asks.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from typing import Any

import torch

from epsgrid.errors import ObservationError
from epsgrid.numerics.magnitudes import LayerStatus
from epsgrid.numerics.series import FRACTIONS
from epsgrid.numerics.tables import Counted, Counter
from epsgrid.observing.adapters import Adapter, epsilon_in
from epsgrid.observing.history import History, Observation, Row
from epsgrid.observing.nonfinite import NonfiniteEntries
from epsgrid.observing.reading import Reading, histogram_of, local
from epsgrid.observing.roster import Roster
from epsgrid.optimizers import SecondMoment

_NO_STATE: Mapping[str, Any] = {}


class Watch:
    """Counts an optimizer's steps, and after every so many of them the entries of v.

    Attributes:
        roster: the optimizer's layers.
        history: what is kept of the observed steps.
        nonfinite: entries seen that are NaN or infinite.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, adapter: Adapter, roster: Roster, every: int | None) -> None:
        if every is not None and (not isinstance(every, int) or isinstance(every, bool) or every < 1):
            raise ObservationError(f"every must be a whole number of steps, at least 1, got {every!r}")
        self.roster, self.history, self.nonfinite = roster, History(every or 1), NonfiniteEntries()
        self._latest: tuple[Observation, Counted] | None = None
        self._optimizer, self._adapter, self._every = optimizer, adapter, every
        self._counter = Counter(FRACTIONS)
        self._constants: tuple[tuple[int, ...], tuple[float, ...], tuple[float | None, ...]] = ((), (), ())
        self._calls = 0
        self._skipped: int | torch.Tensor = 0
        # Beside its own class's there is that of torch.optim.Optimizer, which does nothing.
        self._has_several_steps = sum("step" in base.__dict__ for base in type(optimizer).__mro__) > 2
        self._seen: list[Any] = []

    @property
    def step(self) -> int:
        """Steps seen so far; waits for the device where a scaler makes the optimizer skip steps there."""
        return self._calls - int(self._skipped)

    @property
    def latest(self) -> tuple[Observation, Counted] | None:
        """The step observed last, with its counts; None before the first."""
        return self._latest

    def rows(self) -> list[Row]:
        """Return what is kept of the observed steps, the latest among them; waits for the device."""
        return self.history.rows(self.latest)

    def stop(self) -> None:
        """Do nothing: no tensors of the optimizer are held."""

    def go_back(self, step: int) -> None:
        """Go on counting from a step; what was observed after it is forgotten."""
        self._calls, self._skipped = step, 0
        self.history.keep_until(step)
        self._latest = None

    def on_step(self, _optimizer: torch.optim.Optimizer, _args: Any, _kwargs: Any) -> None:
        """Count a step, as a hook; one that is only recorded into a CUDA graph is none."""
        if not (self.roster.on_cuda and torch.cuda.is_current_stream_capturing()):
            self.after_step()

    def after_step(self) -> None:
        """Count a step."""
        found_inf = getattr(
            self._optimizer, "found_inf", None
        )  # a GradScaler's, for optimizers that skip by themselves
        if found_inf is not None and found_inf.is_cpu:
            if float(found_inf):
                return
            found_inf = None
        if self._has_several_steps and not self._has_moved():
            return
        self._calls += 1
        if found_inf is not None:
            self._skipped = self._skipped + (found_inf != 0)
        if self._every is None or self._calls % self._every:
            return
        self._observe(found_inf)

    def _has_moved(self) -> bool:
        """Tell whether the optimizer's state was written since the last call.

        An optimizer whose `step` calls that of its base class runs the hook twice in a step, once for each of the two.
        """
        self.roster.refresh()
        seen = [
            (id(entry), entry._version) if isinstance(entry, torch.Tensor) else entry
            for _, parameter, _ in self.roster.members
            for entry in self._optimizer.state.get(parameter, _NO_STATE).values()
            if isinstance(entry, torch.Tensor | int | float)
        ]
        moved = seen != self._seen
        self._seen = seen
        return moved

    def _observe(self, left_out: torch.Tensor | None) -> None:
        """Count the state as it stands, and keep what there is to keep."""
        moments = self._moments()
        if not moments:
            return
        values = [local(moment.values) for _, moment in moments]
        constants = (
            tuple([index for index, _ in moments]),
            tuple([moment.decay for _, moment in moments]),
            tuple([epsilon_in(group) for group in self.roster.groups]),
        )
        if constants != self._constants:
            self._constants = constants  # shared by all rows until something changes: mostly nothing ever does
        indexes, decays, epsilons = self._constants
        counted = self._count(indexes, values)
        totals = counted.totals()
        steps = _kept([moment.step for _, moment in moments])
        observation = Observation(self._calls, self._skipped, left_out, indexes, decays, steps, epsilons)
        self._latest = observation, counted
        self.history.add(observation, counted, totals, values)
        self.nonfinite.look(indexes, totals, self.roster.layers)

    def _moments(self) -> list[tuple[int, SecondMoment]]:
        """Return the second moments that there are, with the places of their layers."""
        self.roster.refresh()
        second_moment, state = self._adapter.second_moment, self._optimizer.state
        return [
            (index, moment)
            for index, parameter, group in self.roster.members
            if parameter.requires_grad and (moment := second_moment(state.get(parameter, _NO_STATE), group)) is not None
        ]

    def _count(self, indexes: tuple[int, ...], values: list[torch.Tensor]) -> Counted:
        self._latest = None  # its tables are about to be written
        try:
            return self._counter.count(values)
        except ValueError:
            self._refuse(indexes, values)
            raise

    def _refuse(self, indexes: tuple[int, ...], values: list[torch.Tensor]) -> None:
        """Raise what cannot be counted, with the name of the layer."""
        for index, v in zip(indexes, values, strict=True):
            histogram_of(Reading(self.roster.layers[index], LayerStatus.MEASURED, v))


def _kept(steps: list[Any]) -> torch.Tensor | array[float]:
    """Return counts of steps where the optimizer will not go on changing them: those on a device stay there."""
    devices = {step.device for step in steps if isinstance(step, torch.Tensor) and not step.is_cpu}
    if not devices:
        return array("d", map(float, steps))
    if len(devices) > 1 or not all(isinstance(step, torch.Tensor) and step.device in devices for step in steps):
        device = devices.pop()
        steps = [torch.as_tensor(step, dtype=torch.float32).to(device, non_blocking=True) for step in steps]
    return torch.stack(steps)
