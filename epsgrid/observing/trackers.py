"""Write curves to TensorBoard, MLflow and Weights & Biases: the scores of a trial, or an observed `Series`.

    tracker = Tensorboard.open("runs/mine")                  # or Mlflow.open("mlruns", "mine")
    write_series(observer.series(), tracker)
    tracker.end()

The scalars of a series are in √v̂ units: `epsgrid/low` and `epsgrid/high`, the bounds within 0.8 %;
`epsgrid/threshold`, the magnitude at which the optimizer's own ε has the same weight; and `epsgrid/adaptable`, the
share of the entries above it. Histograms are of log10 √v̂ of the entries other than zero. A diagnosis adds the damping,
the share of their length that ε leaves to the steps: `epsgrid/damping` over all layers, and `epsgrid/damping_dense` and
so on over those of a kind. A series by itself does not say where its optimizer adds ε, and so has none.

Each tracker is an extra of its name. The telemetry of MLflow and W&B stays off unless the environment says otherwise,
and W&B uses no network unless it is asked to.
"""

from __future__ import annotations

import importlib.util
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from epsgrid.extras import not_installed, require
from epsgrid.spec.model import Log
from epsgrid.store.paths import ExperimentFolder
from epsgrid.store.records import EpochRecord, Scores, TrialResult

if TYPE_CHECKING:  # they need numpy, which `epsgrid sweep --dry-run` does without
    import numpy as np
    import numpy.typing as npt

    from epsgrid.numerics.histogram import LogHistogram
    from epsgrid.numerics.series import Series
    from epsgrid.observing.diagnosis import Diagnosis

PREFIX = "epsgrid"
_ID_TAG = "epsgrid.trial"
"""Tag of an MLflow run by which it is found again."""

_QUIET = {
    "mlflow": {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"},
    "wandb": {"WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false", "WANDB_DISABLE_GIT": "true"},
}
_MLFLOW_STATUS = {"done": "FINISHED", "diverged": "FINISHED", "failed": "FAILED"}
_LEAST_FLOAT32 = 2.0**-149

_T = TypeVar("_T")


def require_installed(names: Iterable[str]) -> None:
    """Raise ExecutionError unless trackers can be imported; imports none."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise not_installed(name, name, ModuleNotFoundError(f"No module named {name!r}"))


def import_extra(extra: str, module: str | None = None) -> Any:
    """Import what an extra of epsgrid installs, or raise ExecutionError; a tracker's telemetry is off by default."""
    for name, value in _QUIET.get(extra, {}).items():
        os.environ.setdefault(name, value)
    return require(module or extra, extra)


class Tensorboard:
    """Event files of TensorBoard, written by a SummaryWriter of torch or of tensorboardX."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    @classmethod
    def open(cls, folder: str | Path, purge_step: int | None = None, settings: Mapping[str, Any] | None = None) -> Self:
        """Begin to write into a folder, beside earlier files in it; it is made where it does not exist.

        What was written there from `purge_step` on is shown no more; `settings` are shown as a text.
        """
        tensorboard = import_extra("tensorboard", "torch.utils.tensorboard")
        made = cls(tensorboard.SummaryWriter(str(folder), purge_step=purge_step))
        if settings:
            made._writer.add_text("settings", "  \n".join(f"{name}: {value}" for name, value in settings.items()))
        return made

    def log(self, row: Mapping[str, float], step: int | None = None) -> None:
        """Write numbers by name."""
        for name, value in row.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def log_histograms(self, series: Series, prefix: str = PREFIX) -> None:
        """Write the histograms of a series, as `PREFIX_magnitudes/NAME`."""
        for snapshot in series.snapshots:
            for name, layer in zip(series.names, snapshot.layers, strict=True):
                if layer is None or not layer.nonzero or layer.histogram is None:
                    continue
                limits, counts = _buckets(layer.histogram)
                middles = (limits[1:] + limits[:-1]) / 2
                self._writer.add_histogram_raw(
                    f"{prefix}_magnitudes/{name}",
                    min=limits[0],
                    max=limits[-1],
                    num=int(counts.sum()),
                    sum=float(counts @ middles),
                    sum_squares=float(counts @ middles**2),
                    bucket_limits=limits[1:].tolist(),
                    bucket_counts=counts.tolist(),
                    global_step=snapshot.step,
                )
        self._writer.flush()

    def end(self, state: str = "done", row: Mapping[str, float] | None = None) -> None:
        """Write final numbers and close the files."""
        self.log(row or {})
        self._writer.close()


class Mlflow:
    """A run of MLflow, written by an MlflowClient."""

    def __init__(self, client: Any, run_id: str) -> None:
        self.client, self.run_id = client, run_id

    @classmethod
    def open(
        cls,
        where: str | Path,
        experiment: str = PREFIX,
        run_name: str | None = None,
        *,
        key: str | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> Self:
        """Begin a run, or go on with one; without a network where `where` is a folder.

        Args:
            where: a folder, or a tracking address such as "sqlite:///mlflow.db".
            experiment: name of the experiment, made where it does not exist.
            run_name: name of the run; None lets MLflow choose.
            key: goes on with the run that was opened with this key, if there is one; None always begins a run.
            settings: parameters of a new run.
        """
        mlflow = import_extra("mlflow")
        if "://" not in str(where):
            where = Path(where).absolute().as_uri()
        if str(where).startswith("file:"):
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        client = mlflow.MlflowClient(tracking_uri=str(where))
        known = client.get_experiment_by_name(experiment)
        place = client.create_experiment(experiment) if known is None else known.experiment_id
        if key is not None and (found := client.search_runs([place], f"tags.`{_ID_TAG}` = '{key}'")):
            client.update_run(found[0].info.run_id, status="RUNNING")
            return cls(client, found[0].info.run_id)
        tags = {} if key is None else {_ID_TAG: key}
        run = cls(client, client.create_run(place, run_name=run_name, tags=tags).info.run_id)
        for name, value in (settings or {}).items():
            client.log_param(run.run_id, name, value)
        return run

    def log(self, row: Mapping[str, float], step: int = 0) -> None:
        """Write numbers by name."""
        entities, now = importlib.import_module("mlflow.entities"), int(time.time() * 1000)
        metrics = [entities.Metric(name, value, now, step) for name, value in row.items()]
        if metrics:
            self.client.log_batch(self.run_id, metrics=metrics)

    def log_histograms(self, series: Series, prefix: str = PREFIX) -> None:
        """Write each snapshot of a series as a JSON artifact, `PREFIX/step-00000010.json`; see `Series.from_json`."""
        for snapshot in series.snapshots:
            document = replace(series, snapshots=(snapshot,)).to_json()
            self.client.log_dict(self.run_id, document, f"{prefix}/step-{snapshot.step:08d}.json")

    def end(self, state: str = "done", row: Mapping[str, float] | None = None) -> None:
        """Write final numbers and mark the run as ended."""
        self.log(row or {})
        self.client.set_tag(self.run_id, "epsgrid.state", state)
        self.client.set_terminated(self.run_id, _MLFLOW_STATUS.get(state, "KILLED"))


class _Wandb:
    """A run of Weights & Biases, whose id is that of the trial."""

    def __init__(
        self, folder: Path, project: str, name: str, settings: Mapping[str, Any], mode: Literal["offline", "online"]
    ) -> None:
        wandb = import_extra("wandb")
        folder.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            dir=str(folder),
            project=project,
            id=settings["trial"],
            name=name,
            config=dict(settings),
            mode=mode,
            resume="allow" if mode == "online" else None,
        )

    def log(self, row: Mapping[str, float], step: int) -> None:
        self._run.log({**row, "epoch": step}, step=step)

    def end(self, state: str, row: Mapping[str, float]) -> None:
        self._run.summary.update({**row, "state": state})
        self._run.finish()


class Trackers:
    """The trackers of one trial, as `execution.log` asks for them; a resumed trial goes on in the same place.

    An error of a tracker is reported once in the trial's log, and that tracker is not used any more.
    """

    def __init__(
        self,
        log: Log,
        experiment: ExperimentFolder,
        trial: str,
        identity: Mapping[str, Any],
        warn: Callable[[str], None],
    ) -> None:
        self._log, self._root, self._warn = log, experiment.root, warn
        self._settings = {
            "trial": trial,
            **{name: identity[name] for name in ("learning_rate", "epsilon", "seed")},
            "optimizer": identity["optimizer"]["name"],
            "epochs": identity["training"]["epochs"],
        }
        epsilon = "" if identity["epsilon"] is None else f"-eps{identity['epsilon']:g}"
        # The beginning of the id tells apart trials that differ in other settings.
        self._name = f"lr{identity['learning_rate']:g}{epsilon}-seed{identity['seed']}-{trial[:6]}"
        self._open: dict[str, Tensorboard | Mlflow | _Wandb] = {}

    def start(self, records: Sequence[EpochRecord]) -> None:
        """Open the trackers of a trial that has trained some epochs already, or none."""
        for name in ("tensorboard", "mlflow", "wandb"):
            if getattr(self._log, name):
                opened = self._guarded(name, self._opened, name, len(records))
                if opened is not None:
                    self._open[name] = opened

    def epoch(self, record: EpochRecord) -> None:
        """Write an epoch."""
        row = {"train/loss": record.train_loss, "learning_rate": record.learning_rate, "seconds": record.seconds}
        row |= _scores("validation", record.validation) | _scores("test", record.test)
        for name, tracker in list(self._open.items()):
            self._guarded(name, tracker.log, _finite(row), record.epoch)

    def end(self, state: str, result: TrialResult | None = None) -> None:
        """Write how the trial ended, or that it was interrupted, and close the trackers."""
        row = {}
        if result is not None:
            row = _scores("result/validation", result.validation) | _scores("result/test", result.test)
        for name, tracker in list(self._open.items()):
            self._guarded(name, tracker.end, state, _finite(row))
        self._open.clear()

    def _opened(self, name: str, epochs: int) -> Tensorboard | Mlflow | _Wandb:
        asked, root, settings = getattr(self._log, name), self._root, self._settings
        if name == "wandb":
            return _Wandb(root / name, root.name, self._name, settings, asked)
        where = asked if isinstance(asked, str) else root / name
        if name == "mlflow":
            return Mlflow.open(where, root.name, self._name, key=settings["trial"], settings=settings)
        return Tensorboard.open(Path(where) / self._name, epochs + 1 if epochs else None, None if epochs else settings)

    def _guarded(self, name: str, call: Callable[..., _T], *arguments: Any) -> _T | None:
        try:
            return call(*arguments)
        except Exception as error:  # a tracker must never be what ends a trial
            self._open.pop(name, None)
            self._warn(f"{name}: {type(error).__name__}: {error}; this trial is not logged there any more")
            return None


def _scores(split: str, scores: Scores | None) -> dict[str, float]:
    return {} if scores is None else {f"{split}/loss": scores.loss, f"{split}/metric": scores.metric}


def _finite(row: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in row.items() if math.isfinite(value)}


def scalars(series: Series, prefix: str = PREFIX, diagnosis: Diagnosis | None = None) -> dict[int, dict[str, float]]:
    """Return the curves of a series, named as in the module's description with `prefix` for "epsgrid", by step.

    `diagnosis` is of the last step; what it leaves out as rounding noise sets no bound.
    """
    rows: dict[int, dict[str, float]] = {step: {} for step in series.steps}
    left_out = () if diagnosis is None else diagnosis.left_out
    for step, low, high, *_ in series.ends_over_time(leave_out=left_out):
        rows[step] |= {f"{prefix}/low": low, f"{prefix}/high": high}
    for snapshot in series.snapshots:
        if snapshot.threshold is not None:
            rows[snapshot.step][f"{prefix}/threshold"] = snapshot.threshold
    for step, share in series.adaptable():
        rows[step][f"{prefix}/adaptable"] = share
    if diagnosis is not None and (total := diagnosis.damping) is not None:
        by_kind = {f"{prefix}/damping_{kind}": damping.mean for kind, damping in diagnosis.by_kind.items()}
        latest = series.snapshots[-1]
        rows[latest.step] |= {f"{prefix}/damping": total.mean, **by_kind}
        if latest.threshold is None:  # layers have several ε
            layers = zip(series.names, latest.layers, strict=True)
            finite = [each.zeros + each.nonzero for name, each in layers if each and name not in left_out]
            rows[latest.step][f"{prefix}/adaptable"] = total.adapting * total.moving / sum(finite)
    return rows


def write_series(series: Series, tracker: Tensorboard | Mlflow, prefix: str = PREFIX) -> None:
    """Write a series, such as `Observer.series` returns, as scalars and histograms; `prefix` as in `scalars`."""
    for step, row in scalars(series, prefix).items():
        tracker.log(row, step)
    tracker.log_histograms(series, prefix)


def _buckets(histogram: LogHistogram) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Return edges in log10 √v̂, shape (n + 1,), and the counts between them, shape (n,), of the non-zero entries.

    They reach from the first to the last occupied bin, in which entries beyond float32's range lie too; there is one.
    """
    import numpy as np

    counts = histogram.counts[1:].copy()
    counts[0] += histogram.below_range
    counts[-1] += histogram.above_range
    first, last = np.flatnonzero(counts)[[0, -1]]
    edges = histogram.edges()[first : last + 2]
    # The first bin of all begins at zero, which has no logarithm; its entries are the least float32 and larger.
    edges[0] = max(edges[0], math.sqrt(_LEAST_FLOAT32 * histogram.scale))
    return np.log10(edges), counts[first : last + 1]
