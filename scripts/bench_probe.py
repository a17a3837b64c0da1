"""Measure what a probe costs, side by side with training: run on demand, never by the tests.

    python scripts/bench_probe.py experiments/demo.yaml --batches 50 --rounds 5

For one spec and the same batches it times, in turn and several times over: a training epoch's steps at learning rate
1e-3, the probe's steps (the same optimizer at learning rate 0), and the probe's one look at the state at the end. It
also times `epsgrid --help` as a whole process. Medians with the least and greatest of the rounds are printed.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from epsgrid import models, optimizers, tasks
from epsgrid.observing.adapters import from_plugin
from epsgrid.observing.layers import named_layers
from epsgrid.observing.reading import measure_layers
from epsgrid.spec import load_spec
from epsgrid.trials.building import seed_weights
from epsgrid.trials.device import resolve_device


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec", type=Path)
    parser.add_argument("--batches", type=int, default=20, help="steps per round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    run = Run(arguments.spec, arguments.batches)
    print(f"{platform.processor() or platform.machine()}, {arguments.threads} threads, torch {torch.__version__}")
    print(
        f"{arguments.spec}: {arguments.batches} batches, {arguments.rounds} rounds; seconds: median (least … greatest)"
    )
    timed: dict[str, Callable[[], object]] = {
        "training steps": lambda: run.steps(1e-3),
        "probe steps": lambda: run.steps(0.0),
        "probe's look at the state": run.look,
        "epsgrid --help (whole process)": lambda: subprocess.run(
            [sys.executable, "-m", "epsgrid", "--help"], check=True, stdout=subprocess.DEVNULL
        ),
    }
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for round_number in range(arguments.rounds + 1):
        for name, call in timed.items():
            start = time.perf_counter()
            call()
            if round_number > 0:  # the first round warms up
                seconds[name].append(time.perf_counter() - start)
    for name, values in seconds.items():
        print(f"  {name:32} {statistics.median(values):8.4f} ({min(values):.4f} … {max(values):.4f})")


class Run:
    """The spec's model, optimizer and batches, ready to be stepped."""

    def __init__(self, path: Path, batches: int) -> None:
        self.spec = load_spec(path)
        device = resolve_device(self.spec.execution.device)
        plugin = tasks.load(self.spec.task.name)
        self.task = plugin.build(self.spec.task, plugin.prepare(self.spec.task), device)
        seed_weights(0)
        self.model = (
            models.load(self.spec.model.name).build(self.spec.model, self.task.inputs, self.task.outputs).to(device)
        )
        self.plugin = optimizers.load(self.spec.optimizer.name)
        self.batches = batches
        self.optimizer: torch.optim.Optimizer | None = None

    def steps(self, learning_rate: float) -> None:
        """Take the steps at one learning rate, with a fresh optimizer."""
        parameters = self.model.parameters()
        epsilon = optimizers.probing_epsilon(self.plugin)
        self.optimizer = self.plugin.build(parameters, self.spec.optimizer, learning_rate, epsilon)
        self.task.begin_epoch(self.model, self.spec.training.batch_size)
        for _, batch in zip(range(self.batches), self.task.batches(0, 0, self.spec.training.batch_size), strict=False):
            self.optimizer.zero_grad(set_to_none=True)
            self.task.loss(self.model, batch).backward()
            self.optimizer.step()

    def look(self) -> None:
        """Measure histograms and exact order statistics of every layer."""
        assert self.optimizer is not None
        layers = named_layers(self.optimizer, model=self.model)
        adapter = from_plugin(self.plugin, self.spec.optimizer)
        measure_layers(self.optimizer, layers, adapter, self.spec.probe.tail_fraction)


if __name__ == "__main__":
    main()
