"""Tell after a step whether all that was read after the last one can be read again just so.

In most trainings nothing but numbers changes from one step to the next: the same groups hold the same parameters, and
the state the same tensors. Asking an optimizer for its second moments, layer by layer, costs a small network more than
counting them. So what was found is kept, with everything that it followed from; as long as all of that is as it was,
which is seen by identity and by addresses, a step is counted by one compiled call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from epsgrid.numerics.recounting import Recount
from epsgrid.numerics.tables import Counter
from epsgrid.observing.roster import Roster
from epsgrid.optimizers import SecondMoment

_WITHOUT_EFFECT = {"params", "param_names", "lr", "betas"}
"""What a group may have anew while its second moments last; of the betas, the second may not."""


@dataclass(frozen=True, eq=False, slots=True)
class _Group:
    """A parameter group as it was.

    Attributes:
        group: the group itself.
        size: how many options it had.
        parameters: those it held.
        options: those that second moments and ε may depend on, with what they were.
        beta2: of its betas the second; None where it has none.
    """

    group: dict[str, Any]
    size: int
    parameters: list[torch.Tensor]
    options: list[tuple[str, Any]]
    beta2: float | None

    @classmethod
    def of(cls, group: dict[str, Any]) -> _Group | None:
        """Return a group as it is; None where it has options that can change and stay the same object."""
        options = [(name, value) for name, value in group.items() if name not in _WITHOUT_EFFECT]
        beta2 = _beta2(group)
        if not all(value is None or isinstance(value, float | int | str) for value in (*dict(options).values(), beta2)):
            return None
        return cls(group, len(group), list(group["params"]), options, beta2)

    def holds(self, group: dict[str, Any]) -> bool:
        """Tell whether a group is this one, and as it was; raises KeyError where an option is gone."""
        parameters = group["params"]
        if group is not self.group or len(group) != self.size or len(parameters) != len(self.parameters):
            return False
        for name, value in self.options:
            if group[name] is not value:
                return False
        for parameter, known in zip(parameters, self.parameters, strict=True):
            if parameter is not known:
                return False
        return _beta2(group) is self.beta2


@dataclass(frozen=True, eq=False, slots=True)
class _Read:
    """Where the second moment of a layer was found.

    Attributes:
        entry: of the state, that of the parameter.
        key: under which it has v.
        moment: what was read.
    """

    entry: dict[str, Any]
    key: str
    moment: SecondMoment

    @classmethod
    def of(cls, entry: Any, moment: SecondMoment | None) -> _Read | None:
        """Return where a second moment can be read again; None where that is not known."""
        if moment is None or not moment.lasting or not isinstance(entry, dict):
            return None
        key = next((key for key, value in entry.items() if value is moment.values), None)
        if key is None or type(moment.values) is not torch.Tensor:
            return None
        read = cls(entry, key, moment)
        return read if read._has_readable_step() else None

    @property
    def counts_steps(self) -> bool:
        """Whether the entry has the count of steps, rather than that it is always the same."""
        return self.moment.step is self.entry.get("step")

    def _has_readable_step(self) -> bool:
        step = self.moment.step
        if isinstance(step, torch.Tensor):
            plain = type(step) is torch.Tensor and step.is_cpu and step.numel() == 1
            return plain and self.counts_steps and step.dtype in (torch.float32, torch.float64)
        return self.counts_steps or not self.moment.decay


class Standing:
    """What was read after the last observed step; `standing_of` makes it.

    Attributes:
        recount: counts the same tensors again, and notes their steps.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        groups: Sequence[_Group],
        members: Sequence[tuple[torch.Tensor, _Read | None]],
        recount: Recount,
        counts: Sequence[tuple[Mapping[str, Any], npt.NDArray[np.float64]]],
    ) -> None:
        self.recount = recount
        self._optimizer, self._groups, self._counts = optimizer, groups, counts
        self._state = list(optimizer.state.items())
        self._trained = [(parameter, parameter.requires_grad) for parameter, _ in members]
        self._held = [(read.entry, read.key, read.moment.values) for _, read in members if read is not None]
        for _, read in members:
            if read is not None and (step := _step_tensor(read)) is not None:
                self._held.append((read.entry, "step", step))

    def holds(self) -> bool:
        """Tell whether nothing has changed but numbers in tensors, learning rates, β₁ and counts of steps.

        It has where the optimizer's groups, their parameters or their options, what is trained, the entries of the
        state, the tensors in them, or the memory of these are not those they were. Plain loops are what runs fastest
        after a step, which has emptied the caches: every other function costs microseconds to fetch.
        """
        try:
            return self._groups_hold() and self._state_holds() and self.recount.holds()
        except KeyError:
            return False

    def _groups_hold(self) -> bool:
        groups = self._optimizer.param_groups
        if len(groups) != len(self._groups):
            return False
        for known, group in zip(self._groups, groups, strict=True):
            if not known.holds(group):
                return False
        for parameter, trained in self._trained:  # noqa: SIM110
            if parameter.requires_grad is not trained:
                return False
        return True

    def _state_holds(self) -> bool:
        state = self._optimizer.state
        if len(state) != len(self._state):
            return False
        for (parameter, entry), (known, known_entry) in zip(state.items(), self._state, strict=True):
            if parameter is not known or entry is not known_entry:
                return False
        for entry, key, tensor in self._held:  # noqa: SIM110
            if entry[key] is not tensor:
                return False
        return True

    def count(self) -> int:
        """Count where `holds` says that this can be done; return what `Recount.count` does."""
        for entry, number in self._counts:
            number[()] = entry["step"]
        return self.recount.count()


def standing_of(
    optimizer: torch.optim.Optimizer,
    roster: Roster,
    moments: Sequence[tuple[int, SecondMoment]],
    values: Sequence[torch.Tensor],
    counter: Counter,
) -> Standing | None:
    """Return what was read after a step, or None where it cannot be told quickly whether it may be read again.

    Args:
        optimizer: whose state it is.
        roster: its layers.
        moments: the second moments found, with the places of their layers.
        values: what was counted of them.
        counter: has counted them last.
    """
    by_place, members = dict(moments), []
    for place, parameter, _ in roster.members:
        entry, moment = optimizer.state.get(parameter), by_place.get(place)
        read = _Read.of(entry, moment)
        if read is None and (moment is not None or (entry is not None and parameter.requires_grad)):
            return None
        members.append((parameter, read))
    groups = [known for group in optimizer.param_groups if (known := _Group.of(group)) is not None]
    if len(groups) < len(optimizer.param_groups):
        return None
    reads = [read for _, read in members if read is not None]
    numbers = [_number(read) for read in reads]
    recount = counter.recount(values, numbers)
    if recount is None:
        return None
    pairs = zip(reads, numbers, strict=True)
    counts = [(read.entry, number.numpy()) for read, number in pairs if read.counts_steps and not _step_tensor(read)]
    return Standing(optimizer, groups, members, recount, counts)


def _step_tensor(read: _Read) -> torch.Tensor | None:
    return read.moment.step if isinstance(read.moment.step, torch.Tensor) else None


def _number(read: _Read) -> torch.Tensor:
    """Return the tensor that has the count of steps; where there is none, a new one."""
    step = _step_tensor(read)
    return torch.tensor(float(read.moment.step), dtype=torch.float64) if step is None else step


def _beta2(group: Mapping[str, Any]) -> Any:
    betas = group.get("betas")
    return None if betas is None else betas[1]
