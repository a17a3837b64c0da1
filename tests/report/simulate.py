"""Simulated experiments of known truth, written through the store's own records."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from epsgrid.numerics.bounds import EpsilonBounds, estimate_bounds
from epsgrid.numerics.histogram import MANTISSA_BITS, LogHistogram, bin_count
from epsgrid.numerics.magnitudes import LayerStatistics, LayerStatus, high_rank, low_rank
from epsgrid.numerics.placement import Placement
from epsgrid.report.compare import whole
from epsgrid.report.rows import Comparison
from epsgrid.selection.load import StoredExperiment, load_experiment
from epsgrid.spec.trial import Trial
from epsgrid.store.paths import ExperimentFolder
from epsgrid.store.records import (
    ExperimentRecord,
    GridRecord,
    ProbeRecord,
    Scores,
    TrialFailure,
    TrialResult,
)

NARROWED = (1e-4, 1e-3, 1e-2)
CONVENTIONAL = tuple(float(f"1e{k}") for k in range(-8, 0))
RATES = (1e-3, 1e-2)
SEEDS = (0, 1, 2)

Outcome = tuple[float, float] | Literal["diverged", "failed", "pending"]
"""(validation, test) of a trial, or what became of it instead."""
Truth = Callable[[float, float | None, int], Outcome]


def peaked(best: float = 1e-3, height: float = 0.9, noise: float = 0.002) -> Truth:
    """An accuracy that falls by 3 points with every decade from the best ε, and by 1 with every decade from lr 1e-3."""

    def truth(rate: float, epsilon: float | None, seed: int) -> Outcome:
        loss = 0.0 if epsilon is None else 0.03 * abs(np.log10(epsilon / best))
        score = height - loss - 0.01 * abs(np.log10(rate / 1e-3))
        rng = np.random.default_rng([seed, round(100 * -np.log10(rate)), round(100 * -np.log10(epsilon or 1.0) + 1000)])
        common = noise * np.random.default_rng(seed).standard_normal()
        return (score + common, score - 0.01 + common + noise / 4 * rng.standard_normal())

    return truth


def layer(
    name: str,
    shape: tuple[int, ...],
    log10_median: float,
    log10_sd: float = 0.7,
    zero_share: float = 0.0,
    seed: int = 0,
) -> LayerStatistics:
    """A layer whose √v̂ are spread log-normally."""
    entries = int(np.prod(shape))
    roots = 10 ** np.random.default_rng(seed).normal(log10_median, log10_sd, entries)
    roots[: round(zero_share * entries)] = 0.0
    return measured(name, shape, (roots**2).astype(np.float32))


def measured(name: str, shape: tuple[int, ...], v: np.ndarray) -> LayerStatistics:
    """The statistics of a layer's v, by sorting and by binning in plain NumPy."""
    shift = 23 - MANTISSA_BITS
    bins = (v.view(np.int32).astype(np.int64) + (1 << shift) - 1) >> shift
    histogram = LogHistogram(MANTISSA_BITS, np.bincount(bins, minlength=bin_count(MANTISSA_BITS)))
    ordered = np.sort(np.sqrt(v[v > 0].astype(np.float64)))
    if not len(ordered):
        return LayerStatistics(name, shape, v.size, 0, None, None, histogram, LayerStatus.ALL_ZERO)
    low, high = (float(ordered[rank(len(ordered), 0.02)]) for rank in (low_rank, high_rank))
    return LayerStatistics(name, shape, v.size, len(ordered), low, high, histogram, LayerStatus.MEASURED)


def two_layers() -> list[LayerStatistics]:
    """A weight around 10^-3, and a bias of ten entries that sets the upper bound; ε between 1e-4 and 1e-2."""
    v = (10 ** np.linspace(-4, -2.4, 5000)) ** 2
    bias = (10 ** np.linspace(-2.3, -2.0, 10)) ** 2
    return [
        measured("0.weight", (100, 50), v.astype(np.float32)),
        measured("0.bias", (10,), bias.astype(np.float32)),
    ]


def experiment_record(
    *,
    optimizer: str = "adam",
    selection: str = "validation",
    data: str = "8x8 digits: 1,797 images",
    rates: Sequence[float] = RATES,
    seeds: Sequence[int] = SEEDS,
) -> ExperimentRecord:
    spec = {
        "experiment": "simulated",
        "task": {"name": "digits"},
        "model": {"name": "mlp"},
        "optimizer": {"name": optimizer},
        "training": {"epochs": 5, "selection": selection},
        "sweep": {"learning_rates": list(rates), "seeds": list(seeds)},
    }
    return ExperimentRecord("simulated", spec, "0123456789abcdef", data, "2026-11-22T00:00:00+00:00", "0.1.0")


def probe_record(bounds: EpsilonBounds, placement: Placement, seconds: float = 3.0) -> ProbeRecord:
    return ProbeRecord(
        identity={"probe": {"seed": 0}},
        bounds_json=bounds.to_json(),
        placement=placement,
        cost_seconds=seconds,
        steps=11,
        batch_size=128,
        data_description="8x8 digits: 1,797 images",
        provenance={"command": "epsgrid probe spec.yaml", "packages": {"epsgrid": "0.1.0", "torch": "2.13.0"}},
    )


def trial_id(rate: float, epsilon: float | None, seed: int) -> str:
    return hashlib.sha256(f"{rate!r} {epsilon!r} {seed}".encode()).hexdigest()[:16]


def cells(grids: Mapping[str, Sequence[float | None]], rates: Sequence[float], seeds: Sequence[int]) -> list[Trial]:
    """The cells of some grids; a point that several ask for is one cell."""
    asked: dict[tuple[float, float | None, int], list[str]] = {}
    for grid, epsilons in grids.items():
        for rate in rates:
            for epsilon in epsilons:
                for seed in seeds:
                    asked.setdefault((rate, epsilon, seed), []).append(grid)
    return [Trial(trial_id(*point), *point, tuple(names)) for point, names in asked.items()]


def result(
    cell: Trial, outcome: Outcome, *, metric: tuple[str, str, str], selection: str = "validation", **changes: Any
) -> TrialResult:
    """The record of one trial; a diverged one keeps scores of an early epoch, which must not count."""
    diverged = outcome == "diverged"
    validation, test = (0.99, 0.99) if diverged else outcome
    scores = Scores(0.5, validation), Scores(0.5, test)
    fields: dict[str, Any] = {
        "id": cell.id,
        "state": "diverged" if diverged else "done",
        "identity": {"learning_rate": cell.learning_rate, "epsilon": cell.epsilon, "seed": cell.seed},
        "metric_name": metric[0],
        "metric_direction": metric[1],
        "metric_unit": metric[2],
        "epochs_trained": 5,
        "selected_epoch": 4,
        "validation": None if selection == "test" else scores[0],
        "test": scores[1],
        "steps": 55,
        "seconds": 10.0,
        "device": "cpu",
        "reason": "loss is NaN at epoch 2" if diverged else None,
        "provenance": {
            "packages": {"epsgrid": "0.1.0", "torch": "2.13.0"},
            "host": "node1",
            "started": f"2026-11-22T00:00:{10 * cell.seed % 60:02d}+00:00",
        },
    }
    return TrialResult(**{**fields, **changes})


def simulate(
    root: Path,
    truth: Truth | None = None,
    *,
    narrowed: Sequence[float] | None = NARROWED,
    conventional: Sequence[float] | None = CONVENTIONAL,
    reference: bool = False,
    rates: Sequence[float] = RATES,
    seeds: Sequence[int] = SEEDS,
    layers: Sequence[LayerStatistics] | None = None,
    placement: Placement | None = None,
    probe: bool = True,
    sweep: bool = True,
    metric: tuple[str, str, str] = ("accuracy", "max", "%"),
    selection: str = "validation",
    default_epsilon: float = 1e-8,
    optimizer: str = "adam",
    data: str = "8x8 digits: 1,797 images",
    stale: bool = False,
) -> StoredExperiment:
    """Write an experiment and read it back; `truth` decides how each trial comes out."""
    folder = ExperimentFolder(root)
    experiment = experiment_record(optimizer=optimizer, selection=selection, data=data, rates=rates, seeds=seeds)
    experiment.write(folder.experiment_json)
    placement = placement or Placement.outside()
    record = None
    if probe:
        record = probe_record(estimate_bounds(layers or two_layers(), placement), placement)
        record.write(folder.bounds_json)
    if sweep:
        named = {"narrowed": narrowed, "conventional": conventional}
        grids: dict[str, Sequence[float | None]] = {name: e for name, e in named.items() if e is not None}
        grids = {"reference": (None,)} if reference else grids
        planned = cells(grids, rates, seeds)
        checksum = "other" if stale else record.checksum if record and narrowed else None
        epsilons = {name: tuple(e for e in values if e is not None) for name, values in grids.items()}
        GridRecord(optimizer, epsilons, default_epsilon, tuple(planned), checksum).write(folder.grid_json)
        for cell in planned:
            _store(folder, cell, (truth or peaked())(cell.learning_rate, cell.epsilon, cell.seed), metric, selection)
    return load_experiment(folder)


def _store(
    folder: ExperimentFolder, cell: Trial, outcome: Outcome, metric: tuple[str, str, str], selection: str
) -> None:
    trial = folder.trial(cell.id)
    if outcome == "failed":
        failure = TrialFailure(
            cell.id, "RuntimeError: out of memory", "trace", str(trial.log), 2, "2026-11-22T00:00:00"
        )
        failure.write(trial.failure_json)
    elif outcome != "pending":
        result(cell, outcome, metric=metric, selection=selection).write(trial.result_json)


def unpadded(markdown: str) -> str:
    """A page of Markdown with one space around each cell of its tables, and no line below their heads."""
    rows = re.sub(r"^\|[:|-]+\|\n", "", markdown, flags=re.MULTILINE)
    return re.sub(r" *\| *(?=[^\n])", " | ", re.sub(r" +\|\n", " |\n", rows)).replace("\n | ", "\n| ")


def compare(stored: StoredExperiment) -> Comparison:
    """Return the whole comparison of an experiment."""
    return whole(stored)[0]
