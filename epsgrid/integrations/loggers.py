"""Write gradient magnitudes where a training's other curves are: TensorBoard and MLflow, or any logger of scalars.

What is written is a `Series`: what an observer kept, or a single snapshot of it.

    writer = open_tensorboard("runs/mine")
    write_tensorboard(observer.series(), writer)
    writer.close()

    run = open_mlflow("mlruns", "mine")
    write_mlflow(observer.series(), run)
    run.end()

Scalars are in √v̂ units: `epsgrid/low` and `epsgrid/high`, the bounds by the published rule, within 0.8 %;
`epsgrid/threshold`, what the optimizer's own ε weighs as much as; `epsgrid/adaptable`, the share of the entries above
it; and by layer `epsgrid_adaptable/NAME` and the percentiles `epsgrid_p2/NAME`, `epsgrid_p50/NAME`, `epsgrid_p98/NAME`.
Histograms are of log10 √v̂, in the bins in which they were counted; zeros, which have no logarithm, are left out.

Neither package is needed until it is written to; each is an extra of its name.
"""

from __future__ import annotations

import importlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from epsgrid.numerics.histogram import LogHistogram
from epsgrid.numerics.magnitudes import TAIL_FRACTION
from epsgrid.numerics.series import Series
from epsgrid.observing.trackers import MlflowRun as MlflowRun
from epsgrid.observing.trackers import import_mlflow as import_mlflow
from epsgrid.observing.trackers import metric_name as metric_name
from epsgrid.observing.trackers import mlflow_client as mlflow_client
from epsgrid.observing.trackers import mlflow_experiment as mlflow_experiment
from epsgrid.observing.trackers import open_tensorboard as open_tensorboard

PREFIX = "epsgrid"

Choose = Callable[[Series, str], dict[int, dict[str, float]]]
"""Which scalars of a series to write, by step and name."""

_LEAST_FLOAT32 = 2.0**-149
_SHOWN = {"p2": TAIL_FRACTION, "p50": 0.5, "p98": 1 - TAIL_FRACTION}
_METRICS_IN_A_BATCH = 1000


def scalars(series: Series, prefix: str = PREFIX) -> dict[int, dict[str, float]]:
    """Return the numbers of a series that make curves, named as in the module's words, by step.

    Args:
        series: of snapshots that hold histograms; of those without, the shares are left out.
        prefix: takes the place of "epsgrid" in the names.
    """
    of_layers = scalars_of_layers(series, prefix)
    return {step: row | of_layers[step] for step, row in scalars_of_all(series, prefix).items()}


def scalars_of_all(series: Series, prefix: str = PREFIX) -> dict[int, dict[str, float]]:
    """Return those of `scalars` that speak of all layers together."""
    rows: dict[int, dict[str, float]] = {step: {} for step in series.steps}
    for step, low, high in series.bounds_over_time():
        rows[step] |= {f"{prefix}/low": low, f"{prefix}/high": high}
    for snapshot in series.snapshots:
        if snapshot.threshold is not None:
            rows[snapshot.step][f"{prefix}/threshold"] = snapshot.threshold
    for step, share in series.adaptable():
        rows[step][f"{prefix}/adaptable"] = share
    return rows


def scalars_of_layers(series: Series, prefix: str = PREFIX) -> dict[int, dict[str, float]]:
    """Return those of `scalars` that speak of one layer each."""
    rows: dict[int, dict[str, float]] = {step: {} for step in series.steps}
    for name in series.names:
        for step, share in series.adaptable(name):
            rows[step][f"{prefix}_adaptable/{name}"] = share
        for label, fraction in _SHOWN.items():
            for step, magnitude in series.over_time(name, fraction):
                rows[step][f"{prefix}_{label}/{name}"] = magnitude
    return rows


# TensorBoard


def write_tensorboard(series: Series, writer: Any, prefix: str = PREFIX, choose: Choose = scalars) -> None:
    """Write a series as scalars and histograms.

    Args:
        series: what to write.
        writer: a SummaryWriter, of torch or of tensorboardX.
        prefix: takes the place of "epsgrid" in the names.
        choose: `scalars_of_layers` leaves out what speaks of all layers together.
    """
    for step, row in choose(series, prefix).items():
        for name, value in row.items():
            writer.add_scalar(name, value, step)
    write_tensorboard_histograms(series, writer, prefix)


def write_tensorboard_histograms(series: Series, writer: Any, prefix: str = PREFIX) -> None:
    """Write a series' histograms of log10 √v̂ alone, as `PREFIX_magnitudes/NAME`; arguments as `write_tensorboard`."""
    for step, name, histogram in _histograms(series):
        limits, counts = buckets(histogram)
        middles = (limits[1:] + limits[:-1]) / 2
        writer.add_histogram_raw(
            f"{prefix}_magnitudes/{name}",
            min=limits[0],
            max=limits[-1],
            num=int(counts.sum()),
            sum=float(counts @ middles),
            sum_squares=float(counts @ middles**2),
            bucket_limits=limits[1:].tolist(),
            bucket_counts=counts.tolist(),
            global_step=step,
        )
    writer.flush()


def buckets(histogram: LogHistogram) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Return edges in log10 √v̂, shape (n + 1,), and the counts between them, shape (n,), of the non-zero entries.

    They reach from the first to the last occupied bin. Entries beyond float32's range lie in its first and last bin.

    Args:
        histogram: with at least one finite non-zero entry.
    """
    counts = histogram.counts[1:].copy()
    counts[0] += histogram.below_range
    counts[-1] += histogram.above_range
    first, last = np.flatnonzero(counts)[[0, -1]]
    edges = histogram.edges()[first : last + 2]
    # The first bin of all begins at zero, which has no logarithm; its entries are the least float32 and larger.
    edges[0] = max(edges[0], math.sqrt(_LEAST_FLOAT32 * histogram.scale))
    return np.log10(edges), counts[first : last + 1]


def _histograms(series: Series) -> Iterator[tuple[int, str, LogHistogram]]:
    """Yield step, layer and histogram of what is not empty."""
    for snapshot in series.snapshots:
        for name, layer in zip(series.names, snapshot.layers, strict=True):
            if layer is not None and layer.nonzero and layer.histogram is not None:
                yield snapshot.step, name, layer.histogram


# MLflow


def open_mlflow(where: str | Path, experiment: str = PREFIX, run_name: str | None = None) -> MlflowRun:
    """Begin a run, without a network where `where` is a folder; whoever opens it ends it.

    Args:
        where: a folder, or a tracking address such as "sqlite:///mlflow.db", which MLflow's own extras may be needed
            for. A folder is asked for by allowing it in the environment (MLFLOW_ALLOW_FILE_STORE), unless that says
            something already: newer versions refuse it otherwise.
        experiment: name of the experiment, made where it does not exist.
        run_name: name of the run; None lets MLflow choose.

    Raises:
        ExecutionError: mlflow is not installed.
    """
    client = mlflow_client(where)
    return MlflowRun(client, client.create_run(mlflow_experiment(client, experiment), run_name=run_name).info.run_id)


def write_mlflow(series: Series, run: MlflowRun, prefix: str = PREFIX, choose: Choose = scalars) -> None:
    """Write a series as metrics and, with its histograms, as a JSON artifact for each snapshot.

    `Series.from_json` reads the artifacts, `PREFIX/step-00000010.json`.

    Args:
        series: what to write.
        run: where to.
        prefix: takes the place of "epsgrid" in the names.
        choose: `scalars_of_layers` leaves out what speaks of all layers together.
    """
    for step, row in choose(series, prefix).items():
        _log_metrics(run, row, step)
    write_mlflow_histograms(series, run, prefix)


def write_mlflow_histograms(series: Series, run: MlflowRun, prefix: str = PREFIX) -> None:
    """Write a series' artifacts alone; arguments as `write_mlflow`."""
    for snapshot in series.snapshots:
        document = replace(series, snapshots=(snapshot,)).to_json()
        run.client.log_dict(run.run_id, document, f"{prefix}/step-{snapshot.step:08d}.json")


def _log_metrics(run: MlflowRun, row: dict[str, float], step: int) -> None:
    entities = importlib.import_module("mlflow.entities")
    now = int(time.time() * 1000)
    metrics = [entities.Metric(metric_name(name), value, now, step) for name, value in row.items()]
    for start in range(0, len(metrics), _METRICS_IN_A_BATCH):
        run.client.log_batch(run.run_id, metrics=metrics[start : start + _METRICS_IN_A_BATCH])
