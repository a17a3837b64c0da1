import dataclasses
from types import SimpleNamespace

import pytest
import torch

from epsgrid import optimizers
from epsgrid.errors import StoreError
from epsgrid.store.atomic import write_bytes
from epsgrid.store.paths import TrialFolder
from epsgrid.store.records import EpochRecord, Scores, read_epochs
from epsgrid.tasks import Metric
from epsgrid.trials import checkpoint
from epsgrid.trials.building import seed_epoch
from epsgrid.trials.device import computes_in_bfloat16, one_thread
from epsgrid.trials.train import _best_epoch, _Run, score, take_step
from tests.trials.conftest import make_setting


def without_times(result):
    return dataclasses.replace(result, seconds=0.0)


def curves(folder):
    return [dataclasses.replace(epoch, seconds=0.0) for epoch in read_epochs(TrialFolder(folder).metrics_jsonl)]


def test_training_equals_a_plain_loop(setting, tmp_path):
    result = setting.train(tmp_path / "trial")
    model = setting.model()
    optimizer = optimizers.load("adam").build(model.parameters(), setting.spec.optimizer, 1e-2, 1e-4)
    losses, scores = [], []
    for epoch in range(3):
        optimizer.param_groups[0]["lr"] = 1e-2 if epoch < 2.25 else 1e-3
        seed_epoch(0, epoch)
        model.train()
        total = 0.0
        batches = list(setting.task.batches(0, epoch, 64))
        for batch in batches:
            optimizer.zero_grad()
            loss = setting.task.loss(model, batch)
            loss.backward()
            optimizer.step()
            total += loss.item()
        losses.append(total / len(batches))
        model.eval()
        with torch.inference_mode():
            scores.append(setting.task.evaluate(model, "validation")["accuracy"])
    epochs = read_epochs(TrialFolder(tmp_path / "trial").metrics_jsonl)
    assert [epoch.train_loss for epoch in epochs] == pytest.approx(losses, rel=1e-6)
    assert [epoch.validation.metric for epoch in epochs] == scores
    assert result.validation.metric == max(scores)
    assert result.selected_epoch == 1 + scores.index(max(scores))


@pytest.mark.skipif(not torch.set_flush_denormal(False), reason="this processor cannot flush subnormal numbers")
def test_only_the_pass_takes_subnormal_numbers_for_zero(setting):
    model = torch.nn.Linear(2, 1, bias=False, dtype=torch.float32)
    task = SimpleNamespace(loss=lambda model, batch: (model.weight * batch).sum())
    optimizer = torch.optim.Adam(model.parameters(), 1e-2, eps=1e-20)
    take_step(task, model, optimizer, torch.tensor([[1e-39, 1e-20]]), setting.spec.training)
    assert model.weight.grad.tolist() == [[0, pytest.approx(1e-20)]]
    square = optimizer.state[model.weight]["exp_avg_sq"]
    assert square.tolist() == [[0, pytest.approx(1e-43, rel=0.01)]], "what the step works out is left alone"


@pytest.mark.parametrize("steps", [0, 7, 16, 17, 40])
def test_a_stopped_trial_goes_on_bit_for_bit(setting, tmp_path, steps):
    whole = setting.train(tmp_path / "whole")
    setting.stop(tmp_path / "stopped", steps)
    resumed = setting.train(tmp_path / "stopped")
    assert without_times(resumed) == without_times(whole)
    assert curves(tmp_path / "stopped") == curves(tmp_path / "whole")


def test_many_stops_change_nothing(setting, tmp_path):
    whole = setting.train(tmp_path / "whole")
    for _ in range(4):
        setting.stop(tmp_path / "stopped", 9)
    assert without_times(setting.train(tmp_path / "stopped")) == without_times(whole)


def test_metrics_ahead_of_the_checkpoint_are_trained_again(setting, tmp_path):
    folder = TrialFolder(tmp_path / "trial")
    whole = setting.train(tmp_path / "whole")
    setting.stop(folder.path, 20)
    lines = folder.metrics_jsonl.read_text()
    folder.metrics_jsonl.write_text(lines + '{"half a li')
    assert without_times(setting.train(folder.path)) == without_times(whole)
    assert curves(folder.path) == curves(tmp_path / "whole")


def test_a_damaged_checkpoint_is_reported_and_the_trial_starts_over(setting, tmp_path):
    folder = TrialFolder(tmp_path / "trial")
    whole = setting.train(tmp_path / "whole")
    setting.stop(folder.path, 20)
    folder.checkpoint.write_bytes(folder.checkpoint.read_bytes()[:1000])
    assert without_times(setting.train(folder.path)) == without_times(whole)
    assert len(setting.warnings) == 1
    assert "unreadable checkpoint" in setting.warnings[0]
    assert "starting this trial over" in setting.warnings[0]


def test_a_checkpoint_of_another_trial_is_not_used(setting, tmp_path):
    setting.stop(tmp_path, 20)
    setting.train(tmp_path, setting.trial(epsilon=1e-2))
    assert "another trial" in setting.warnings[0]


def test_a_checkpoint_that_cannot_be_written_ends_no_training_and_leaves_the_one_before(setting, tmp_path, monkeypatch):
    whole, written = setting.train(tmp_path / "whole"), []

    def full(path, content):
        if written:
            raise StoreError(f"cannot write {path}: the disk is full")
        written.append(path)
        write_bytes(path, content)

    monkeypatch.setattr(checkpoint, "write_bytes", full)
    assert without_times(setting.train(tmp_path / "trial")) == without_times(whole)
    assert [line.partition(": ")[2] for line in setting.warnings] == [
        "the disk is full; training goes on without this checkpoint"
    ]
    folder = TrialFolder(tmp_path / "trial")
    assert checkpoint.load_checkpoint(folder.checkpoint, setting.trial().id).epoch == 1
    assert without_times(setting.train(tmp_path / "trial")) == without_times(whole), "it goes on from there"


def test_a_diverged_trial_is_a_result_and_ends_early(tmp_path):
    setting = make_setting("optimizer=sgdm", "training.epochs=50")
    result = setting.train(tmp_path / "trial", setting.trial(learning_rate=1e30, epsilon=None))
    assert result.state == "diverged"
    assert "no longer finite in epoch" in result.reason
    assert result.epochs_trained < 50


def test_trials_of_a_seed_share_weights_and_batches(setting, tmp_path):
    """With an ε so large that nothing moves, the first loss is the same at any learning rate."""
    one = setting.train(tmp_path / "one", setting.trial(learning_rate=1e-3, epsilon=1e30))
    two = setting.train(tmp_path / "two", setting.trial(learning_rate=1e-1, epsilon=1e30))
    other = setting.train(tmp_path / "other", setting.trial(learning_rate=1e-1, epsilon=1e30, seed=1))
    assert one.validation == two.validation
    assert one.validation != other.validation


def test_published_protocol_selects_on_test(tmp_path):
    setting = make_setting("training.selection=test")
    result = setting.train(tmp_path / "trial")
    epochs = read_epochs(TrialFolder(tmp_path / "trial").metrics_jsonl)
    assert result.validation is None
    assert result.test.metric == max(epoch.test.metric for epoch in epochs)


def test_test_split_is_scored_once_with_the_best_weights(tmp_path, monkeypatch):
    constant = ("training.schedule.milestones=[]", "model.dropout=0")
    setting = make_setting("training.epochs=8", *constant)
    splits, evaluate = [], type(setting.task).evaluate

    def counted(task, model, split):
        splits.append(split)
        return evaluate(task, model, split)

    monkeypatch.setattr(type(setting.task), "evaluate", counted)
    result = setting.train(tmp_path / "trial", setting.trial(learning_rate=0.3, epsilon=1e-8))
    assert splits == ["validation"] * 8 + ["test"]
    monkeypatch.undo()
    shorter = make_setting(f"training.epochs={result.selected_epoch}", *constant)
    assert result.selected_epoch < 8, "the setting no longer shows a best epoch before the last"
    last = shorter.train(tmp_path / "shorter", shorter.trial(learning_rate=0.3, epsilon=1e-8))
    assert last.test == result.test


def test_average_of_the_last_epochs_is_scored(tmp_path):
    setting = make_setting("training.average_last=2")
    whole = setting.train(tmp_path / "whole")
    weights = []
    for epochs in (2, 3):
        run = _Run(
            setting.spec, setting.trial(), setting.task, TrialFolder(tmp_path / str(epochs)), torch.device("cpu")
        )
        run.resume(setting.warnings.append)
        with one_thread():
            while run.epoch < epochs:
                run.train_epoch(lambda: False)
        weights.append({name: value.double() for name, value in run.model.state_dict().items()})
    run.model.load_state_dict({name: (value + weights[1][name]) / 2 for name, value in weights[0].items()})
    assert whole.test == score(run.task, run.model, "test")
    assert whole.validation == score(run.task, run.model, "validation")
    assert whole.selected_epoch is None
    setting.stop(tmp_path / "stopped", 40)
    assert without_times(setting.train(tmp_path / "stopped")) == without_times(whole)


@pytest.mark.parametrize(("direction", "best"), [("max", 2), ("min", 1)])
def test_best_epoch_is_the_earliest_of_equals_and_never_a_diverged_one(direction, best):
    nan = float("nan")
    values = [(1.0, 0.2), (1.0, 0.5), (1.0, 0.5), (1.0, 0.2), (nan, 0.9), (nan, 0.0)]
    records = [EpochRecord(n + 1, 1.0, Scores(*value), None, 0.1, 0.0) for n, value in enumerate(values)]
    metric = Metric("accuracy", direction, "%")
    assert _best_epoch(records, metric).epoch == best and _best_epoch([], metric) is None


def test_bfloat16_trains(tmp_path):
    if not computes_in_bfloat16(torch.device("cpu")):
        pytest.skip("this processor does not compute in bfloat16")
    setting = make_setting("training.precision=bfloat16", "training.epochs=2")
    result = setting.train(tmp_path / "trial")
    assert result.state == "done"
    assert result.validation.metric > 0.5
