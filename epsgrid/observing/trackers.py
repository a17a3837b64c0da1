"""Open the trackers that curves can be written to: TensorBoard, MLflow and Weights & Biases.

None is needed until it is opened; each is an extra of its name. MLflow's and W&B's own telemetry stay off unless the
environment says otherwise, and W&B talks to no network unless it is asked to.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from epsgrid.errors import ExecutionError

_NOT_IN_A_METRIC = re.compile(r"[^0-9A-Za-z_\-. :/]")
_QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
_WANDB_QUIET = {"WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false", "WANDB_DISABLE_GIT": "true"}


def open_tensorboard(folder: str | Path, purge_step: int | None = None) -> Any:
    """Return a SummaryWriter on a folder; whoever opens it closes it.

    Args:
        folder: made where it does not exist; earlier files in it stay.
        purge_step: what was written there from this step on is shown no more; None keeps all.

    Raises:
        ExecutionError: tensorboard is not installed.
    """
    try:
        tensorboard = importlib.import_module("torch.utils.tensorboard")
    except ImportError as error:
        raise not_installed("tensorboard", error) from error
    return tensorboard.SummaryWriter(str(folder), purge_step=purge_step)


@dataclass(frozen=True)
class MlflowRun:
    """A run of MLflow to write to.

    Attributes:
        client: an MlflowClient.
        run_id: the run's.
    """

    client: Any
    run_id: str

    def end(self) -> None:
        """Mark the run as finished."""
        self.client.set_terminated(self.run_id)


def mlflow_client(where: str | Path) -> Any:
    """Return an MlflowClient, without a network where `where` is a folder.

    Args:
        where: a folder, or a tracking address such as "sqlite:///mlflow.db", which MLflow's own extras may be needed
            for. A folder is asked for by allowing it in the environment (MLFLOW_ALLOW_FILE_STORE), unless that says
            something already: newer versions refuse it otherwise.

    Raises:
        ExecutionError: mlflow is not installed.
    """
    mlflow = import_mlflow()
    if "://" not in str(where):
        where = Path(where).absolute().as_uri()
    if str(where).startswith("file:"):
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    return mlflow.MlflowClient(tracking_uri=str(where))


def mlflow_experiment(client: Any, name: str) -> str:
    """Return the id of an experiment of MLflow, made where it does not exist."""
    found = client.get_experiment_by_name(name)
    return str(client.create_experiment(name) if found is None else found.experiment_id)


def import_mlflow() -> Any:
    """Return the module mlflow; its telemetry is off unless the environment says otherwise.

    Raises:
        ExecutionError: it is not installed.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        return importlib.import_module("mlflow")
    except ImportError as error:
        raise not_installed("mlflow", error) from error


def metric_name(name: str) -> str:
    """Return a name that MLflow allows for a metric."""
    return _NOT_IN_A_METRIC.sub("_", name)


def open_wandb(
    folder: Path, project: str, run_id: str, name: str, settings: dict[str, Any], mode: Literal["offline", "online"]
) -> Any:
    """Begin a run of Weights & Biases, or go on with it; whoever opens it finishes it.

    Args:
        folder: where its files go.
        project: name of the project.
        run_id: the run's; the same one goes on.
        name: what the run is called.
        settings: shown beside it.
        mode: "offline" writes files only, which `wandb sync` uploads when somebody wants it.

    Raises:
        ExecutionError: wandb is not installed.
    """
    for variable, value in _WANDB_QUIET.items():
        os.environ.setdefault(variable, value)
    try:
        wandb = importlib.import_module("wandb")
    except ImportError as error:
        raise not_installed("wandb", error) from error
    folder.mkdir(parents=True, exist_ok=True)
    return wandb.init(
        dir=str(folder),
        project=project,
        id=run_id,
        name=name,
        config=settings,
        mode=mode,
        resume="allow" if mode == "online" else None,
    )


def require_installed(names: Iterable[str]) -> None:
    """See that trackers can be imported, without importing them.

    Raises:
        ExecutionError: one cannot.
    """
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise not_installed(name, ModuleNotFoundError(f"No module named {name!r}"))


def not_installed(extra: str, error: ImportError) -> ExecutionError:
    """Return the error that says how to install a tracker."""
    return ExecutionError(f"{extra} cannot be imported ({error}); `pip install 'epsgrid[{extra}]'`")
