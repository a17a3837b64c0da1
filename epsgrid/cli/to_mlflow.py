"""The option `--mlflow` of the report: log the experiment there as well."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from epsgrid.report.files import WrittenReport
    from epsgrid.store.paths import ExperimentFolder

MlflowOption = Annotated[
    str | None,
    typer.Option(
        "--mlflow",
        metavar="FOLDER|URI",
        help="Log trials, histograms and report to MLflow as well; twice is as good as once.",
        show_default=False,
    ),
]


def log_to_mlflow(folder: ExperimentFolder, written: WrittenReport, where: str) -> None:
    """Log an experiment and its report, and say on stderr what became of it.

    Args:
        folder: of the experiment.
        written: its report.
        where: a folder, or a tracking address.
    """
    from epsgrid.cli.console import err
    from epsgrid.integrations.mlflow_runs import log_experiment
    from epsgrid.report.text.render import headline
    from epsgrid.selection.load import load_experiment

    logged = log_experiment(load_experiment(folder), written.files, where, headline(written.comparison))
    err().print(f"MLflow: experiment {logged.experiment} in {where}: {logged.words}")
