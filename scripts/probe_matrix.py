"""Probe every optimizer on several specs and print a table: run on demand, never by the tests.

    python scripts/probe_matrix.py experiments/paper/cifar10-mlp-adam.yaml experiments/paper/ptb-1layer-adam.yaml

Each spec is probed with every optimizer that has an ε, at that optimizer's defaults but with the spec's weight decay,
on the first batches of the epoch. A few batches are no substitute for the whole epoch: the table shows that all pairs
work, and how the same gradients become different ε. Bounds are given in units of √v̂, then as the decades of the
optimizer's ε.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from epsgrid import optimizers, plugins, tasks
from epsgrid.numerics.bounds import EpsilonBounds
from epsgrid.spec.loading import load_spec
from epsgrid.spec.model import Spec
from epsgrid.trials.probe import run_probe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("specs", type=Path, nargs="+")
    parser.add_argument("--batches", type=int, default=3)
    parser.add_argument("--batch-size", type=int, help="instead of the spec's")
    arguments = parser.parse_args()
    print("| spec | optimizer | low (√v̂) | high (√v̂) | ε decades | set by | seconds |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for path in arguments.specs:
        overrides = [f"probe.batches={arguments.batches}"]
        if arguments.batch_size:
            overrides.append(f"training.batch_size={arguments.batch_size}")
        probe_all(path, overrides)


def probe_all(path: Path, overrides: list[str]) -> None:
    """Probe one spec with every optimizer and print a row for each."""
    spec = load_spec(path, overrides)
    device = torch.device("cpu")
    plugin = tasks.load(spec.task.name)
    task = plugin.build(spec.task, plugin.prepare(spec.task), device)
    decay = spec.optimizer.model_dump().get("weight_decay", 0.0)
    for name in plugins.names("optimizers"):
        if optimizers.load(name).DEFAULT_EPSILON is None:
            continue
        start = time.perf_counter()
        changed: Spec = load_spec(path, [*overrides, f"optimizer={{name: {name}, weight_decay: {decay!r}}}"])
        bounds = run_probe(changed, task, device).bounds
        print(f"| {path.stem} | {name} | {row(bounds)} | {time.perf_counter() - start:.0f} |", flush=True)


def row(bounds: EpsilonBounds) -> str:
    """Return the cells that tell the bounds."""
    low, high = bounds.low, bounds.high
    decades = f"{low.decade:.0e} … {high.decade:.0e}"
    return f"{low.magnitude:.2e} | {high.magnitude:.2e} | {decades} | {low.layers[0]}; {high.layers[0]}"


if __name__ == "__main__":
    main()
