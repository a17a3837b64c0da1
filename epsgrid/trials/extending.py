"""Which state of a shorter training a longer one passes through, so that more epochs cost only what is new.

Two trials that differ in nothing but their length take the same steps for as long as their learning rates are the same:
all randomness comes from (seed, epoch, step). Milestones are fractions of the epochs, so that they move with the
length, unless the longer training names others that fall on the same epochs. `average_last` is the other thing that
looks at the end: a longer training that averages epochs which the shorter one has left behind cannot do with its last
state alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from epsgrid.spec.model import Training
from epsgrid.trials.schedule import learning_rate_at


def shared_epochs(shorter: Training, longer: Training) -> int:
    """Return how many epochs, from the first on, two trainings train alike; 0 where more than the length differs.

    >>> shared_epochs(Training(epochs=200), Training(epochs=300))
    150
    """
    if _apart_from_length(shorter) != _apart_from_length(longer):
        return 0
    epochs = min(shorter.epochs, longer.epochs)
    if shorter.schedule.kind != "step":
        return epochs  # it goes by steps, whatever the length
    is_same = (_factor(shorter, epoch) == _factor(longer, epoch) for epoch in range(epochs))
    return next((epoch for epoch, same in enumerate(is_same) if not same), epochs)


def goes_on(shorter: Training, longer: Training, epoch: int, step: int = 0) -> bool:
    """Say whether the longer training passes through a state of the shorter one.

    Args:
        shorter: a training that differs in its epochs, and at most in its milestones besides.
        longer: the other.
        epoch: whole epochs done.
        step: steps done in the next one.
    """
    if epoch + (step > 0) > shared_epochs(shorter, longer):
        return False
    return not longer.average_last or longer.epochs - longer.average_last >= epoch


def extends(shorter: Training, longer: Training) -> bool:
    """Say whether one training asks for the other and more epochs; other milestones only where they fall as before."""
    if longer.epochs <= shorter.epochs or _apart_from_length(shorter) != _apart_from_length(longer):
        return False
    same_milestones = shorter.schedule.milestones == longer.schedule.milestones
    return same_milestones or shared_epochs(shorter, longer) == shorter.epochs


def longest_first(earlier: Sequence[Mapping[str, Any]], training: Training) -> list[tuple[Mapping[str, Any], Training]]:
    """Return earlier trainings that begin as a longer one does, as stored and as typed."""
    typed = [(settings, Training.model_validate(settings)) for settings in earlier]
    shorter = [pair for pair in typed if pair[1].epochs < training.epochs and shared_epochs(pair[1], training)]
    return sorted(shorter, key=lambda pair: -pair[1].epochs)


def why_anew(shorter: Training, longer: Training) -> str | None:
    """Say why a longer training cannot go on from the end of a shorter one; None where it can."""
    if goes_on(shorter, longer, shorter.epochs):
        return None
    shared = shared_epochs(shorter, longer)
    if shared == shorter.epochs:
        return "epochs trained before are among those whose weights are averaged in the end, and were not kept apart"
    kept = [_floor(milestone * shorter.epochs / longer.epochs) for milestone in shorter.schedule.milestones]
    return (
        f"the learning rate of epoch {shared + 1} is another, since milestones are fractions of the epochs; with"
        f" training.schedule.milestones=[{', '.join(f'{milestone:g}' for milestone in kept)}] it would be the same"
    )


def _apart_from_length(training: Training) -> Training:
    schedule = training.schedule.model_copy(update={"milestones": ()})
    return training.model_copy(update={"epochs": 1, "schedule": schedule})


def _factor(training: Training, epoch: int) -> float:
    return learning_rate_at(1.0, training.schedule, epoch, training.epochs)


def _floor(fraction: float) -> float:
    """Round down to six digits: a milestone that lies a little before an epoch falls on it, one behind does not."""
    return math.floor(fraction * 1e6 + 1e-6) / 1e6
