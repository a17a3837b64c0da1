"""The learning rate of each epoch."""

from __future__ import annotations

from epsgrid.spec.model import Schedule


def learning_rate_at(base: float, schedule: Schedule, epoch: int, epochs: int) -> float:
    """Return the learning rate of an epoch.

    Args:
        base: learning rate of the first epoch.
        schedule: milestones as fractions of `epochs`, and the factor applied at each.
        epoch: counted from 0.
        epochs: length of the whole run.

    Returns:
        `base` times the factor once for every milestone reached. With the published ×0.1 at 150 of 200, epoch 149
        still has the base rate and epoch 150 a tenth of it.

    >>> learning_rate_at(1.0, Schedule(), 149, 200), learning_rate_at(1.0, Schedule(), 150, 200)
    (1.0, 0.1)
    """
    reached = sum(epoch >= milestone * epochs - 1e-9 for milestone in schedule.milestones)
    return float(base * schedule.factor**reached)
