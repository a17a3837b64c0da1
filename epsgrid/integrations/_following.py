"""What the callbacks have in common: observers of a training's optimizers, and the bounds kept after its first epochs.

A callback must never be what ends a training. If nothing can be observed, an error says so before the first step;
whatever goes wrong later is a warning, and the training goes on.
"""

from __future__ import annotations

import importlib.util
import json
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

import torch

from epsgrid.data._torchvision import import_torchvision
from epsgrid.errors import DataError, EpsgridError, ObservationError
from epsgrid.numerics.bounds import EpsilonBounds
from epsgrid.numerics.precision import power
from epsgrid.numerics.series import Series
from epsgrid.observing.adapters import epsilon_in
from epsgrid.observing.distributed import gathered_bounds, gathered_series
from epsgrid.observing.observer import Observer, check_whole, observe
from epsgrid.observing.trackers import PREFIX

_VERSION = 1

_T = TypeVar("_T")


def repair_torchvision() -> None:
    """Import torchvision, if there is one, in the way that works beside any torch; frameworks import it too."""
    if importlib.util.find_spec("torchvision"):
        with suppress(DataError):
            import_torchvision()


class Following:
    """Observers of one training's optimizers, from its start to its end.

    `kept` are the bounds after `probe_epochs`, of each observer; None where there are none. Empty until then.
    """

    def __init__(self, every: int, probe_epochs: int) -> None:
        check_whole(every=every, probe_epochs=probe_epochs)
        self.every, self.probe_epochs = every, probe_epochs
        self.observers: tuple[Observer, ...] = ()
        self.kept: tuple[EpsilonBounds | None, ...] = ()
        self._is_open = self._is_probing = False
        self._warned: set[str] = set()

    @property
    def bounds(self) -> EpsilonBounds | None:
        """The kept bounds of the only optimizer, None until then; an ObservationError where there are several."""
        if len(self.kept) > 1:
            raise ObservationError(f"{len(self.kept)} optimizers are observed: their bounds are all_bounds[0], …")
        return self.kept[0] if self.kept else None

    def attach(self, optimizers: Sequence[Any], model: torch.nn.Module, steps: int, epochs: float) -> None:
        """Observe a training's optimizers, or wrappers around them, from now on; a resumed one has `steps` behind it.

        Raises:
            ObservationError: none of them can be observed; a single one that cannot causes a warning.
        """
        self.detach()
        if not steps:
            self.kept = ()
        observers, problems = [], []
        for optimizer in optimizers:
            try:
                observers.append(observe(optimizer, model=model, every=self.every))
            except ObservationError as error:
                problems.append(str(error))
        if not observers:
            raise ObservationError(problems[0] if problems else "this training has no optimizer to observe")
        for problem in problems:
            self._warn(problem)
        self.observers, self._is_open, self._is_probing = tuple(observers), True, epochs < self.probe_epochs
        if len(observers) == 1:
            observers[0].step = steps  # a resumed training counts on

    def detach(self) -> None:
        """Stop observing, if it has begun."""
        if self._is_open:
            self._is_open = False
            for observer in self.observers:
                observer.close()

    def keep_bounds(self, epochs: float) -> list[str]:
        """Keep the bounds as they are now, once; return lines to print about them.

        A training resumed beyond `probe_epochs` keeps none. In a distributed job this is a collective over all ranks.
        """
        if not self._is_probing or self.kept or not any(observer.step for observer in self.observers):
            return []
        self.kept = tuple(self._try(gathered_bounds, observer) for observer in self.observers)
        found = zip(self.observers, self.kept, strict=True)
        return [_describe(observer, bounds, epochs) for observer, bounds in found if bounds is not None]

    def series(self, step: int, epoch: float | None) -> list[tuple[str, Series]]:
        """Count now; return for each optimizer the prefix of its names and a series of one snapshot at `step`.

        In a distributed job this is a collective over all ranks.
        """
        found = []
        for number, observer in enumerate(self.observers if self._is_open else ()):
            series = self._try(gathered_series, observer, epoch) if observer.step else None
            if series is not None:
                prefix = PREFIX if len(self.observers) == 1 else f"{PREFIX}.{number}"
                found.append((prefix, replace(series, snapshots=(replace(series.snapshots[0], step=step),))))
        return found

    def to_json(self) -> str:
        """Return the text that a checkpoint has to hold."""
        return json.dumps({"version": _VERSION, "kept": [bounds and bounds.to_json() for bounds in self.kept]})

    def load_json(self, text: str) -> None:
        """Load the text of a checkpoint; one that cannot be read causes a warning and is ignored."""
        try:
            self.kept = tuple(bounds and EpsilonBounds.from_json(bounds) for bounds in json.loads(text)["kept"])
        except (EpsgridError, KeyError, TypeError, ValueError) as error:
            self._warn(f"the bounds in the checkpoint cannot be read and are measured again if need be: {error}")

    def _try(self, ask: Callable[..., _T], *arguments: Any) -> _T | None:
        try:
            return ask(*arguments)
        except EpsgridError as error:
            self._warn(str(error))
            return None

    def _warn(self, message: str) -> None:
        """Warn of the same thing once."""
        if message not in self._warned:
            self._warned.add(message)
            warnings.warn(f"epsgrid: {message}", RuntimeWarning, stacklevel=2)


def _describe(observer: Observer, bounds: EpsilonBounds, epochs: float) -> str:
    """Return the bounds on one line, with the layers that set them."""
    low, high = bounds.low, bounds.high
    used = sorted({each for group in observer.optimizer.param_groups if (each := epsilon_in(group)) is not None})
    return (
        f"epsgrid: after {observer.step} steps, {epochs:.3g} epoch{'' if epochs == 1 else 's'}, the bounds of ε for"
        f" {type(observer.optimizer).__name__} are {power(low.decade)} to {power(high.decade)}"
        f" (set by {low.layers[0]}, {low.entries} entries, and {high.layers[0]}, {high.entries} entries)"
        + (f"; it trains with {', '.join(map(power, used))}" if used else "")
    )
