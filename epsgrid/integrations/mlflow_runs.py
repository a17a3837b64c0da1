"""Log a stored experiment to MLflow: a run for each trial, and one for the probe and the report.

A trial's run has its settings as parameters, its scores after each epoch as metrics, and what was observed of the
gradient magnitudes, where it was: scalars in √v̂ units at the optimizer's steps, and the stored file with histograms.
The run called "report" holds the probe's bounds, its histograms as counts between edges, and the report's files.

Logging twice changes nothing: each run carries the tag `epsgrid.id`, and last of all `epsgrid.stored`, a checksum of
what was logged. A run without it was cut short, one with another is of a trial that was trained anew: either is deleted
and logged again.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from epsgrid.errors import ExecutionError
from epsgrid.integrations import loggers
from epsgrid.integrations._mlflow_content import REPORT, Measurement, Run, histograms, report_run, trial_run
from epsgrid.selection.formatting import count
from epsgrid.selection.load import StoredExperiment
from epsgrid.store import observations
from epsgrid.store.records import GridCell, TrialFailure, TrialResult

ID_TAG, STORED_TAG, STATE_TAG = "epsgrid.id", "epsgrid.stored", "epsgrid.state"
NEW, RENEWED, UNCHANGED = "new", "renewed", "unchanged"
_FOLDER = "epsgrid"
_AT_ONCE = 100
_METRICS_AT_ONCE = 1000
_LONGEST_PARAM = 500
_PAGE = 1000


@dataclass(frozen=True)
class Logged:
    """What became of an experiment's trials and its report.

    Attributes:
        experiment: name of the experiment of MLflow.
        new: runs that were logged.
        renewed: runs that were there, of another result or cut short, and were logged again.
        unchanged: runs that were there as they are.
        left_out: trials without an end, which have no run.
    """

    experiment: str
    new: int
    renewed: int
    unchanged: int
    left_out: int

    @property
    def words(self) -> str:
        """The counts in words."""
        parts = [(self.new, "logged"), (self.renewed, "logged again"), (self.unchanged, "already there")]
        told = ", ".join(f"{number} {what}" for number, what in parts if number) or "nothing to log"
        return told + (f"; {count(self.left_out, 'trial')} without an end left out" if self.left_out else "")


def log_experiment(stored: StoredExperiment, files: Sequence[Path], where: str | Path, headline: str = "") -> Logged:
    """Log an experiment: its finished and its failed trials, its probe and its report.

    Args:
        stored: the experiment.
        files: of its report.
        where: as for `epsgrid.integrations.loggers.open_mlflow`.
        headline: the report's verdict, which MLflow shows as the description of the run "report".

    Raises:
        ExecutionError: MLflow is not installed, or refuses; the message says what it says.
        StoreError, CorruptRecordError: a stored file cannot be read.
    """
    if (Path(where) / "experiment.json").exists():
        raise ExecutionError(
            f"--mlflow {where}: that is an experiment's folder; name a folder for MLflow, such as --mlflow mlruns"
        )
    refusals = _refusals()
    try:
        return _log_all(loggers.mlflow_client(where), stored, files, headline)
    except (refusals, OSError, ImportError) as error:
        raise ExecutionError(f"MLflow at {where}: {error}") from error


def _refusals() -> type[Exception]:
    """Return the class of MLflow's own errors."""
    loggers.import_mlflow()
    from mlflow.exceptions import MlflowException

    refusals: type[Exception] = MlflowException
    return refusals


def _log_all(client: Any, stored: StoredExperiment, files: Sequence[Path], headline: str) -> Logged:
    name = stored.experiment.name
    experiment = loggers.mlflow_experiment(client, name)
    there = dict(_there(client, experiment))
    became: Counter[str] = Counter()
    for cell in _ended(stored):
        checksum = _record(stored, cell).checksum
        outcome = _cleared(client, there.get(cell.id), checksum)
        became[outcome] += 1
        if outcome != UNCHANGED:
            run = trial_run(stored, cell, checksum)
            run_id = _created(client, experiment, run)
            _log_observations(client, run_id, stored, cell, run.started)
            _finish(client, run_id, run)
    run = report_run(stored, files, headline)
    outcome = _cleared(client, there.get(run.id), run.stored)
    became[outcome] += 1
    if outcome != UNCHANGED:
        run_id = _created(client, experiment, run)
        _log_report(client, run_id, stored, files)
        _finish(client, run_id, run)
    open_trials = len(stored.states) - len(stored.results) - len(stored.failures)
    return Logged(name, became[NEW], became[RENEWED], became[UNCHANGED], open_trials)


def _record(stored: StoredExperiment, cell: GridCell) -> TrialResult | TrialFailure:
    return stored.results.get(cell.id) or stored.failures[cell.id]


def _ended(stored: StoredExperiment) -> Iterator[GridCell]:
    """Yield the cell of each trial that has a result or failed, once."""
    by_id = {cell.id: cell for cell in (stored.grid.cells if stored.grid else ())}
    for trial, cell in by_id.items():
        if trial in stored.results or trial in stored.failures:
            yield cell


def _there(client: Any, experiment: str) -> Iterator[tuple[str, tuple[str, str | None]]]:
    """Yield of each run of ours the id that we gave it, its own, and the checksum that it ended with."""
    token = None
    while True:
        page = client.search_runs([experiment], max_results=_PAGE, page_token=token)
        for run in page:
            if ID_TAG in run.data.tags:
                yield run.data.tags[ID_TAG], (run.info.run_id, run.data.tags.get(STORED_TAG))
        token = page.token
        if not token:
            return


def _cleared(client: Any, before: tuple[str, str | None] | None, checksum: str) -> str:
    """Say what is to become of a run, and delete the one that is there where it is another."""
    if before is None:
        return NEW
    if before[1] == checksum:
        return UNCHANGED
    client.delete_run(before[0])
    return RENEWED


def _created(client: Any, experiment: str, run: Run) -> str:
    """Begin a run with its settings and numbers; return MLflow's id of it."""
    tags = {ID_TAG: run.id, STATE_TAG: run.state, **run.tags}
    made = client.create_run(experiment, start_time=run.started, tags=tags, run_name=run.name).info.run_id
    _log_batches(client, made, run.params, run.metrics)
    return str(made)


def _finish(client: Any, run_id: str, run: Run) -> None:
    client.set_tag(run_id, STORED_TAG, run.stored)
    client.set_terminated(run_id, run.status, end_time=run.ended)


def _log_batches(client: Any, run_id: str, params: Mapping[str, Any], metrics: Sequence[Measurement]) -> None:
    from mlflow.entities import Metric, Param

    said = [Param(name, _text(value)) for name, value in params.items()]
    for start in range(0, len(said), _AT_ONCE):
        client.log_batch(run_id, params=said[start : start + _AT_ONCE])
    scored = [Metric(loggers.metric_name(name), value, moment, step) for name, value, moment, step in metrics]
    for start in range(0, len(scored), _METRICS_AT_ONCE):
        client.log_batch(run_id, metrics=scored[start : start + _METRICS_AT_ONCE])


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text[:_LONGEST_PARAM]


def _log_observations(client: Any, run_id: str, stored: StoredExperiment, cell: GridCell, moment: int) -> None:
    path = stored.folder.trial(cell.id).observations_jsonl
    series = observations.read(path)
    if series is None or not series.snapshots:
        return
    rows = loggers.scalars_of_all(series).items()
    _log_batches(client, run_id, {}, [(name, value, moment, step) for step, row in rows for name, value in row.items()])
    client.log_artifact(run_id, str(path), _FOLDER)


def _log_report(client: Any, run_id: str, stored: StoredExperiment, files: Sequence[Path]) -> None:
    for path in files:
        client.log_artifact(run_id, str(path), REPORT)
    if stored.bounds is not None:
        client.log_artifact(run_id, str(stored.folder.bounds_json), _FOLDER)
        client.log_dict(run_id, histograms(stored.bounds), f"{_FOLDER}/histograms.json")
