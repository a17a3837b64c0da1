"""Measure a sweep against a plain script, Ray Tune and Optuna on the same grid, side by side: run on demand.

    python scripts/bench_sweep.py --cases empty seconds minute --rounds 2

The ways, each started as a command of its own and timed from outside, start-up included:

    plain     scripts/plain_cifar.py once per grid point, one after another, torch's threads on all cores
    ray       the same training function by Ray Tune, one trial per core, one torch thread each
    optuna    the same training function by Optuna's grid sampler, one job per core, one torch thread each, and no
              loader processes: its jobs are threads, and a process forked beside other threads can hang
    epsgrid   `epsgrid sweep`, as it is: isolated processes, resumable, gradient magnitudes kept after every epoch
    plain-bfloat16, epsgrid-bfloat16
              the same with autocast to bfloat16, which pays where convolutions are what takes the time

The cases, all on real CIFAR-10:

    empty     128 images, one epoch: what a trial costs besides training
    seconds   an MLP on 5,000 images, 2 epochs
    minute    VGG11 on 4,000 images, 2 epochs
    residual  a ResNet34 of width 16 on 4,000 images, 2 epochs
    gpu-vgg11, gpu-resnet34
              the published models on all images, 2 epochs; for a CUDA device, not for Ray Tune and Optuna

Ways take turns within a round, so that other load on the machine hits them alike; printed are medians over rounds.
Ray Tune and Optuna are left out, with a message, where they are not installed. A way that takes longer than --limit on
a case is ended and reported.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import math
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

HERE = Path(__file__).resolve().parent
LIMIT_S = 3600.0
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

TRIALS_PER_DEVICE = 4
"""Of epsgrid, where there is a CUDA device."""


@dataclass(frozen=True)
class Case:
    """A grid: learning rates times seeds, at the default ε."""

    name: str
    model: str
    images: int
    epochs: int
    rates: tuple[float, ...]
    seeds: tuple[int, ...]

    @property
    def points(self) -> list[dict[str, Any]]:
        """One per trial, as keywords of `plain_cifar.train`."""
        common = {"model": self.model, "images": self.images, "epochs": self.epochs, "eps": 1e-8}
        return [{**common, "lr": rate, "seed": seed} for seed, rate in itertools.product(self.seeds, self.rates)]


CASES = (
    Case("empty", "mlp", 128, 1, (1e-4, 3e-4, 1e-3, 3e-3), (0, 1, 2)),
    Case("seconds", "mlp", 5_000, 2, (1e-4, 3e-4, 1e-3, 3e-3), (0, 1, 2)),
    Case("minute", "vgg11", 4_000, 2, (3e-4, 1e-3), (0, 1)),
    Case("residual", "resnet34-16", 4_000, 2, (3e-4, 1e-3), (0, 1)),
    Case("gpu-vgg11", "vgg11", 50_000, 2, (1e-4, 3e-4, 1e-3, 3e-3), (0, 1)),
    Case("gpu-resnet34", "resnet34", 50_000, 2, (1e-4, 3e-4, 1e-3, 3e-3), (0, 1)),
)


@dataclass(frozen=True)
class Outcome:
    """Of one way on one case: wall seconds, and the best test accuracy of each trial, in [0, 1]."""

    seconds: float
    accuracies: tuple[float, ...]


NONE = Outcome(math.nan, (math.nan,))
"""Of a way that did not end."""

Precision = Literal["float32", "bfloat16"]
Way = Callable[[Case, Path, Path, float], tuple[float, ...]]
"""Trains a case's points, given data, a folder for files and a deadline; returns the best test accuracy of each."""


def prepare(folder: Path) -> None:
    """Write the images as the plain script wants them, shuffled: the first few are a fair part of all classes."""
    from epsgrid.errors import DataError
    from epsgrid.tasks import cifar10

    try:
        found = cifar10.prepare(cifar10.Options(name="cifar10")).images
    except DataError as error:
        raise SystemExit(str(error)) from None
    for name, split in {"train": found.train, "test": found.test}.items():
        order = np.random.default_rng(0).permutation(len(split.labels))
        np.save(folder / f"{name}_images.npy", np.moveaxis(split.pixels[order], 1, -1).copy())
        np.save(folder / f"{name}_labels.npy", split.labels[order])


def output_of(command: Sequence[str], deadline: float) -> str:
    """Return what a command prints; kill it with all its processes at the deadline.

    Raises:
        subprocess.TimeoutExpired: the deadline has passed.
    """
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            printed, _ = process.communicate(timeout=max(0.0, deadline - time.monotonic()))
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return printed


def by_plain(precision: Precision) -> Way:
    def run(case: Case, data: Path, folder: Path, deadline: float) -> tuple[float, ...]:
        accuracies = []
        for point in case.points:
            options = [part for name, value in point.items() for part in (f"--{name}", str(value))]
            if precision == "bfloat16":
                options.append("--bfloat16")
            command = [sys.executable, str(HERE / "plain_cifar.py"), "--data", str(data), *options]
            accuracies.append(float(json.loads(output_of(command, deadline))["accuracy"]))
        return tuple(accuracies)

    return run


def by_program(way: str) -> Way:
    """Return what runs this script again as the program of one way."""

    def run(case: Case, data: Path, folder: Path, deadline: float) -> tuple[float, ...]:
        command = [sys.executable, str(Path(__file__)), "--as", way, "--cases", case.name, "--data", str(data)]
        return tuple(json.loads(output_of([*command, "--folder", str(folder)], deadline).splitlines()[-1]))

    return run


def be_ray(case: Case, data: Path, folder: Path) -> list[float]:
    """Be the program that tunes with Ray."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(HERE), "RAY_AIR_NEW_OUTPUT": "0"}
    import ray
    from ray import tune

    ray.init(num_cpus=CORES, include_dashboard=False, _node_ip_address="127.0.0.1", log_to_driver=False)

    def one(config: dict[str, Any]) -> None:
        import plain_cifar
        import torch

        torch.set_num_threads(1)
        tune.report({"accuracy": plain_cifar.train(data=str(data), **config["point"])})

    tuner = tune.Tuner(
        tune.with_resources(one, {"cpu": 1}),
        param_space={"point": tune.grid_search(case.points)},
        run_config=tune.RunConfig(storage_path=str(folder), verbose=0),
    )
    return [float(result.metrics["accuracy"]) for result in tuner.fit()]


def be_optuna(case: Case, data: Path, folder: Path) -> list[float]:
    """Be the program that tunes with Optuna."""
    import optuna
    import plain_cifar
    import torch

    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    numbers = list(range(len(case.points)))

    def objective(trial: Any) -> float:
        point = case.points[trial.suggest_categorical("point", numbers)]
        return plain_cifar.train(data=str(data), loader_workers=0, **point)

    sampler = optuna.samplers.GridSampler({"point": numbers})
    study = optuna.create_study(sampler=sampler, direction="maximize")
    study.optimize(objective, n_trials=len(numbers), n_jobs=CORES)
    return [float(trial.value) for trial in study.trials if trial.value is not None]


def by_epsgrid(precision: Precision) -> Way:
    def run(case: Case, data: Path, folder: Path, deadline: float) -> tuple[float, ...]:
        spec = {
            "experiment": case.name,
            "task": {
                "name": "cifar10",
                "validation": 0,
                "augment": True,
                "subset": {"train": case.images, "test": max(100, case.images // 5)},
            },
            "model": {"resnet34-16": {"name": "resnet34", "width": 16}}.get(case.model, case.model),
            "optimizer": {"name": "adam", "weight_decay": 5e-4},
            "training": {"epochs": case.epochs, "batch_size": 128, "selection": "test", "precision": precision},
            "sweep": {"grid": "default", "learning_rates": list(case.rates), "seeds": list(case.seeds)},
            "execution": {"trials_per_device": TRIALS_PER_DEVICE},
        }
        path = folder / "spec.yaml"
        path.write_text(json.dumps(spec))  # JSON is YAML
        command = [sys.executable, "-m", "epsgrid", "sweep", str(path), "--runs", str(folder / "runs"), "--quiet"]
        output_of(command, deadline)
        results = sorted((folder / "runs").glob("*/trials/*/result.json"))
        return tuple(json.loads(result.read_text())["test"]["metric"] for result in results)

    return run


WAYS: dict[str, Way] = {
    "plain": by_plain("float32"),
    "ray": by_program("ray"),
    "optuna": by_program("optuna"),
    "epsgrid": by_epsgrid("float32"),
    "plain-bfloat16": by_plain("bfloat16"),
    "epsgrid-bfloat16": by_epsgrid("bfloat16"),
}


def measure(case: Case, way: str, data: Path, limit_s: float) -> Outcome | None:
    """Return how a way did on a case; None where it did not end within the limit."""
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        began = time.perf_counter()
        try:
            accuracies = WAYS[way](case, data, Path(folder), time.monotonic() + limit_s)
        except subprocess.TimeoutExpired:
            return None
        seconds = time.perf_counter() - began
    assert len(accuracies) == len(case.points), (way, len(accuracies))
    return Outcome(seconds, accuracies)


def row(case: Case, way: str, outcomes: Sequence[Outcome], plain: float) -> str:
    seconds = statistics.median(outcome.seconds for outcome in outcomes)
    last = outcomes[-1].accuracies
    spread = f"{100 * statistics.fmean(last):.1f} (best {100 * max(last):.1f})"
    count = len(case.points)
    cells = (
        case.name,
        way,
        str(count),
        f"{seconds:.1f}",
        f"{min(o.seconds for o in outcomes):.1f} to {max(o.seconds for o in outcomes):.1f}",
        f"{3600 * count / seconds:.0f}",
        f"{plain / seconds:.2f}",
        f"{seconds * CORES / count:.2f}",
        spread,
    )
    return f"| {' | '.join(cells)} |"


HEADER = (
    "| case | way | trials | wall s, median | range | trials an hour | times plain | core seconds a trial "
    "| mean test accuracy % |\n"
    "| --- | --- | ---: | ---: | --- | ---: | ---: | ---: | --- |"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=[case.name for case in CASES], default=["empty", "seconds"])
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS)[:4])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--as", dest="role", choices=("ray", "optuna"), help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--limit", type=float, default=LIMIT_S, help="seconds that a way may take on a case")
    asked = parser.parse_args()
    cases = [case for case in CASES if case.name in asked.cases]
    if asked.role:
        print(json.dumps({"ray": be_ray, "optuna": be_optuna}[asked.role](cases[0], asked.data, asked.folder)))
        return
    ways = [way for way in asked.ways if way not in ("ray", "optuna") or importlib.util.find_spec(way)]
    for way in sorted({*asked.ways} - {*ways}):
        print(f"{way} is not installed: left out", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="bench-data-") as folder:
        prepare(Path(folder))
        print(f"{platform.platform()}, {CORES} cores, Python {platform.python_version()}, {asked.rounds} rounds\n")
        print(HEADER, flush=True)
        for case in cases:
            outcomes: dict[str, list[Outcome]] = {way: [] for way in ways}
            for number in range(asked.rounds):
                for way in ways[number % len(ways) :] + ways[: number % len(ways)]:
                    if (outcome := measure(case, way, Path(folder), asked.limit)) is not None:
                        outcomes[way].append(outcome)
                    else:
                        print(f"{case.name}: {way} did not end within {asked.limit:g} s", file=sys.stderr)
            plain = statistics.median(o.seconds for o in outcomes.get("plain") or outcomes[ways[0]] or [NONE])
            for way in ways:
                print(row(case, way, outcomes[way] or [NONE], plain), flush=True)


if __name__ == "__main__":
    main()
