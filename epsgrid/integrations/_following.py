"""What the callbacks have in common: observers of a training's optimizers, and the bounds kept after its first epochs.

A callback must never be what ends a training. If nothing can be observed, an error says so before the first step;
whatever goes wrong later is a warning, and the training goes on, also where warnings are errors.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

import torch

from epsgrid.data._torchvision import import_torchvision
from epsgrid.errors import DataError, EpsgridError, ObservationError
from epsgrid.numerics.bounds import EpsilonBounds
from epsgrid.numerics.precision import count, power
from epsgrid.numerics.series import Series
from epsgrid.observing.adapters import epsilon_in
from epsgrid.observing.diagnosis import Alarm, Diagnosis
from epsgrid.observing.distributed import gathered_bounds, gathered_diagnosis, gathered_look
from epsgrid.observing.observer import Observer, check_whole, observe
from epsgrid.observing.trackers import PREFIX, scalars
from epsgrid.streams import warn_anyway

_VERSION = 1

_T = TypeVar("_T")


def repair_torchvision() -> None:
    """Import torchvision, if there is one, in the way that works beside any torch; frameworks import it too."""
    if importlib.util.find_spec("torchvision"):
        with suppress(DataError):
            import_torchvision()


class Following:
    """Observers of one training's optimizers, from its start to its end.

    `kept` are the bounds after `probe_epochs`, of each observer; None where there are none. Empty until then. Those of
    a training that stopped before are kept until it goes on to the end of so many whole epochs.

    `batch` is how many of the present epoch have been trained, 0 at its end; a callback that does not count them by
    `count_batch` sets it.
    """

    def __init__(self, every: int, probe_epochs: int, alarm: bool) -> None:
        check_whole(every=every, probe_epochs=probe_epochs)
        self.every, self.probe_epochs, self.alarm = every, probe_epochs, alarm
        self.observers: tuple[Observer, ...] = ()
        self.kept: tuple[EpsilonBounds | None, ...] = ()
        self.batch = 0
        self._is_done = False  # the probe's epochs are over
        self._ended: int | None = None  # whole epochs that v holds; not known of a training that began elsewhere
        self._misses_some: bool | None = False  # v began within the present epoch; None until its first batch tells
        self._steps: list[int] = []  # of each observer, from a checkpoint
        self._warned: set[str] = set()
        self._alarms: dict[Observer, Alarm] = {}
        self._pause = 0  # calls of `look` until the next one that looks

    def attach(self, optimizers: Sequence[Any], model: torch.nn.Module, steps: int, epochs: float) -> None:
        """Observe a training's optimizers, or wrappers around them, from now on; a resumed one has `steps` behind it.

        `epochs` are those behind it, with a fraction where it goes on within one.

        Raises:
            ObservationError: none of them can be observed; a single one that cannot causes a warning.
        """
        self.detach()
        if not steps:
            self.kept, self._is_done, self._ended, self._misses_some = (), False, 0, False
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
        self.observers = tuple(observers)
        self._ended = int(epochs) if self._ended is None else self._ended
        self._is_done |= bool(steps) and not self.kept and self._ended >= self.probe_epochs
        if all(map(_is_unused, observers)):
            self._ended, self._misses_some = 0, epochs % 1 > 0 or None
        else:  # a resumed training counts on
            for observer, count in zip(observers, [steps] if len(observers) == 1 else self._steps, strict=False):
                observer.step = count
        self._steps = []
        self._alarms = {observer: Alarm(observer.step) for observer in observers if self.alarm}
        self._pause = 0

    def detach(self) -> None:
        """Stop observing, if it has begun."""
        for observer in self.observers:
            observer.close()

    def count_batch(self, index: int) -> None:
        """Count a trained batch, `index` of its epoch."""
        if self._misses_some is None:
            self._misses_some = index > 0
        self.batch = index + 1

    def look(self) -> list[str]:
        """Look for steps that ε shortens where that is due; return what is to be warned of.

        In a distributed job this is a collective over all ranks.
        """
        self._pause -= 1
        if self._pause > 0:
            return []
        texts, missing = [], []
        for observer, alarm in list(self._alarms.items()):
            if observer.step >= alarm.next_look:
                diagnosis = self.attempt(gathered_diagnosis, observer)
                if diagnosis is None:  # and so it stays, as is warned of
                    del self._alarms[observer]
                    continue
                texts.append(alarm.look(diagnosis))
            missing.append(alarm.next_look - observer.step)
        # A step takes a batch or more. Where a scaler skips steps on a device, asking for their number waits for it.
        self._pause = max(1, min(missing)) if missing else sys.maxsize
        return [text for text in texts if text is not None]

    def end_epoch(self) -> list[str]:
        """Count an epoch that was trained to its end, and keep the bounds where it is the last of the probe.

        Returns lines to print; in a distributed job this is a collective over all ranks.
        """
        epoch = self._ended or 0
        self._ended, self._misses_some = epoch + (not self._misses_some), False
        return self.keep_bounds(epoch) if self._ended >= self.probe_epochs else []

    def keep_bounds(self, epoch: int | None = None) -> list[str]:
        """Keep the bounds as they are now, unless those of the probe's epochs are kept; return lines to print.

        `epoch` is the number of the present one, from 0, where it has just been counted. A training resumed beyond
        `probe_epochs` keeps none. In a distributed job this is a collective over all ranks.
        """
        if self._is_done or not any(observer.step for observer in self.observers):
            return []
        self.kept = tuple(self.attempt(gathered_bounds, observer) for observer in self.observers)
        ended = self._ended or 0
        self._is_done = ended >= self.probe_epochs
        when = count(ended, "epoch")
        if self.batch:
            number = ended if epoch is None else epoch
            when = f"within {f'epoch {number + 1}' if number else 'the first epoch'}"
        found = zip(self.observers, self.kept, strict=True)
        return [_describe(each, bounds, f"{each.step} steps, {when}") for each, bounds in found if bounds is not None]

    def series(self, step: int, epoch: float | None) -> list[tuple[str, Series, dict[str, float]]]:
        """Count now; return of each optimizer the prefix of its names, a series of one snapshot at `step`, and scalars.

        In a distributed job this is a collective over all ranks.
        """
        found = []
        for number, observer in enumerate(self.observers):
            look = self.attempt(gathered_look, observer, epoch) if observer.step else None
            if look is not None:
                series, diagnosis = look
                prefix = PREFIX if len(self.observers) == 1 else f"{PREFIX}.{number}"
                series = replace(series, snapshots=(replace(series.snapshots[0], step=step),))
                row = scalars(series, prefix, diagnosis)[step]
                found.append((prefix, series, row))
        return found

    def to_json(self) -> str:
        """Return the text that a checkpoint has to hold."""
        return json.dumps(
            {
                "version": _VERSION,
                "kept": [bounds and bounds.to_json() for bounds in self.kept],
                "whole": self._is_done,
                "ended": self._ended,
                "misses_some": bool(self._misses_some),
                "steps": [observer.step for observer in self.observers],
            }
        )

    def load_json(self, text: str) -> None:
        """Load the text of a checkpoint; one that cannot be read causes a warning and is ignored."""
        try:
            held = json.loads(text)
            self.kept = tuple(bounds and EpsilonBounds.from_json(bounds) for bounds in held["kept"])
            self._is_done = bool(held.get("whole", self.kept))
            if "steps" in held:  # not in those of earlier versions
                self._ended = None if held["ended"] is None else int(held["ended"])
                self._misses_some = bool(held["misses_some"])
                self._steps = list(held["steps"])
        except (AttributeError, EpsgridError, KeyError, TypeError, ValueError) as error:
            self._warn(f"the bounds in the checkpoint cannot be read and are measured again if need be: {error}")

    def attempt(self, ask: Callable[..., _T], *arguments: Any) -> _T | None:
        """Call something; where it fails, warn and return None."""
        try:
            return ask(*arguments)
        except Exception as error:
            self._warn(str(error) if isinstance(error, EpsgridError) else f"{type(error).__name__}: {error}")
            return None

    def _warn(self, message: str) -> None:
        """Warn of the same thing once."""
        if message not in self._warned:
            self._warned.add(message)
            warn_anyway(f"epsgrid: {message}", RuntimeWarning, stacklevel=3)


class BoundsAndDiagnosis:
    """What both callbacks answer."""

    _following: Following

    @property
    def bounds(self) -> EpsilonBounds | None:
        """The bounds after `probe_epochs` of the only optimizer, None before; ObservationError with several."""
        if len(kept := self._following.kept) > 1:
            raise ObservationError(f"{len(kept)} optimizers are observed: their bounds are all_bounds[0], …")
        return kept[0] if kept else None

    def diagnosis(self) -> Diagnosis | None:
        """Say by how much ε shortens the steps of each layer now; None before the first step.

        On a rank of a distributed job that is of what it holds; `distributed.gathered_diagnosis` asks all ranks. Raises
        ObservationError with several optimizers.
        """
        if len(observers := self._following.observers) > 1:
            raise ObservationError(f"{len(observers)} optimizers are observed: ask observers[0].diagnosis(), …")
        return observers[0].diagnosis() if observers and observers[0].step else None


def _is_unused(observer: Observer) -> bool:
    """Return whether an optimizer has taken no step."""
    return not any(entry.get("step", 1) for entry in observer.optimizer.state.values() if entry)


def _describe(observer: Observer, bounds: EpsilonBounds, when: str) -> str:
    """Return the bounds on one line, with the layers that set them."""
    low, high = bounds.low, bounds.high
    epsilons = {each for group in observer.optimizer.param_groups if (each := epsilon_in(group)) is not None}
    used = ", ".join(map(power, sorted(epsilons)))
    return (
        f"epsgrid: after {when}, the bounds of ε for"
        f" {type(observer.optimizer).__name__} are {power(low.decade)} to {power(high.decade)}"
        f" (set by {low.layers[0]}, {low.entries} entries, and {high.layers[0]}, {high.entries} entries)"
        + (f"; it trains with {used}" if used else "")
    )
