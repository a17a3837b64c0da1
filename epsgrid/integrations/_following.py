"""What the callbacks have in common: observers of a training's optimizers, and the bounds kept after its first epochs.

A callback must never be what ends a training. If nothing can be observed, an error says so before the first step;
whatever goes wrong later is a warning, and the training goes on, also where warnings are errors.
"""

from __future__ import annotations

import importlib.util
import json
import math
import sys
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

    The callback sets `batch`, how many of the present epoch have been trained, and `of`, how many an epoch has, None if
    unknown; and `accumulate`, how many make a step. It adds to `batches`, those of all epochs whose gradients v holds.
    """

    def __init__(self, every: int, probe_epochs: int, alarm: bool) -> None:
        check_whole(every=every, probe_epochs=probe_epochs)
        self.every, self.probe_epochs, self.alarm = every, probe_epochs, alarm
        self.observers: tuple[Observer, ...] = ()
        self.kept: tuple[EpsilonBounds | None, ...] = ()
        self.batch: int | None = 0
        self.of: int | None = None
        self.batches, self.accumulate = 0, 1
        self._is_open = self._is_fresh = self._is_probing = self._is_whole = False
        self._ended = 0  # whole epochs that v holds
        self._misses_some = False  # v began within the present epoch
        self._steps: list[int] | None = None  # of each observer, where the training's beginning is known
        self._warned: set[str] = set()
        self._alarms: dict[Observer, Alarm] = {}
        self._next_look = 0  # in batches

    @property
    def bounds(self) -> EpsilonBounds | None:
        """The kept bounds of the only optimizer, None until then; an ObservationError where there are several."""
        if len(self.kept) > 1:
            raise ObservationError(f"{len(self.kept)} optimizers are observed: their bounds are all_bounds[0], …")
        return self.kept[0] if self.kept else None

    def diagnosis(self) -> Diagnosis | None:
        """Diagnose the only optimizer now, None before its first step; ObservationError where there are several."""
        if len(self.observers) > 1:
            raise ObservationError(f"{len(self.observers)} optimizers are observed: ask observers[0].diagnosis(), …")
        return self.observers[0].diagnosis() if self.observers and self.observers[0].step else None

    def attach(self, optimizers: Sequence[Any], model: torch.nn.Module, steps: int, epochs: float) -> None:
        """Observe a training's optimizers, or wrappers around them, from now on; a resumed one has `steps` behind it.

        `epochs` are those behind it, with a fraction where it goes on within one.

        Raises:
            ObservationError: none of them can be observed; a single one that cannot causes a warning.
        """
        self.detach()
        if not steps:
            self.kept, self._is_whole, self._steps = (), False, []
            self._ended, self.batches, self._misses_some = 0, 0, False
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
        self.observers, self._is_open = tuple(observers), True
        if self._steps is None:  # neither this callback nor a checkpoint has seen the beginning
            self._ended = int(epochs)
        self._is_probing = not self._is_whole and (bool(self.kept) or self._ended < self.probe_epochs or not steps)
        self._is_fresh = all(map(_is_unused, observers))
        if self._is_fresh:
            self._ended, self.batches, self._misses_some = 0, 0, epochs % 1 > 0
        else:  # a resumed training counts on
            counts = [steps] if len(observers) == 1 else self._steps or []
            for observer, count in zip(observers, counts, strict=False):
                observer.step = count
        self._steps = []
        self._alarms = {observer: Alarm(observer.step) for observer in observers if self.alarm}
        self._next_look = self.batches

    def detach(self) -> None:
        """Stop observing, if it has begun."""
        if self._is_open:
            self._is_open = False
            for observer in self.observers:
                observer.close()

    def count_batch(self, index: int) -> None:
        """Count a trained batch, `index` of its epoch."""
        if self._is_fresh:
            self._is_fresh, self._misses_some = False, index > 0
        self.batches, self.batch = self.batches + 1, index + 1

    def look(self) -> list[str]:
        """Look for steps that ε shortens where that is due; return what is to be warned of.

        In a distributed job this is a collective over all ranks.
        """
        if not self._is_open or self.batches < self._next_look:
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
        self._next_look = self.batches + max(1, min(missing)) if missing else sys.maxsize
        return [text for text in texts if text is not None]

    def end_epoch(self) -> list[str]:
        """Count an epoch that was trained to its end, and keep the bounds where it is the last of the probe.

        Returns lines to print; in a distributed job this is a collective over all ranks.
        """
        epoch, self._ended = self._ended, self._ended + (not self._misses_some)
        self._misses_some = False
        return self.keep_bounds(epoch) if self._ended >= self.probe_epochs else []

    def keep_bounds(self, epoch: int | None = None) -> list[str]:
        """Keep the bounds as they are now, unless those of the probe's epochs are kept; return lines to print.

        `epoch` is the number of the present one, from 0, where it has just been counted. A training resumed beyond
        `probe_epochs` keeps none. In a distributed job this is a collective over all ranks.
        """
        if not self._is_probing or not any(observer.step for observer in self.observers):
            return []
        self.kept = tuple(self.attempt(gathered_bounds, observer) for observer in self.observers)
        epoch = self._ended if epoch is None else epoch
        self._is_probing, self._is_whole = False, self._ended >= self.probe_epochs
        found = zip(self.observers, self.kept, strict=True)
        return [_describe(each, bounds, self._when(each.step, epoch)) for each, bounds in found if bounds is not None]

    def _when(self, steps: int, epoch: int) -> str:
        """Return how many steps and epochs an optimizer has taken."""
        if self.batch == 0:
            epochs: float = self._ended
            if self.of and abs(self.batches - epochs * self.of) > self.accumulate:  # epochs that were cut short
                epochs = self.batches / self.of
            return f"{steps} steps, {epochs:.3g} epoch{'' if epochs == 1 else 's'}"
        name = f"epoch {epoch + 1}" if epoch else "the first epoch"
        if self.batch is None or self.of is None:
            return f"{steps} steps, within {name}"
        if not epoch and steps == self.batch // self.accumulate:
            return f"{steps} of {math.ceil(self.of / self.accumulate)} steps of {name}"
        return f"{steps} steps, {self.batch} of {self.of} batches of {name}"

    def series(self, step: int, epoch: float | None) -> list[tuple[str, Series, dict[str, float]]]:
        """Count now; return of each optimizer the prefix of its names, a series of one snapshot at `step`, and scalars.

        In a distributed job this is a collective over all ranks.
        """
        found = []
        for number, observer in enumerate(self.observers if self._is_open else ()):
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
                "whole": self._is_whole,
                "ended": self._ended,
                "misses_some": self._misses_some,
                "batches": self.batches,
                "steps": [observer.step for observer in self.observers],
            }
        )

    def load_json(self, text: str) -> None:
        """Load the text of a checkpoint; one that cannot be read causes a warning and is ignored."""
        try:
            held = json.loads(text)
            self.kept = tuple(bounds and EpsilonBounds.from_json(bounds) for bounds in held["kept"])
            self._is_whole = bool(held.get("whole", self.kept))
            if "steps" in held:  # not in those of earlier versions
                self._ended, self._misses_some = int(held["ended"]), bool(held["misses_some"])
                self.batches, self._steps = int(held["batches"]), list(held["steps"])
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
