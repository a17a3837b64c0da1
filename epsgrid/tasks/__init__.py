"""ONE FILE PER TASK: data + loss + metric.

A file `tasks/NAME.py` defines what `TaskPlugin` lists. If `prepare` needs time to check that its cached data still
match their source, it also has `find(options, checksum)`, which returns the cached data with this checksum, or None.
`prepare` runs once in the process of the command; each trial calls `of_trial`, which makes sure that it gets the same
data. `START`, if there is one, is what `epsgrid init` writes into a new spec in place of the defaults, such as
{"model": "lstm"}. Files import torch inside functions only. What several tasks share is in files that begin with an
underscore.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol

from epsgrid import plugins
from epsgrid.errors import DataError
from epsgrid.spec.options import TaskOptions
from epsgrid.store.records import Metric as Metric

if TYPE_CHECKING:
    import torch

Split = Literal["validation", "test"]


class PreparedData(Protocol):
    """Decoded data, ready for training."""

    @property
    def checksum(self) -> str:
        """Sha256 of the data, hex: two copies that decode to the same have the same."""

    @property
    def description(self) -> str:
        """One line for the report: what the data are, and that they are a subset or generated, if they are."""

    @property
    def has_validation(self) -> bool:
        """Whether examples are held out of the training data for choosing among trials."""


class Task(Protocol):
    """A task bound to its data and a device; a base class with defaults for what most tasks do not need.

    `metric` names the score that it is judged by, a key of what `evaluate` returns. `inputs` is the shape of one
    example, `outputs` the number of classes, or of words to predict, and `notes` say how scores are computed if the
    metric's name does not.
    """

    metric: Metric
    inputs: tuple[int, ...]
    outputs: int
    notes: Mapping[str, str] = MappingProxyType({})

    def steps_per_epoch(self, batch_size: int, seed: int = 0, epoch: int = 0) -> int:
        """Return the number of training batches in an epoch, counted from 0; for most tasks it is always the same."""

    def begin_epoch(self, model: torch.nn.Module, batch_size: int) -> None:
        """Reset what the model carries from batch to batch, such as a recurrent state.

        Called once for a new model, before a checkpoint is loaded into it, and at the start of every epoch. What is
        carried belongs to the model's persistent buffers, so that a checkpoint holds it.
        """
        return

    def learning_rate_scale(self, batch: Any) -> float:
        """Return the factor by which a batch scales the learning rate: 1, unless batches differ in length."""
        return 1.0

    def batches(self, seed: int, epoch: int, batch_size: int, first_step: int = 0) -> Iterator[Any]:
        """Yield the batches of an epoch on the device, from `first_step` on.

        Order and augmentation are a function of (seed, epoch, step) alone, so that every trial of a seed sees the same
        batches and a resumed trial continues exactly. torch's global generators are not used.
        """

    def loss(self, model: torch.nn.Module, batch: Any) -> torch.Tensor:
        """Return the mean loss of a batch, a scalar with gradient."""

    def evaluate(self, model: torch.nn.Module, split: Split) -> Mapping[str, float]:
        """Return `loss`, the metric and any further scores on a whole split, for a model in eval mode.

        The validation split is scored after every epoch, the test split once at the end.
        """


class TaskPlugin(Protocol):
    """The contents of a file of this folder; `Options` says which data, how they are split and varied."""

    Options: type[TaskOptions]

    def prepare(self, options: Any) -> PreparedData:
        """Decode the data once into the cache, or map what is there.

        Raises DataError where the data are missing, which says how to get them, or damaged; SpecError where the options
        ask for more than the data have; ExecutionError where a package that reads them is not installed.
        """

    def build(self, options: Any, data: Any, device: torch.device) -> Task:
        """Bind the task to its data and a device."""


def of_trial(plugin: TaskPlugin, options: Any, checksum: str) -> PreparedData:
    """Return the data that a trial was planned with, which have this checksum; DataError if they are others now."""
    find = getattr(plugin, "find", None)
    found: PreparedData | None = None if find is None else find(options, checksum)
    if found is not None:
        return found
    data = plugin.prepare(options)
    if data.checksum != checksum:
        raise DataError(
            "the data are not those that this trial was planned with: their checksum is"
            f" {data.checksum[:12]}…, planned were {checksum[:12]}…. They were changed since, or"
            " this machine has others; put those back, or sweep with the new ones into another folder (--out)"
        )
    return data


def load(name: str) -> TaskPlugin:
    """Return the task plug-in called `name`."""
    plugin: TaskPlugin = plugins.load("tasks", name)
    return plugin
