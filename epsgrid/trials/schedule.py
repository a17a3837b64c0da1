"""The learning rate of every step of a training.

`constant`, `linear`, `cosine` and `one_cycle` are computed by torch's own schedulers, stepped on an optimizer that
trains nothing, so that each step has the very rate that they give. A warm-up of w steps comes before: the first has 1/w
of the highest rate, the last all of it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch.optim import lr_scheduler as schedulers

from epsgrid.spec.model import Schedule


def learning_rates(schedule: Schedule, highest: float, epochs: int, steps_in: Callable[[int], int]) -> Iterator[float]:
    """Yield the learning rate of each step; `steps_in` returns the steps of an epoch, counted from 0.

    Step schedule: `highest` times the factor once for every milestone reached. Inverse root (fairseq's recipe):
    `highest` · min(t / w, √(w / t)) at step t = 1, 2, … with a warm-up of w steps.

    >>> [*learning_rates(Schedule(milestones=(0.5,)), 1.0, 2, lambda epoch: 2)]
    [1.0, 1.0, 0.1, 0.1]
    """
    warmup = schedule.warmup_steps or 0
    if schedule.warmup is not None or schedule.kind not in ("step", "inverse_sqrt"):
        total = sum(map(steps_in, range(epochs)))
        warmup = warmup or round((schedule.warmup or 0) * total)
    if schedule.kind not in ("step", "inverse_sqrt"):
        yield from _of_torch(schedule, highest, total, warmup)
        return
    steps = itertools.count(1)
    for epoch in range(epochs):
        reached = sum(epoch >= milestone * epochs - 1e-9 for milestone in schedule.milestones)
        for now in itertools.islice(steps, steps_in(epoch)):
            if schedule.kind == "inverse_sqrt":
                yield float(highest * min(now / warmup, (warmup / now) ** 0.5))
            else:
                yield float(highest * schedule.factor**reached) * (min(now / warmup, 1.0) if warmup else 1.0)


def _of_torch(schedule: Schedule, highest: float, total: int, warmup: int) -> Iterator[float]:
    final, left = schedule.final or 0.0, max(0, total - warmup)
    if schedule.kind == "one_cycle":
        first = 25.0  # torch's, as all that is not given here
        share, last = schedule.warmup or warmup / total, 1 / (first * final) if final else math.inf
        cycle = partial(
            schedulers.OneCycleLR,
            max_lr=highest,
            total_steps=total,
            pct_start=share,
            div_factor=first,
            final_div_factor=last,
            cycle_momentum=False,
        )
        yield from _stepped(cycle, highest, total)
        return
    if warmup:
        rise = partial(schedulers.LinearLR, start_factor=1 / warmup, total_iters=warmup - 1)
        yield from _stepped(rise, highest, min(warmup, total))
    decays: dict[str, Callable[..., schedulers.LRScheduler]] = {
        "constant": partial(schedulers.ConstantLR, factor=1.0),
        "linear": partial(schedulers.LinearLR, start_factor=1.0, end_factor=final, total_iters=left),
        "cosine": partial(schedulers.CosineAnnealingLR, T_max=left, eta_min=final * highest),
    }
    yield from _stepped(decays[schedule.kind], highest, left)


def _stepped(scheduler: Callable[..., schedulers.LRScheduler], rate: float, count: int) -> Iterator[float]:
    """Yield the first `count` learning rates of one of torch's schedulers."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], rate)
    following = scheduler(optimizer) if count else None
    for number in range(count):
        if number and following is not None:
            optimizer.step()
            following.step()
        yield float(optimizer.param_groups[0]["lr"])
