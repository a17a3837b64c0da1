"""ONE FILE PER TASK: data + loss + metric.

A file `tasks/NAME.py` defines

    class Options(TaskOptions)        which data, how split and varied, with defaults
    def prepare(options) -> Any       decode the data once into the cache (or find them there); torch-free
    def build(options, data, device) -> Task

and, where `prepare` takes its time to see that what it made before is still good,

    def find(options, checksum) -> Any | None    what `prepare` made of the data with this checksum, unless it is gone

`prepare` runs once in the command's own process and returns something with a `checksum` (sha256, hex) of the data;
each trial calls `of_trial`, which sees that it gets those very data. Files import torch inside their functions only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from epsgrid import plugins
from epsgrid.errors import DataError
from epsgrid.spec.model import TaskOptions

if TYPE_CHECKING:
    import torch

Split = Literal["validation", "test"]

_SHOWN = 12
"""So many digits of a checksum are shown."""


@dataclass(frozen=True)
class Metric:
    """What a task is judged by.

    Attributes:
        name: key in the mapping that `Task.evaluate` returns, such as "accuracy".
        direction: "max" where larger is better, else "min".
        unit: "%" where the value is a fraction to be shown in percent, else "".
    """

    name: str
    direction: Literal["max", "min"]
    unit: Literal["%", ""]


class PreparedData(Protocol):
    """Decoded data, ready to be trained on."""

    @property
    def checksum(self) -> str:
        """Sha256 of the data, hex: two copies that decode alike have the same."""
        ...

    @property
    def description(self) -> str:
        """One line for the report: what the data are and, where they are a subset or generated, that they are."""
        ...

    @property
    def has_validation(self) -> bool:
        """Whether examples are held out of the training data for choosing among trials."""
        ...


class Task(Protocol):
    """A task bound to its data and a device.

    Attributes:
        metric: what it is judged by.
        inputs: shape of one example, as the model plug-ins take it.
        outputs: number of classes, or of words to predict.
        notes: how scores are computed where the metric's name does not say it, such as the signature of a BLEU score.
    """

    metric: Metric
    inputs: tuple[int, ...]
    outputs: int
    notes: Mapping[str, str]

    def steps_per_epoch(self, batch_size: int, seed: int = 0, epoch: int = 0) -> int:
        """Return the number of training batches in an epoch, counted from 0; for most tasks it is always the same."""
        ...

    def begin_epoch(self, model: torch.nn.Module, batch_size: int) -> None:
        """Forget what the model carries from batch to batch, such as a recurrent state; for most tasks nothing.

        Called once for a new model, before a checkpoint is loaded into it, and at the start of every epoch. What is
        carried belongs to the model's persistent buffers, so that a checkpoint holds it.
        """
        ...

    def learning_rate_scale(self, batch: Any) -> float:
        """Return the factor by which a batch scales the learning rate: 1, except where batches differ in length."""
        ...

    def batches(self, seed: int, epoch: int, batch_size: int, first_step: int = 0) -> Iterator[Any]:
        """Yield the batches of an epoch on the device, from `first_step` on.

        Order and augmentation are a function of (seed, epoch, step) alone, so that every trial of a seed sees the same
        batches and a resumed trial goes on exactly. torch's global generators are not touched.
        """
        ...

    def loss(self, model: torch.nn.Module, batch: Any) -> torch.Tensor:
        """Return the mean loss of a batch, a scalar with gradient."""
        ...

    def evaluate(self, model: torch.nn.Module, split: Split) -> Mapping[str, float]:
        """Return `loss`, the metric and any further scores on a whole split, for a model in eval mode.

        The validation split is scored after every epoch, the test split once at the end.
        """
        ...


class TaskPlugin(Protocol):
    """What a file of this folder provides; see the module's own words."""

    Options: type[TaskOptions]

    def prepare(self, options: Any) -> PreparedData:
        """Make the data ready, or raise DataError that says how to get them."""
        ...

    def build(self, options: Any, data: Any, device: torch.device) -> Task:
        """Bind the task to its data and a device."""
        ...


def of_trial(plugin: TaskPlugin, options: Any, checksum: str) -> PreparedData:
    """Return the data that a trial was planned with.

    Args:
        plugin: of the task.
        options: of the task.
        checksum: of those data.

    Raises:
        DataError: the data are others by now, or this machine has others.
    """
    find = getattr(plugin, "find", None)
    found: PreparedData | None = None if find is None else find(options, checksum)
    if found is not None:
        return found
    data = plugin.prepare(options)
    if data.checksum != checksum:
        raise DataError(
            f"the data are not those that this trial was planned with: their checksum is {data.checksum[:_SHOWN]}…,"
            f" planned were {checksum[:_SHOWN]}…. They were changed since, or this machine has others; put those back,"
            " or sweep with the new ones into another folder (--out)"
        )
    return data


def load(name: str) -> TaskPlugin:
    """Return the task plug-in called `name`."""
    plugin: TaskPlugin = plugins.load("tasks", name)
    return plugin
