"""Measure what histograms of every layer at every step cost, as a share of a training step: run on demand.

    python scripts/bench_observe.py --models mlp vgg11 lstm --seconds 60
    python scripts/bench_observe.py --models vgg11 --device cuda

Trained, on random data and one thread, or on a CUDA device, are

    mlp      784-256-10, batch 128
    vgg11    VGG11 for CIFAR-10, batch 128
    lstm     two layers of 650, 10,000 words, 19.8 million parameters, 20 columns of 35 words

all with torch's Adam as it is built by default. Each way to look at √v̂ of all layers is timed after every training step
(forward, backward, optimizer) of a stretch of training, so that caches are as warm or cold as they are in training with
that way. Ways take turns by the tenth of a second, or by the step where one takes longer, so that other load on the
machine hits them alike, and a way that has used up its share of the time is left out of later rounds. What is measured
is the processor time of the process, without what it waits for its turn on a busy machine; what load adds to it, by
emptying caches, is least in the least times, of which the shares are those. On a CUDA device it is the time until the
device has done what was asked of it. "One read of v" is the limit that no way can pass.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

import epsgrid
from epsgrid import models
from epsgrid.models.lstm import Options as LstmOptions
from epsgrid.models.mlp import Options as MlpOptions
from epsgrid.models.vgg11 import Options as VggOptions
from epsgrid.numerics import tables
from epsgrid.numerics.series import FRACTIONS
from epsgrid.numerics.tables import Counter
from epsgrid.trials.device import place

STEP = "a training step"
OBSERVER = "observer, every=1"
LOOK = "a look of the alarm (one step in 20, then fewer)"
COUNTER = "counter: tables, percentiles, totals"
PLAIN = "the same in plain torch"
HISTC = "log10 + torch.histc"
SORT = "sqrt + torch.sort (as published)"
READ = "one read of v (sum)"
ADAM = "the optimizer's step itself, fused"
WORDS, COLUMNS, LENGTH = 10_000, 20, 35
STRETCH_S = 0.1


@dataclass(frozen=True)
class Training:
    """A model, what trains it, and its loss on a batch."""

    name: str
    model: torch.nn.Module
    loss: Callable[[], torch.Tensor]


def classifier(name: str, options: Any, shape: tuple[int, ...], device: torch.device) -> Training:
    model = place(models.load(name).build(options, shape, 10), device)
    inputs, labels = torch.randn(128, *shape, device=device), torch.randint(10, (128,), device=device)
    return Training(name, model, lambda: functional.cross_entropy(model(inputs), labels))


def language_model(device: torch.device) -> Training:
    model: Any = models.load("lstm").build(LstmOptions(name="lstm", embedding=650, hidden=650), (), WORDS).to(device)
    tokens = torch.randint(WORDS, (LENGTH + 1, COLUMNS), device=device)
    state = model.carried.zeros(COLUMNS)

    def loss() -> torch.Tensor:
        logits = model(tokens[:-1], state).logits
        return functional.cross_entropy(logits.flatten(0, 1), tokens[1:].flatten())

    return Training("lstm", model, loss)


TRAININGS: dict[str, Callable[[torch.device], Training]] = {
    "mlp": lambda device: classifier("mlp", MlpOptions(name="mlp", hidden=(256,)), (1, 28, 28), device),
    "vgg11": lambda device: classifier("vgg11", VggOptions(name="vgg11"), (3, 32, 32), device),
    "lstm": language_model,
}


@contextmanager
def plain_torch() -> Iterator[None]:
    """Count as on a machine without numba."""
    kernel = tables._kernel
    tables._kernel = lambda: None  # type: ignore[assignment]
    try:
        yield
    finally:
        tables._kernel = kernel


def full_count(counter: Counter, values: list[torch.Tensor]) -> None:
    counted = counter.count(values)
    counted.quantile_bins()
    counted.totals()


def plain_count(counter: Counter, values: list[torch.Tensor]) -> None:
    with plain_torch():
        full_count(counter, values)


def ways_to_look(training: Training, optimizer: torch.optim.Optimizer) -> dict[str, Callable[[], object]]:
    parameters = list(training.model.parameters())
    values = [optimizer.state[parameter]["exp_avg_sq"] for parameter in parameters]
    fused = torch.optim.Adam([torch.nn.Parameter(parameter.detach().clone()) for parameter in parameters], fused=True)
    for parameter, copied in zip(parameters, fused.param_groups[0]["params"], strict=True):
        copied.grad = parameter.grad
    observer = epsgrid.observe(optimizer, model=training.model)
    hooks = list(optimizer._optimizer_step_post_hooks.values())
    optimizer._optimizer_step_post_hooks.clear()  # called below instead, where its time can be taken
    compiled, plain = Counter(FRACTIONS), Counter(FRACTIONS)
    return {
        OBSERVER: lambda: [hook(optimizer, (), {}) for hook in hooks],
        LOOK: observer.diagnosis,
        COUNTER: lambda: full_count(compiled, values),
        PLAIN: lambda: plain_count(plain, values),
        HISTC: lambda: [v.log10().histc(bins=8192, min=-38, max=38) for v in values],
        SORT: lambda: [v.flatten().sqrt().sort().values for v in values],
        READ: lambda: [v.sum() for v in values],
        ADAM: fused.step,
    }


def timed(call: Callable[[], object], device: torch.device) -> float:
    if device.type == "cpu":
        start = time.process_time()
        call()
        return time.process_time() - start
    torch.cuda.synchronize(device)
    start = time.perf_counter()
    call()
    torch.cuda.synchronize(device)
    return time.perf_counter() - start


def bench(training: Training, seconds: float, device: torch.device) -> None:
    optimizer = torch.optim.Adam(training.model.parameters(), lr=1e-5)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        training.loss().backward()
        optimizer.step()

    for _ in range(3):
        step()
    ways = ways_to_look(training, optimizer)
    times: dict[str, list[float]] = {name: [] for name in (STEP, *ways)}
    for way in ways.values():
        way()
    stretch = max(1, round(STRETCH_S / timed(step, device)))
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        for name, way in ways.items():
            for _ in range(stretch if sum(times[name]) < seconds / len(times) else 0):
                times[STEP].append(timed(step, device))
                times[name].append(timed(way, device))
    report(training, times)


def report(training: Training, times: dict[str, list[float]]) -> None:
    tensors = list(training.model.parameters())
    entries = sum(parameter.numel() for parameter in tensors)
    least = {name: min(values) for name, values in times.items()}
    print(f"\n{training.name}: {entries:,} entries in {len(tensors)} tensors")
    print(f"{'':38}{'rounds':>7}{'median ms':>11}{'least ms':>10}{'of a step':>11}{'ns/entry':>10}{'× a read':>10}")
    for name, values in times.items():
        print(
            f"{name:38}{len(values):7}{statistics.median(values) * 1e3:11.3f}{least[name] * 1e3:10.3f}"
            f"{least[name] / least[STEP]:11.2%}{least[name] / entries * 1e9:10.2f}{least[name] / least[READ]:10.1f}"
        )
    for name in (OBSERVER, COUNTER):
        print(
            f"{name}: {least[HISTC] / least[name]:.0f} times cheaper than log10 + histc,"
            f" {least[SORT] / least[name]:.0f} times cheaper than sorting"
        )


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    found = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(found)} x {found[0]}" if found else platform.processor() or platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(TRAININGS), default=list(TRAININGS))
    parser.add_argument("--seconds", type=float, default=60, help="time for each model")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and data")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    torch.set_num_threads(1)
    if device.type == "cuda":
        print(torch.cuda.get_device_name(device))
    print(f"{processor()}; {platform.platform()}; torch {torch.__version__}, numpy {np.__version__}; one thread")
    print("compiled counting" if tables.compiled() else "no compiled counting: see the warning")
    for name in arguments.models:
        torch.manual_seed(arguments.seed)
        bench(TRAININGS[name](device), arguments.seconds, device)


if __name__ == "__main__":
    main()
