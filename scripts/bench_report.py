"""Measure what a report costs over thousands of stored trials: run on demand.

    python scripts/bench_report.py --trials 1000 10000

The stores are simulated, through the store's own records: a model of 22 tensors that was probed, ten learning rates,
ten ε and as many seeds as needed, with some trials diverged and a few failed. Printed are wall and processor time of
the command `epsgrid report`, the least of several runs; then the processor time of its parts, its peak memory and
whether torch was imported, in a process that makes the same report.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import platform
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np

from epsgrid.numerics.bounds import estimate_bounds
from epsgrid.numerics.histogram import MANTISSA_BITS, LogHistogram, bin_count
from epsgrid.numerics.magnitudes import LayerStatistics, LayerStatus, high_rank, low_rank
from epsgrid.numerics.placement import Placement
from epsgrid.spec.trial import Trial
from epsgrid.store.paths import ExperimentFolder
from epsgrid.store.provenance import provenance
from epsgrid.store.records import (
    ExperimentRecord,
    GridRecord,
    ProbeRecord,
    Scores,
    TrialFailure,
    TrialResult,
)

WANTED_S = {1_000: 3.0, 10_000: 20.0}
RATES = tuple(float(f"{10 ** (-4 + k / 3):.1e}") for k in range(10))
CONVENTIONAL = tuple(float(f"1e{k}") for k in range(-8, 2))
LAYERS = 22
_CHILD = """
import json, resource, sys, time
from pathlib import Path
start = time.process_time()
from epsgrid.report.files import write_report
from epsgrid.selection.load import load_experiment
from epsgrid.store.paths import ExperimentFolder
parts = {"imports": time.process_time() - start}
start = time.process_time()
stored = load_experiment(ExperimentFolder(Path(sys.argv[1])))
parts["load"] = time.process_time() - start
start = time.process_time()
written = write_report(stored)
parts["compare and write"] = time.process_time() - start
size = sum(path.stat().st_size for path in written.files)
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"parts": parts, "torch": "torch" in sys.modules, "bytes": size, "memory": memory}))
"""


def layer(index: int) -> LayerStatistics:
    """Simulate a tensor: weights of 200,000 entries and biases of 64 in turn, their √v̂ spread log-normally."""
    entries = 64 if index % 2 else 200_000
    median, sd = -3.0 - 0.05 * index, 0.3 if index % 2 else 0.8
    v = (10 ** np.random.default_rng(index).normal(median, sd, entries)).astype(np.float32) ** 2
    shift = 23 - MANTISSA_BITS
    bins = (v.view(np.int32).astype(np.int64) + (1 << shift) - 1) >> shift
    histogram = LogHistogram(MANTISSA_BITS, np.bincount(bins, minlength=bin_count(MANTISSA_BITS)))
    roots = np.sort(np.sqrt(v.astype(np.float64)))
    low, high = (float(roots[rank(entries, 0.02)]) for rank in (low_rank, high_rank))
    kind = "bias" if index % 2 else "convolution"
    return LayerStatistics(
        f"features.{index}", (entries,), entries, entries, low, high, histogram, LayerStatus.MEASURED, kind
    )


def grid_cells(trials: int) -> list[Trial]:
    """Return the cells of both grids, as many as there are trials."""
    narrowed = {epsilon for epsilon in CONVENTIONAL if 1e-5 <= epsilon <= 1e-2}
    points = ((rate, epsilon, seed) for seed in range(trials) for rate in RATES for epsilon in CONVENTIONAL)
    cells = []
    for rate, epsilon, seed in points:
        if len(cells) == trials:
            break
        trial = hashlib.sha256(f"{rate!r} {epsilon!r} {seed}".encode()).hexdigest()[:16]
        grids = ("narrowed", "conventional") if epsilon in narrowed else ("conventional",)
        cells.append(Trial(trial, rate, epsilon, seed, grids))
    return cells


def result(cell: Trial, origin: dict[str, object]) -> TrialResult:
    """Simulate the result of a trial: best at ε = 1e-3 and lr 1e-3, diverged where lr is large and ε small."""
    assert cell.epsilon is not None
    noise = random.Random(f"{cell.learning_rate} {cell.epsilon} {cell.seed}").gauss(0, 0.004)
    away = abs(math.log10(cell.epsilon) + 3) * 0.02 + abs(math.log10(cell.learning_rate) + 3) * 0.03
    diverged = cell.learning_rate > 0.05 and cell.epsilon < 1e-5
    accuracy = 0.92 - away + noise
    return TrialResult(
        id=cell.id,
        state="diverged" if diverged else "done",
        identity={"learning_rate": cell.learning_rate, "epsilon": cell.epsilon, "seed": cell.seed, "data": "0" * 64},
        metric_name="accuracy",
        metric_direction="max",
        metric_unit="%",
        epochs_trained=200,
        selected_epoch=170,
        validation=Scores(math.nan, math.nan) if diverged else Scores(0.3, accuracy),
        test=None if diverged else Scores(0.31, accuracy - 0.003 + noise / 3),
        steps=78_200,
        seconds=600.0,
        device="cpu",
        reason="loss is NaN at epoch 2" if diverged else None,
        provenance=origin,
    )


def store(folder: ExperimentFolder, trials: int) -> None:
    """Write an experiment with a number of trials; nothing is synced to disk, since nothing has to survive."""
    os.fsync = lambda descriptor: None
    placement = Placement.outside()
    bounds = estimate_bounds([layer(index) for index in range(LAYERS)], placement)
    origin = provenance(["epsgrid", "sweep"])
    cells = grid_cells(trials)
    seeds = sorted({cell.seed for cell in cells})
    spec = {
        "experiment": "made-up",
        "task": {"name": "cifar10"},
        "model": {"name": "vgg11"},
        "optimizer": {"name": "adam"},
        "training": {"epochs": 200, "selection": "validation"},
        "sweep": {"learning_rates": list(RATES), "seeds": seeds, "default_epsilon": 1e-8},
    }
    ExperimentRecord("made-up", spec, "0" * 64, "GENERATED results", "2026-01-01T00:00:00+00:00", "0.1.0").write(
        folder.experiment_json
    )
    probe = ProbeRecord({}, bounds.to_json(), placement, 60.0, 391, 128, "GENERATED results", origin)
    probe.write(folder.bounds_json)
    epsilons = {
        "narrowed": tuple(sorted({cell.epsilon for cell in cells if "narrowed" in cell.grids and cell.epsilon})),
        "conventional": CONVENTIONAL,
    }
    GridRecord("adam", epsilons, 1e-8, tuple(cells), probe.checksum).write(folder.grid_json)
    for number, cell in enumerate(cells):
        if number % 997 == 996:
            failure = TrialFailure(cell.id, "RuntimeError: out of memory", "", "log.txt", 2, "2026-01-01T00:00:00")
            failure.write(folder.trial(cell.id).failure_json)
        else:
            result(cell, origin).write(folder.trial(cell.id).result_json)


def command(folder: Path) -> tuple[float, float]:
    """Return wall and processor seconds of the command."""
    start, before = perf_counter(), os.times()
    subprocess.run([sys.executable, "-m", "epsgrid", "report", str(folder)], capture_output=True, check=True)
    wall, after = perf_counter() - start, os.times()
    return wall, sum(after[2:4]) - sum(before[2:4])


def parts_of(folder: Path) -> dict[str, Any]:
    """Return what a process that makes the report prints about itself."""
    done = subprocess.run([sys.executable, "-c", _CHILD, str(folder)], capture_output=True, text=True, check=True)
    parts: dict[str, Any] = json.loads(done.stdout)
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[1_000, 10_000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="put the stores here and keep them; one that is there is used again")
    options = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as scratch:
        for trials in options.trials:
            folder = ExperimentFolder((options.keep or Path(scratch)) / f"made-up-{trials}")
            if not folder.grid_json.exists():
                start = process_time()
                store(folder, trials)
                print(f"{trials:,} trials stored in {process_time() - start:.1f} s of processor time")
            times = [command(folder.root) for _ in range(options.repeats)]
            wall, busy = (min(each) for each in zip(*times, strict=True))
            child = parts_of(folder.root)
            wanted = f" (wanted: {WANTED_S[trials]:g} s)" if trials in WANTED_S else ""
            print(f"{trials:,} trials: {wall:.2f} s wall{wanted}, {busy:.2f} s processor time")
            print("  " + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in child["parts"].items()))
            print(
                f"  torch imported: {child['torch']}; {child['bytes']:,} bytes written; {child['memory']:,} kB memory"
            )


if __name__ == "__main__":
    main()
