"""The probe's run: one epoch of gradients through the real optimizer, weights frozen, then one look at its state.

The published method (arXiv 2311.11532 and its research code) accumulates v over the first epoch without moving the
weights: every gradient is taken at the random initialisation, in training mode, with coupled weight decay added as the
optimizer sees it. Here the real optimizer runs with learning rate 0, so no optimizer is written twice.
"""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from epsgrid import models, optimizers
from epsgrid.numerics.bounds import EpsilonBounds, estimate_bounds
from epsgrid.observing.reading import measure_layers
from epsgrid.spec.model import Spec
from epsgrid.tasks import Task
from epsgrid.trials.checkpoint import generator_states, restore_generators
from epsgrid.trials.seeding import seed_epoch, seed_weights
from epsgrid.trials.step import take_step


@dataclass(frozen=True)
class ProbeOutcome:
    """What a probe found and what it cost.

    Attributes:
        bounds: the estimate, with every layer's histogram.
        steps: gradients accumulated.
        seconds: wall time.
    """

    bounds: EpsilonBounds
    steps: int
    seconds: float


def run_probe(
    spec: Spec, task: Task, device: torch.device, on_step: Callable[[int, int], None] = lambda step, steps: None
) -> ProbeOutcome:
    """Probe a spec: draw the model's initial weights, accumulate v over the first epoch, measure, estimate.

    Args:
        spec: the experiment's spec.
        task: the spec's task, bound to its data on `device`.
        device: where to run.
        on_step: called as `on_step(done, of)` after every step.

    Raises:
        NoBoundsError: the optimizer has no ε, or no layer could be measured.
    """
    plugin = optimizers.require_epsilon(spec.optimizer.name)
    start = time.perf_counter()
    seed_weights(spec.probe.seed)
    model = models.load(spec.model.name).build(spec.model, task.inputs, task.outputs).to(device)
    epsilon = optimizers.probing_epsilon(plugin)
    task.begin_epoch(model, spec.training.batch_size)
    optimizer = plugin.build(model.parameters(), spec.optimizer, spec.probe.learning_rate or 0.0, epsilon)
    with left_as_found(model, device):
        steps = _accumulate(spec, task, model, optimizer, on_step)
        layers = measure_layers(optimizer, model.named_parameters(), plugin, spec.probe.tail_fraction)
    placement = plugin.placement(spec.optimizer, steps)
    bounds = estimate_bounds(layers, placement, spec.probe.tail_fraction)
    return ProbeOutcome(bounds, steps, time.perf_counter() - start)


@contextmanager
def left_as_found(model: torch.nn.Module, device: torch.device) -> Iterator[None]:
    """Put weights, buffers, gradients, training mode and torch's global generators back afterwards."""
    weights = copy.deepcopy(model.state_dict())
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    modes = {name: module.training for name, module in model.named_modules()}
    generators = generator_states(device)
    try:
        yield
    finally:
        model.load_state_dict(weights)
        for name, parameter in model.named_parameters():
            parameter.grad = gradients[name]
        for name, module in model.named_modules():
            module.training = modes[name]
        restore_generators(generators, device)


def _accumulate(
    spec: Spec,
    task: Task,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    on_step: Callable[[int, int], None],
) -> int:
    """Run the optimizer over the probe's batches, as `spec.probe` says; return the number of steps."""
    probe, batch_size = spec.probe, spec.training.batch_size
    in_epochs = [task.steps_per_epoch(batch_size, probe.seed, epoch) for epoch in range(probe.epochs)]
    steps = min(sum(in_epochs), probe.batches or sum(in_epochs))
    model.train()
    done = 0
    for epoch in range(probe.epochs):
        seed_epoch(probe.seed, epoch)
        task.begin_epoch(model, batch_size)
        for batch in itertools.islice(task.batches(probe.seed, epoch, batch_size), steps - done):
            for group in optimizer.param_groups:
                group["lr"] = (probe.learning_rate or 0.0) * task.learning_rate_scale(batch)
            take_step(task, model, optimizer, batch, spec.training)
            done += 1
            on_step(done, steps)
    return done
