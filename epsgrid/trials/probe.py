"""The probes of a spec: the one that sets the bounds, and those that show how far they can be trusted.

`epsgrid.observing.probing` probes any model and optimizer; here it is given those of a spec, and the task's batches in
the order and with the random numbers that a trial of the probe's seed has in its first epoch.

Other seeds, and moving weights where frozen ones set the bounds, are probed with as many steps, and only compared.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from epsgrid import optimizers
from epsgrid.numerics.bounds import EpsilonBounds, Variant, VariantKind
from epsgrid.numerics.series import Series
from epsgrid.observing.adapters import from_plugin
from epsgrid.observing.probing import Probing
from epsgrid.spec.model import Spec
from epsgrid.tasks import Task
from epsgrid.trials.building import build_model, seed_epoch
from epsgrid.trials.device import keep_freed_memory

_FROZEN_RATE = 1e-3
"""The learning rate where weights are put back after each step; a rule may skip parameters at a rate of 0."""

STORED_SNAPSHOTS = 64
"""Snapshots of a probe that are stored where the spec does not say how many."""


@dataclass(frozen=True)
class ProbeOutcome:
    """The result of a probe and its cost.

    Attributes:
        bounds: the estimate, with every layer's histogram and with its reliability.
        series: snapshots over the steps.
        steps: gradients accumulated for the bounds.
        seconds: wall time, of all probes together.
    """

    bounds: EpsilonBounds
    series: Series
    steps: int
    seconds: float


@dataclass(frozen=True)
class _Plan:
    """One probe of several.

    Attributes:
        seed: of the initial weights and of the batches.
        rate: the learning rate at which the weights move; None where they are frozen.
        kind: of the comparison; None for the probe that sets the bounds.
        label: of the comparison.
    """

    seed: int
    rate: float | None
    kind: VariantKind | None = None
    label: str = ""


def run_probe(
    spec: Spec, task: Task, device: torch.device, on_step: Callable[[int, int], None] = lambda step, steps: None
) -> ProbeOutcome:
    """Probe a spec: draw the model's initial weights, accumulate v over the first epoch, measure, estimate, judge.

    Args:
        spec: the experiment's spec.
        task: the spec's task, bound to its data on `device`.
        device: where to run.
        on_step: called as `on_step(done, of)` after every step, over all probes; `of` falls where the bounds settle
            early.

    Raises:
        NoBoundsError: the optimizer has no ε, or no layer could be measured.
        ObservationError: bounds are asked to settle at a tail fraction that is not followed, or `beta2` of an
            optimizer that has none.
    """
    optimizers.require_epsilon(spec.optimizer.name)
    keep_freed_memory()
    start = time.perf_counter()
    limit, main, *others = _steps(spec, task), *_plans(spec)
    progress = _Progress(on_step, limit, 1 + len(others))
    with _probing(spec, task, device, main) as probing:
        batches = _batches(spec, task, probing, main, limit)
        probing.run(batches, progress.step, stop_when_settled=spec.probe.batches == "settled")
        progress.settle(probing.steps)
        variants = [_compare(spec, task, device, plan, probing.steps, progress) for plan in others]
        bounds = probing.bounds([variant for variant in variants if variant is not None])
        series = probing.series()
    kept = series if spec.probe.every is not None else series.thinned(STORED_SNAPSHOTS)
    return ProbeOutcome(bounds, kept, probing.steps, time.perf_counter() - start)


def _plans(spec: Spec) -> list[_Plan]:
    """Return all probes of a spec, the one that sets the bounds first."""
    probe = spec.probe
    rate = probe.learning_rate if probe.update_weights else None
    plans = [_Plan(probe.seed, rate)]
    plans += [_Plan(probe.seed + n, rate, "seed", f"seed {probe.seed + n}") for n in range(1, probe.seeds)]
    if probe.compare_weights is not None:
        moving = probe.compare_weights
        plans.append(_Plan(probe.seed, moving, "weights", f"moving at lr {moving:g}"))
    return plans


def _steps(spec: Spec, task: Task) -> int:
    """Return the most steps of one probe."""
    probe, batch_size = spec.probe, spec.training.batch_size
    steps = sum(task.steps_per_epoch(batch_size, probe.seed, epoch) for epoch in range(probe.epochs))
    return min(steps, probe.batches) if isinstance(probe.batches, int) else steps


class _Progress:
    """Steps done over all probes, of those still expected."""

    def __init__(self, on_step: Callable[[int, int], None], steps: int, probes: int) -> None:
        self._on_step, self._done, self._steps, self._probes = on_step, 0, steps, probes

    def step(self, _steps_of_this_probe: int) -> None:
        self._done += 1
        self._on_step(self._done, self._steps * self._probes)

    def settle(self, steps: int) -> None:
        """Set how many steps the first probe took: the others take as many."""
        self._steps = steps


def _probing(spec: Spec, task: Task, device: torch.device, plan: _Plan) -> Probing:
    """Build model and optimizer for a probe."""
    training, probe = spec.training, spec.probe
    plugin = optimizers.load(spec.optimizer.name)
    model = build_model(spec, task, plan.seed, device)
    rate = _FROZEN_RATE if plan.rate is None else plan.rate
    optimizer = plugin.build(model.parameters(), spec.optimizer, rate, optimizers.probing_epsilon(plugin))

    def loss(model: torch.nn.Module, batch: Any) -> torch.Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=training.precision == "bfloat16"):
            return task.loss(model, batch)

    is_main = plan.kind is None
    return Probing(
        model,
        optimizer,
        loss,
        clip_norm=training.clip_norm,
        tail_fraction=probe.tail_fraction,
        update_weights=plan.rate is not None,
        check_rounding=probe.check_rounding and is_main,
        betas=probe.beta2 if is_main else (),
        every=probe.every or 1,
        adapter=from_plugin(plugin, spec.optimizer),
    )


def _batches(spec: Spec, task: Task, probing: Probing, plan: _Plan, limit: int) -> Iterator[tuple[Any]]:
    """Yield the batches of the first epochs, one for each step, as a trial of the seed sees them.

    It sets the random numbers of an epoch when it begins, and the learning rate of a step before its batch is used.
    """
    batch_size, given = spec.training.batch_size, 0
    for epoch in range(spec.probe.epochs):
        seed_epoch(plan.seed, epoch)
        task.begin_epoch(probing.model, batch_size)
        for batch in task.batches(plan.seed, epoch, batch_size):
            if given == limit:
                return
            given += 1
            for group in probing.optimizer.param_groups:
                group["lr"] = (_FROZEN_RATE if plan.rate is None else plan.rate) * task.learning_rate_scale(batch)
            yield (batch,)


def _compare(
    spec: Spec, task: Task, device: torch.device, plan: _Plan, steps: int, progress: _Progress
) -> Variant | None:
    """Return the bounds of another probe; None where none of its layers could be measured."""
    assert plan.kind is not None
    with _probing(spec, task, device, plan) as probing:
        probing.run(_batches(spec, task, probing, plan, steps), progress.step)
        return probing.variant(plan.kind, plan.label)
