"""Curves of trials in TensorBoard, MLflow and W&B; whatever goes wrong there, the trial does not notice."""

import sys
from types import SimpleNamespace

import pytest

from epsgrid.errors import ExecutionError
from epsgrid.observing import trackers
from epsgrid.store.paths import ExperimentFolder, TrialFolder
from epsgrid.store.records import read_epochs
from epsgrid.trials.train import Pruned
from tests.trials.conftest import make_setting
from tests.trials.test_train import without_times


@pytest.fixture
def experiment(tmp_path):
    return ExperimentFolder(tmp_path / "mine")


def train(experiment, *overrides, stopped_at=None, **options):
    setting = make_setting(*overrides)
    folder = experiment.trial(setting.trial().id)
    if stopped_at is not None:
        setting.stop(folder.path, stopped_at)
    return setting, folder, setting.train(folder.path, **options)


def accuracies(folder: TrialFolder):
    return [epoch.validation.metric for epoch in read_epochs(folder.metrics_jsonl)]


def test_tensorboard_holds_the_curve_of_an_interrupted_trial_once(experiment):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    setting, folder, result = train(experiment, "execution.log.tensorboard=true", stopped_at=20)
    (place,) = (experiment.root / "tensorboard").iterdir()
    assert place.name == f"lr0.01-eps0.0001-seed0-{folder.id[:6]}"
    found = EventAccumulator(str(place)).Reload()
    scalars = found.Scalars("validation/metric")
    assert [scalar.step for scalar in scalars] == [1, 2, 3]
    assert [scalar.value for scalar in scalars] == pytest.approx(accuracies(folder))
    assert found.Scalars("result/test/metric")[0].value == pytest.approx(result.test.metric)
    assert setting.warnings == []


def test_mlflow_holds_one_run_for_a_trial_with_its_settings(experiment):
    pytest.importorskip("mlflow")
    setting, folder, _ = train(experiment, "execution.log.mlflow=true", stopped_at=20)
    assert setting.warnings == []
    client = trackers.Mlflow.open(experiment.root / "mlflow", "other").client
    (run,) = client.search_runs([client.get_experiment_by_name("mine").experiment_id])
    assert (run.data.tags["epsgrid.trial"], run.data.tags["epsgrid.state"]) == (folder.id, "done")
    assert (run.info.status, run.data.params["learning_rate"], run.data.params["epsilon"]) == (
        "FINISHED",
        "0.01",
        "0.0001",
    )
    history = client.get_metric_history(run.info.run_id, "validation/metric")
    assert [(one.step, one.value) for one in history] == list(enumerate(accuracies(folder), start=1))


class FakeWandb:
    """Stands in for the package, which starts a service of its own."""

    def __init__(self, fails_at=None):
        self.calls, self.rows, self.fails_at = [], [], fails_at

    def init(self, **options):
        self.calls.append(options)
        return SimpleNamespace(log=self.log, summary={}, finish=lambda: self.calls.append("finish"))

    def log(self, row, step):
        if step == self.fails_at:
            raise OSError("the service is gone")
        self.rows.append((step, row))


def test_wandb_is_offline_unless_asked_otherwise(experiment, monkeypatch):
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    setting, folder, _ = train(experiment, "execution.log.wandb=offline")
    opened, end = fake.calls
    assert (opened["mode"], opened["id"], opened["project"], end) == ("offline", folder.id, "mine", "finish")
    assert opened["dir"] == str(experiment.root / "wandb") and opened["config"]["learning_rate"] == 0.01
    assert [step for step, _ in fake.rows] == [1, 2, 3]
    assert [row["validation/metric"] for _, row in fake.rows] == accuracies(folder)
    assert setting.warnings == []


def test_a_tracker_that_fails_is_reported_once_and_hurts_nothing(experiment, tmp_path, monkeypatch):
    plain, _, undisturbed = train(ExperimentFolder(tmp_path / "plain"))
    monkeypatch.setitem(sys.modules, "wandb", FakeWandb(fails_at=2))
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    logs = ["execution.log={wandb: offline, tensorboard: true}"]
    setting, _, result = train(experiment, *logs)
    assert without_times(result) == without_times(undisturbed)
    assert [text.split(":")[0] for text in setting.warnings] == ["tensorboard", "wandb"]
    assert "pip install 'epsgrid[tensorboard]'" in setting.warnings[0]
    assert setting.warnings[1] == "wandb: OSError: the service is gone; this trial is not logged there any more"
    assert plain.warnings == []


def test_how_a_trial_ended_is_logged(experiment, monkeypatch):
    fake = FakeWandb()
    summaries = []
    run = SimpleNamespace(log=fake.log, summary=SimpleNamespace(update=summaries.append), finish=lambda: None)
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=lambda **options: run))
    with pytest.raises(Pruned, match="pruned after epoch 1"):
        train(experiment, "execution.log.wandb=offline", stopped_at=3, should_prune=lambda: True)
    assert summaries == [{"state": "interrupted"}, {"state": "pruned"}]


def test_what_is_not_installed_is_reported_before_anything_runs(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    trackers.require_installed([])
    with pytest.raises(ExecutionError, match=r"wandb is needed here .*pip install 'epsgrid\[wandb\]'"):
        trackers.require_installed(["wandb"])
