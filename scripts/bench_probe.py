"""Measure what a probe costs, side by side with training: run on demand, never by the tests.

    python scripts/bench_probe.py experiments/demo.yaml --batches 50 --rounds 5

For one spec and the same batches it times, in turn and several times over: a training epoch's steps, the steps of a
probe with the copies that it makes first, and the bounds at its end. It also times `epsgrid --help` as a whole process.
Medians with the least and greatest of the rounds are printed.
"""

from __future__ import annotations

import argparse
import itertools
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from epsgrid import models, optimizers, tasks
from epsgrid.observing.adapters import from_plugin
from epsgrid.observing.probing import Probing
from epsgrid.spec.loading import load_spec
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
        "training steps": run.train,
        "copies and probe steps": run.probe,
        "the probe's bounds": run.bounds,
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
        self.probing: Probing | None = None

    def train(self) -> None:
        """Take the steps with a fresh optimizer."""
        optimizer = self.optimizer()
        for batch in self.some_batches(self.model):
            optimizer.zero_grad(set_to_none=True)
            self.task.loss(self.model, batch).backward()
            optimizer.step()

    def probe(self) -> None:
        """Take the steps of a probe."""
        adapter = from_plugin(self.plugin, self.spec.optimizer)
        self.probing = Probing(self.model, self.optimizer(), self.task.loss, check_rounding=False, adapter=adapter)
        with self.probing:
            for batch in self.some_batches(self.probing.model):
                self.probing.step(batch)

    def bounds(self) -> None:
        """Measure histograms and exact order statistics of every layer."""
        assert self.probing is not None
        self.probing.bounds()

    def optimizer(self) -> torch.optim.Optimizer:
        """Return the spec's optimizer at the probing epsilon."""
        epsilon = optimizers.probing_epsilon(self.plugin)
        return self.plugin.build(self.model.parameters(), self.spec.optimizer, 1e-3, epsilon)

    def some_batches(self, model: torch.nn.Module) -> Iterator[Any]:
        """Yield the batches that are timed."""
        batch_size = self.spec.training.batch_size
        self.task.begin_epoch(model, batch_size)
        return itertools.islice(self.task.batches(0, 0, batch_size), self.batches)


if __name__ == "__main__":
    main()
