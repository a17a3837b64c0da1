"""What the tasks share that are a training of the user's own: a function, or a command.

Such a task has no `build`. It defines `metric(options)`; `rehearse(options)`, which raises SpecError for a mistake that
shows without training; and `train(options, trial)`, which trains and returns the score, or {"validation": score,
"test": score}. There is nothing to prepare: data, model and loop are the user's.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TextIO

from pydantic import Field

from epsgrid.errors import SpecError
from epsgrid.spec.options import Frozen, TaskOptions


class OwnOptions(TaskOptions):
    """Options of a training of the user's own."""

    trains_itself: ClassVar[bool] = True
    location_fields: ClassVar[frozenset[str]] = frozenset({"folder"})

    folder: str = "."
    """Folder of the code, relative to that of the spec; it is no part of a trial's identity."""

    @classmethod
    def settle(cls, document: dict[str, Any], beside: Path) -> None:
        """Write out the folder of the code, the file of bounds, and that the training reports no epochs."""
        task, training, sweep = document["task"], document.get("training"), document.get("sweep")
        if isinstance(folder := task.setdefault("folder", "."), str):
            task["folder"] = str((beside / folder).resolve())
        if isinstance(sweep, dict) and isinstance(bounds := sweep.get("bounds"), str) and bounds.endswith(".json"):
            sweep["bounds"] = str((beside / bounds).resolve())
        if training is None or isinstance(training, dict):
            document["training"] = {"epochs": 1, **(training or {})}


class MetricOptions(Frozen):
    """The score that trials are judged by."""

    name: str = Field(default="score", min_length=1)
    """Its name in reports."""
    direction: Literal["max", "min"]
    """Whether larger or smaller is better."""
    unit: Literal["%", ""] = ""
    """"%" is for a fraction that is shown in percent."""


@dataclass(frozen=True)
class NoData:
    """The data of a training that has its own."""

    checksum: str = hashlib.sha256(b"").hexdigest()
    description: str = "the training's own data"
    has_validation: bool = True


@dataclass(frozen=True)
class FunctionTrial:
    """What a training function is told, and can tell.

    Attributes:
        learning_rate, epsilon, seed: what to train with; epsilon is None for an optimizer without one.
        epochs: `training.epochs`, the number of epochs that are reported; 1 unless it was asked for.
        reported: how many epochs are stored already, of a run that was interrupted.
        folder: for files of the training's own, such as checkpoints; a trial that was killed finds them there again.
        log: the trial's log, where what it prints goes, too.
        check: stops the training here, by an exception, where that was asked for.
    """

    learning_rate: float
    epsilon: float | None
    seed: int
    epochs: int
    reported: int
    folder: Path
    log: TextIO
    check: Callable[[], None]
    on_report: Callable[[float, int | None], None]

    def report(self, score: Any, epoch: int | None = None) -> None:
        """Store the validation score of an epoch, for curves and pruning; may stop the training as `check`.

        `epoch` counts from 0; left out, it is the one after that of the last call. A training that goes on from its own
        checkpoint names it, and what was reported of this epoch and later ones before is replaced.
        """
        self.on_report(number(score, "trial.report: the score"), epoch)


def number(value: Any, what: str) -> float:
    """Return a number of Python, NumPy or torch as a float, which may be NaN; a SpecError for anything else."""
    try:
        if isinstance(value, str | bytes):
            raise TypeError("text")
        return float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise SpecError(f"{what} must be a number, got {type(value).__name__} {str(value)[:60]!r}") from error


def scores_of(returned: Any, what: str) -> tuple[float, float | None]:
    """Return the validation and the test score of what a training returned; None where it took no test score."""
    if not isinstance(returned, Mapping):
        return number(returned, f"the score that {what} returns"), None
    if "validation" not in returned or (unknown := returned.keys() - {"validation", "test"}):
        named = ", ".join(map(repr, unknown if "validation" in returned else returned)) or "nothing"
        raise SpecError(
            f"{what} must return a score, or a mapping of 'validation' and, if you like, 'test'; got {named}"
        )
    test = returned.get("test")
    return number(returned["validation"], f"{what}: 'validation'"), None if test is None else number(
        test, f"{what}: 'test'"
    )


def is_diverged(scores: tuple[float, float | None]) -> bool:
    """Return whether a score is no finite number."""
    return not all(math.isfinite(score) for score in scores if score is not None)
