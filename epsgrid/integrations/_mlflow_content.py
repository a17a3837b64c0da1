"""What a run of MLflow is to hold, of a trial and of an experiment's report; nothing here imports MLflow."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from epsgrid.integrations import loggers
from epsgrid.numerics.bounds import EpsilonBounds
from epsgrid.selection.formatting import power
from epsgrid.selection.load import StoredExperiment
from epsgrid.store.records import EpochRecord, GridCell, Scores, TrialFailure, TrialResult, read_epochs

REPORT = "report"

Measurement = tuple[str, float, int, int]
"""Name, value, time in milliseconds since 1970, and step."""


@dataclass(frozen=True)
class Run:
    """A run as it is to be: all of it but its artifacts.

    Attributes:
        id: of the trial, or "report".
        name: that MLflow shows.
        stored: checksum of what is logged.
        state: such as "done".
        status: in MLflow's words.
        started: milliseconds since 1970.
        ended: likewise.
        params: settings.
        metrics: name, value, time in milliseconds, and step.
        tags: further ones.
    """

    id: str
    name: str
    stored: str
    state: str
    status: str
    started: int
    ended: int
    params: Mapping[str, Any]
    metrics: Sequence[Measurement]
    tags: Mapping[str, str]


def trial_run(stored: StoredExperiment, cell: GridCell, checksum: str) -> Run:
    """Return the run of a trial that ended; raises CorruptRecordError where its epochs are damaged.

    Args:
        stored: the experiment.
        cell: of the trial.
        checksum: of its result or failure.
    """
    result, failure = stored.results.get(cell.id), stored.failures.get(cell.id)
    epochs = read_epochs(stored.folder.trial(cell.id).metrics_jsonl)
    ended = _ended_at(result, failure)
    seconds = result.seconds if result else math.fsum(epoch.seconds for epoch in epochs)
    started = ended - round(1000 * seconds)
    metrics = [*_epoch_metrics(epochs, _metric_name(stored), started), *_result_metrics(result, started)]
    epsilon = "" if cell.epsilon is None else f", ε {power(cell.epsilon)}"
    return Run(
        id=cell.id,
        name=f"lr {power(cell.learning_rate)}{epsilon}, seed {cell.seed}",
        stored=checksum,
        state=result.state if result else "failed",
        status="FINISHED" if result else "FAILED",
        started=started,
        ended=started + round(1000 * seconds),
        params=_params(stored, cell, result),
        metrics=metrics,
        tags={"epsgrid.grids": " ".join(cell.grids), **_reason(result, failure)},
    )


def _reason(result: TrialResult | None, failure: TrialFailure | None) -> dict[str, str]:
    why = failure.error if failure else result.reason if result else None
    return {"epsgrid.reason": why} if why else {}


def _ended_at(result: TrialResult | None, failure: TrialFailure | None) -> int:
    now = round(1000 * time.time())
    if result is not None:
        return _milliseconds(result.provenance.get("started"), now) + round(1000 * result.seconds)
    return _milliseconds(failure.ended if failure else None, now)


def _milliseconds(moment: Any, otherwise: int) -> int:
    try:
        return round(1000 * datetime.fromisoformat(moment).timestamp())
    except (TypeError, ValueError):
        return otherwise


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _metric_name(stored: StoredExperiment) -> str:
    return next((result.metric_name for result in stored.results.values()), "metric")


def _epoch_metrics(epochs: Sequence[EpochRecord], metric: str, started: int) -> Iterator[Measurement]:
    """Yield the numbers of each epoch, at the moment at which it ended."""
    seconds = 0.0
    for epoch in epochs:
        seconds += epoch.seconds
        moment = started + round(1000 * seconds)
        row = {"train_loss": epoch.train_loss, "learning_rate": epoch.learning_rate, "epoch_seconds": epoch.seconds}
        row |= _scores("validation", epoch.validation, metric) | _scores("test", epoch.test, metric)
        for name, value in row.items():
            yield name, value, moment, epoch.epoch


def _result_metrics(result: TrialResult | None, started: int) -> Iterator[Measurement]:
    """Yield the scores of the selected weights, and what the trial took."""
    if result is None:
        return
    row = {"training_seconds": result.seconds, "steps": float(result.steps)}
    for split, scores in (("validation", result.validation), ("test", result.test)):
        row |= _scores(f"selected_{split}", scores, result.metric_name)
    for name, value in row.items():
        yield name, value, started + round(1000 * result.seconds), result.selected_epoch or 0


def _scores(split: str, scores: Scores | None, metric: str) -> dict[str, float]:
    if scores is None:
        return {}
    others = {f"{split}_{name}": value for name, value in scores.others.items()}
    return {**others, f"{split}_loss": scores.loss, f"{split}_{metric}": scores.metric}


def report_run(stored: StoredExperiment, files: Sequence[Path], headline: str) -> Run:
    """Return the run of an experiment's probe and report.

    Args:
        stored: the experiment.
        files: of its report; they are read for a checksum.
        headline: what MLflow is to show as the run's description; empty for nothing.
    """
    now = round(1000 * time.time())
    probe, bounds = stored.probe, stored.bounds
    began = probe.provenance.get("started") if probe else None
    moment = _milliseconds(began or stored.experiment.created, now)
    metrics = []
    if probe is not None and bounds is not None:
        row = {"probe_seconds": probe.cost_seconds, "probe_steps": float(probe.steps)}
        for name, end in (("low", bounds.low), ("high", bounds.high)):
            row |= {f"bound_{name}_magnitude": end.magnitude, f"bound_{name}_epsilon": end.epsilon}
        metrics = [(name, value, moment, 0) for name, value in row.items()]
    contents = [f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files]
    return Run(
        id=REPORT,
        name=REPORT,
        stored=_checksum(stored.experiment.checksum, probe.checksum if probe else "", headline, *contents),
        state=REPORT,
        status="FINISHED",
        started=moment,
        ended=moment + round(1000 * (probe.cost_seconds if probe else 0.0)),
        params=dict(_flat(stored.experiment.spec)),
        metrics=metrics,
        tags={"mlflow.note.content": headline} if headline else {},
    )


def _params(stored: StoredExperiment, cell: GridCell, result: TrialResult | None) -> dict[str, Any]:
    """Return what the trial was trained with, nested settings by dotted names."""
    common = {name: stored.experiment.spec[name] for name in ("task", "model", "optimizer", "training")}
    identity = dict(result.identity) if result else common
    point = {"learning_rate": cell.learning_rate, "epsilon": cell.epsilon, "seed": cell.seed}
    return dict(_flat({**identity, **point}))


def histograms(bounds: EpsilonBounds) -> dict[str, Any]:
    """Return the probe's histograms as plain numbers: by layer, edges in log10 √v̂ and the counts between them.

    Zeros, which have no logarithm, are counted beside; a layer without entries but zeros has no edges.
    """
    layers = {}
    for layer in bounds.layers:
        if layer.histogram is None:
            continue
        edges, counts = loggers.buckets(layer.histogram) if layer.histogram.nonzero else ((), ())
        layers[layer.name] = {
            "zeros": layer.histogram.zeros,
            "log10_edges": [round(float(edge), 6) for edge in edges],
            "counts": [int(count) for count in counts],
        }
    return {"version": 1, "layers": layers}


def _checksum(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
