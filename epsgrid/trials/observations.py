"""What a trial keeps of its gradient magnitudes: a snapshot after every epoch, or every so many steps.

Looking changes nothing: the weights are the same, bit for bit, whether or not a trial is observed. Snapshots lie in
step with the checkpoint, so a trial that was killed and goes on leaves the file it would have left undisturbed.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from epsgrid import optimizers
from epsgrid.errors import CorruptRecordError
from epsgrid.observing.adapters import from_plugin
from epsgrid.observing.layers import named_layers
from epsgrid.observing.observer import Observer
from epsgrid.spec.model import Spec
from epsgrid.store import observations
from epsgrid.store.paths import TrialFolder


class Observations:
    """Watches a trial as its spec's `observe` says; does nothing where that says never, or without an ε to watch."""

    def __init__(
        self, spec: Spec, folder: TrialFolder, model: torch.nn.Module, optimizer: torch.optim.Optimizer
    ) -> None:
        self._every = spec.observe.every
        self._path = folder.observations_jsonl
        plugin = optimizers.load(spec.optimizer.name)
        self._observer: Observer | None = None
        if self._every is not None and plugin.DEFAULT_EPSILON is not None:
            adapter = from_plugin(plugin, spec.optimizer)
            layers = named_layers(optimizer, model.named_parameters(), model)
            self._observer = Observer(optimizer, layers, adapter, every=None)

    def start(self, steps: int, warn: Callable[[str], None]) -> None:
        """Begin the file, or go on with it behind the snapshots of the `steps` of the checkpoint.

        A file that is damaged is started over, and `warn` told: what it held is measured no more, the trial goes on.
        """
        if self._observer is None:
            return
        self._observer.step = steps
        try:
            observations.keep_until(self._path, steps)
        except CorruptRecordError as error:
            warn(f"{error}; starting these observations over")
            self._path.unlink()
        if not steps or not self._path.exists():
            observations.write(self._path, self._observer.series())  # without snapshots: it counts only when asked

    def after_step(self, steps: int, epoch: float) -> None:
        """Keep a snapshot if it is its turn after `steps` in all; `epoch` counts epochs done, a fraction within one."""
        if self._observer is not None and isinstance(self._every, int) and steps % self._every == 0:
            observations.append(self._path, self._observer.snapshot(epoch))

    def after_epoch(self, epoch: int) -> None:
        """Keep a snapshot if one is wanted of each epoch."""
        if self._observer is not None and self._every == "epoch":
            observations.append(self._path, self._observer.snapshot(float(epoch)))
