"""The probes of a spec: the one that sets the bounds, and those that show how far they can be trusted.

`epsgrid.observing.probing` probes any model and optimizer; here it is given those of a spec, and the task's batches in
the order and with the random numbers that a trial of the probe's seed has in its first epoch.

Other seeds, and moving weights where frozen ones set the bounds, are probed with as many steps, and only compared.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from epsgrid import optimizers
from epsgrid.numerics.bounds import EpsilonBounds, VariantKind
from epsgrid.numerics.series import Series
from epsgrid.observing.adapters import from_plugin
from epsgrid.observing.probing import Probing
from epsgrid.spec.model import Spec
from epsgrid.tasks import Task
from epsgrid.trials.building import build_model, build_optimizer, seed_epoch, set_learning_rate
from epsgrid.trials.device import keep_freed_memory

_FROZEN_RATE = 1e-3
"""The learning rate where weights are put back after each step; a rule may skip parameters at a rate of 0."""

_STORED_SNAPSHOTS = 64
"""Snapshots of a probe that are stored where the spec does not say how many."""


@dataclass(frozen=True)
class _ProbeOutcome:
    """The result of a probe, with snapshots over its steps; `seconds` are those of all probes together."""

    bounds: EpsilonBounds
    series: Series
    steps: int
    seconds: float


class _Plan(NamedTuple):
    """One probe of several: its seed, the rate at which weights move (None: frozen), and what it is compared as."""

    seed: int
    rate: float | None
    kind: VariantKind = "seed"
    label: str = ""


def run_probe(
    spec: Spec, task: Task, device: torch.device, on_step: Callable[[int, int], None] = lambda step, steps: None
) -> _ProbeOutcome:
    """Probe a spec: draw the model's initial weights, accumulate v over the first epoch, measure, estimate, judge.

    Args:
        spec: the experiment's spec.
        task: the spec's task, bound to its data on `device`.
        device: where to run.
        on_step: called as `on_step(done, of)` after every step, over all probes; `of` falls where bounds settle early.

    Raises:
        NoBoundsError: the optimizer has no ε, or no layer could be measured.
        ObservationError: bounds are asked to settle at a tail fraction that is not followed.
    """
    optimizers.require_epsilon(spec.optimizer.name)
    keep_freed_memory()
    start = time.perf_counter()
    probe, batch_size = spec.probe, spec.training.batch_size
    rate, moving = probe.learning_rate if probe.update_weights else None, probe.compare_weights
    main = _Plan(probe.seed, rate)
    seeds = (probe.seed + number for number in range(1, probe.seeds))
    others = [_Plan(seed, rate, "seed", f"seed {seed}") for seed in seeds]
    if moving is not None:
        others.append(_Plan(probe.seed, moving, "weights", f"moving at lr {moving:g}"))
    limit = sum(task.steps_per_epoch(batch_size, probe.seed, epoch) for epoch in range(probe.epochs))
    limit = min(limit, probe.batches) if isinstance(probe.batches, int) else limit
    done, variants, without_noise = 0, [], []

    def count(_steps_of_this_probe: int) -> None:
        nonlocal done
        done += 1
        on_step(done, limit * (1 + len(others)))

    with _probing(spec, task, device, main, is_main=True) as probing:
        batches = _batches(spec, task, probing, main, limit)
        probing.run(batches, count, stop_when_settled=probe.batches == "settled")
        limit = probing.steps  # the others take as many
        for plan in others:
            with _probing(spec, task, device, plan) as other:
                other.run(_batches(spec, task, other, plan, limit), count)
                variants += other.variant(plan.kind, plan.label)
                without_noise += other.variant(plan.kind, plan.label, leave_out=probing.noisy)
        bounds = probing.bounds(variants, without_noise)
        series = probing.series()
    kept = series if probe.every is not None else series.thinned(_STORED_SNAPSHOTS)
    return _ProbeOutcome(bounds, kept, probing.steps, time.perf_counter() - start)


def _probing(spec: Spec, task: Task, device: torch.device, plan: _Plan, *, is_main: bool = False) -> Probing:
    """Build model and optimizer for a probe."""
    training, probe = spec.training, spec.probe
    plugin = optimizers.load(spec.optimizer.name)
    model = build_model(spec, task, plan.seed, device)
    rate = _FROZEN_RATE if plan.rate is None else plan.rate
    optimizer = build_optimizer(spec, model, rate, optimizers.probing_epsilon(plugin))

    def loss(model: torch.nn.Module, batch: Any) -> torch.Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=training.precision == "bfloat16"):
            return task.loss(model, batch)

    return Probing(
        model,
        optimizer,
        loss,
        clip_norm=training.clip_norm,
        tail_fraction=probe.tail_fraction,
        update_weights=plan.rate is not None,
        check_rounding=probe.check_rounding and is_main,
        leave_out=probe.leave_out,
        every=probe.every or 1,
        adapter=from_plugin(plugin, spec.optimizer),
    )


def _batches(spec: Spec, task: Task, probing: Probing, plan: _Plan, limit: int) -> Iterator[tuple[Any]]:
    """Yield the batches of the first epochs, with the random numbers and learning rates of a trial of the seed."""
    batch_size, given = spec.training.batch_size, 0
    for epoch in range(spec.probe.epochs):
        seed_epoch(plan.seed, epoch)
        task.begin_epoch(probing.model, batch_size)
        for batch in task.batches(plan.seed, epoch, batch_size):
            if given == limit:
                return
            given += 1
            rate = _FROZEN_RATE if plan.rate is None else plan.rate
            set_learning_rate(probing.optimizer, rate * task.learning_rate_scale(batch))
            yield (batch,)
