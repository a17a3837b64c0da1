"""The learning rate of each step."""

from __future__ import annotations

from epsgrid.spec.model import Schedule


def learning_rate_at(base: float, schedule: Schedule, epoch: int, epochs: int, step: int = 0) -> float:
    """Return the learning rate of a step.

    Args:
        base: for a step schedule the rate of the first epoch; for an inverse root the highest one, after the warm-up.
        schedule: which rule, with its settings.
        epoch: counted from 0.
        epochs: length of the whole run.
        step: number of optimizer steps taken before, over all epochs.

    Returns:
        Step schedule: `base` times the factor once for every milestone reached; with the published ×0.1 at 150 of 200,
        epoch 149 still has the base rate and epoch 150 a tenth of it. Inverse root (fairseq's recipe, warm-up from 0):
        `base` · min(t / w, √(w / t)) at step t = 1, 2, … with a warm-up of w steps.

    >>> learning_rate_at(1.0, Schedule(), 149, 200), learning_rate_at(1.0, Schedule(), 150, 200)
    (1.0, 0.1)
    """
    if schedule.kind == "inverse_sqrt":
        now, warmup = step + 1, schedule.warmup_steps
        assert warmup is not None
        return float(base * min(now / warmup, (warmup / now) ** 0.5))
    reached = sum(epoch >= milestone * epochs - 1e-9 for milestone in schedule.milestones)
    return float(base * schedule.factor**reached)
