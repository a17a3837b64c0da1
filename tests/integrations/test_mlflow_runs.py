"""An experiment is logged to MLflow's local store, once however often it is asked for."""

from __future__ import annotations

import importlib.util
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from epsgrid.errors import ExecutionError
from epsgrid.integrations._mlflow_content import REPORT, histograms
from epsgrid.integrations.mlflow_runs import log_experiment
from epsgrid.numerics.magnitudes import LayerStatistics, LayerStatus
from epsgrid.numerics.series import FRACTIONS, LayerSnapshot, Series, Snapshot
from epsgrid.selection.load import StoredExperiment, load_experiment
from epsgrid.store import observations
from epsgrid.store.records import EpochRecord, Scores, append_epoch
from tests.report.simulate import simulate, two_layers

needs_mlflow = pytest.mark.skipif(not importlib.util.find_spec("mlflow"), reason="mlflow not installed")
pytestmark = [
    pytest.mark.xdist_group("mlflow"),
    pytest.mark.filterwarnings("ignore::FutureWarning:mlflow", "ignore::DeprecationWarning:mlflow"),
]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)


def outcome(rate: float, epsilon: float | None, seed: int) -> Any:
    """One trial of each sort: (ε, seed)."""
    return {(1e-4, 0): (0.9, 0.8), (1e-3, 0): "diverged", (1e-4, 1): "failed", (1e-3, 1): "pending"}[(epsilon, seed)]


@pytest.fixture
def stored(tmp_path: Path) -> StoredExperiment:
    """Four trials, of which the done one kept its epochs and a snapshot; and a file of a report."""
    options: dict[str, Any] = {"narrowed": (1e-4, 1e-3), "conventional": None, "rates": (1e-3,), "seeds": (0, 1)}
    made = simulate(tmp_path / "run", outcome, **options)
    done = made.folder.trial(trial(made, 1e-4, 0))
    for epoch in (1, 2):
        scores = Scores(0.5, 0.7 + epoch / 10, {"BLEU (13a)": float(epoch)})
        append_epoch(done.metrics_jsonl, EpochRecord(epoch, math.nan, scores, None, 1e-3, 2.0))
    layers = two_layers()
    observations.write(done.observations_jsonl, series(layers))
    (made.folder.report_dir).mkdir()
    (made.folder.report_dir / "report.md").write_text("a page")
    return load_experiment(made.folder)


def series(layers: list[LayerStatistics]) -> Series:
    held = tuple(LayerSnapshot.of(layer.histogram) for layer in layers if layer.histogram is not None)
    names, entries = tuple(layer.name for layer in layers), tuple(layer.entries for layer in layers)
    return Series(names, ("weight", "bias"), entries, FRACTIONS, (Snapshot(7, 1.0, 1e-4, held),))


def trial(stored: StoredExperiment, epsilon: float, seed: int) -> str:
    assert stored.grid is not None
    return next(cell.id for cell in stored.grid.cells if (cell.epsilon, cell.seed) == (epsilon, seed))


def log(stored: StoredExperiment, where: Path, headline: str = "cannot tell") -> Any:
    return log_experiment(stored, [stored.folder.report_dir / "report.md"], where, headline)


def runs(where: Path) -> dict[str, Any]:
    """What MLflow has, by our ids; each once."""
    from epsgrid.integrations.loggers import mlflow_client

    client = mlflow_client(where)
    experiment = client.get_experiment_by_name("simulated")
    found = client.search_runs([experiment.experiment_id])
    by_id = {run.data.tags["epsgrid.id"]: run for run in found}
    assert len(by_id) == len(found)
    return by_id


@needs_mlflow
def test_every_trial_that_ended_is_a_run(stored: StoredExperiment, tmp_path: Path) -> None:
    logged = log(stored, tmp_path / "mlruns")
    assert (logged.experiment, logged.new, logged.renewed, logged.unchanged, logged.left_out) == (
        "simulated",
        4,
        0,
        0,
        1,
    )
    assert logged.words == "4 logged; 1 trial without an end left out"
    found = runs(tmp_path / "mlruns")
    ended = {
        trial(stored, *point): state
        for point, state in (((1e-4, 0), "done"), ((1e-3, 0), "diverged"), ((1e-4, 1), "failed"))
    }
    assert set(found) == {*ended, REPORT}
    for name, state in ended.items():
        assert found[name].data.tags["epsgrid.state"] == state
        assert found[name].info.status == ("FAILED" if state == "failed" else "FINISHED")
        assert found[name].data.params["epsilon"] in ("0.0001", "0.001")
    assert found[trial(stored, 1e-3, 0)].data.tags["epsgrid.reason"] == "loss is NaN at epoch 2"
    assert "out of memory" in found[trial(stored, 1e-4, 1)].data.tags["epsgrid.reason"]


@needs_mlflow
def test_a_run_holds_settings_epochs_and_magnitudes(stored: StoredExperiment, tmp_path: Path) -> None:
    log(stored, tmp_path / "mlruns")
    from epsgrid.integrations.loggers import mlflow_client

    client = mlflow_client(tmp_path / "mlruns")
    done = runs(tmp_path / "mlruns")[trial(stored, 1e-4, 0)]
    assert done.info.run_name == "lr 1e-3, ε 1e-4, seed 0"
    assert done.info.end_time - done.info.start_time == 10_000
    assert {name: done.data.params[name] for name in ("learning_rate", "seed")} == {
        "learning_rate": "0.001",
        "seed": "0",
    }

    def history(name: str) -> list[tuple[int, float]]:
        return [(each.step, each.value) for each in client.get_metric_history(done.info.run_id, name)]

    assert history("validation_accuracy") == [(1, pytest.approx(0.8)), (2, pytest.approx(0.9))]
    assert history("validation_BLEU _13a_") == [(1, 1.0), (2, 2.0)]
    assert [step for step, value in history("train_loss") if math.isnan(value)] == [1, 2]
    assert history("selected_test_accuracy") == [(4, 0.8)]
    assert history("epsgrid/threshold") == [(7, 1e-4)]
    times = [each.timestamp for each in client.get_metric_history(done.info.run_id, "learning_rate")]
    assert times[1] - times[0] == 2_000
    read = observations.read(Path(client.download_artifacts(done.info.run_id, "epsgrid/observations.jsonl")))
    assert read == observations.read(stored.folder.trial(trial(stored, 1e-4, 0)).observations_jsonl)


@needs_mlflow
def test_the_report_is_a_run_with_its_files_and_histograms(stored: StoredExperiment, tmp_path: Path) -> None:
    log(stored, tmp_path / "mlruns", "optimum inside: yes")
    from epsgrid.integrations.loggers import mlflow_client

    client = mlflow_client(tmp_path / "mlruns")
    report = runs(tmp_path / "mlruns")[REPORT]
    assert report.data.tags["mlflow.note.content"] == "optimum inside: yes"
    assert stored.bounds is not None
    assert report.data.metrics["bound_low_magnitude"] == stored.bounds.low.magnitude
    assert report.data.params["sweep.learning_rates"] == "[0.001]"
    page = Path(client.download_artifacts(report.info.run_id, "report/report.md"))
    assert page.read_text() == "a page"
    binned = json.loads(Path(client.download_artifacts(report.info.run_id, "epsgrid/histograms.json")).read_text())
    assert sum(binned["layers"]["0.weight"]["counts"]) == 5000


@needs_mlflow
def test_logging_twice_doubles_nothing_and_changes_are_logged_again(stored: StoredExperiment, tmp_path: Path) -> None:
    where = tmp_path / "mlruns"
    log(stored, where)
    before = runs(where)
    again = log(stored, where)
    assert (again.new, again.renewed, again.unchanged) == (0, 0, 4)
    assert {name: run.info.run_id for name, run in runs(where).items()} == {
        name: run.info.run_id for name, run in before.items()
    }
    done = trial(stored, 1e-4, 0)
    retrained = {**stored.results, done: replace(stored.results[done], steps=56)}
    (stored.folder.report_dir / "report.md").write_text("another page")
    changed = log(replace(stored, results=retrained), where)
    assert (changed.new, changed.renewed, changed.unchanged) == (0, 2, 2)
    assert runs(where)[done].data.metrics["steps"] == 56


@needs_mlflow
def test_a_run_that_was_cut_short_is_logged_again(
    stored: StoredExperiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from epsgrid.integrations import mlflow_runs

    def refused(*arguments: Any) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as broken, pytest.raises(ExecutionError, match="no space left"):
        broken.setattr(mlflow_runs, "_finish", refused)
        log(stored, tmp_path / "mlruns")
    assert len(runs(tmp_path / "mlruns")) == 1
    logged = log(stored, tmp_path / "mlruns")
    assert (logged.new, logged.renewed) == (3, 1)
    assert {run.info.status for run in runs(tmp_path / "mlruns").values()} == {"FINISHED", "FAILED"}


@needs_mlflow
@pytest.mark.parametrize("state", [{"probe": False, "sweep": False}, {"sweep": False}])
def test_an_experiment_without_trials_has_its_report_alone(tmp_path: Path, state: dict[str, Any]) -> None:
    made = simulate(tmp_path / "run", **state)
    logged = log_experiment(made, [], tmp_path / "mlruns")
    assert (logged.new, logged.left_out, set(runs(tmp_path / "mlruns"))) == (1, 0, {REPORT})


@needs_mlflow
def test_a_place_that_cannot_be_is_told(stored: StoredExperiment, tmp_path: Path) -> None:
    with pytest.raises(ExecutionError, match=r"that is an experiment's folder; name a folder for MLflow"):
        log(stored, stored.folder.root)
    (tmp_path / "file").write_text("")
    with pytest.raises(ExecutionError, match=r"MLflow at .*file"):
        log(stored, tmp_path / "file")


def test_histograms_are_counts_between_edges() -> None:
    from epsgrid.numerics.bounds import estimate_bounds
    from epsgrid.numerics.placement import Placement

    frozen = LayerStatistics.unmeasured("frozen", (3,), LayerStatus.FROZEN)
    weight, bias = two_layers()
    found = histograms(estimate_bounds([weight, bias, frozen], Placement.outside()))["layers"]
    assert set(found) == {"0.weight", "0.bias"}
    edges, counts = np.array(found["0.bias"]["log10_edges"]), found["0.bias"]["counts"]
    expected, _ = np.histogram(np.linspace(-2.3, -2.0, 10), edges + 1e-6)
    assert sum(counts) == 10 and len(edges) == len(counts) + 1
    assert np.abs(np.cumsum(counts) - np.cumsum(expected)).max() <= 1


@needs_mlflow
def test_the_report_command_logs(stored: StoredExperiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from epsgrid.cli.app import app
    from epsgrid.report.compare import compare
    from epsgrid.report.files import WrittenReport
    from epsgrid.stages import report

    written = WrittenReport(compare(stored), (stored.folder.report_dir / "report.md",))
    monkeypatch.setattr(report, "report", lambda folder, **options: written)  # without its figures, which take time
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EPSGRID_OUT", raising=False)
    done = CliRunner().invoke(app, ["report", str(stored.folder.root), "--mlflow", "mlruns", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["experiment"] == "simulated"
    assert "MLflow: experiment simulated in mlruns: 4 logged; 1 trial without an end left out" in done.stderr
    assert set(runs(tmp_path / "mlruns")[REPORT].data.tags) >= {"epsgrid.stored", "mlflow.note.content"}
