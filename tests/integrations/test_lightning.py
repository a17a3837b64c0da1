"""The real Lightning, at its smallest: a fit takes a fraction of a second, the import several."""

from __future__ import annotations

import csv
import functools
import importlib
import importlib.util
import json
import logging
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import epsgrid
from epsgrid.errors import DataError, ExecutionError, ObservationError
from epsgrid.integrations import _following
from epsgrid.numerics.precision import power
from epsgrid.numerics.series import Series
from epsgrid.observing.diagnosis import EpsilonWarning
from epsgrid.observing.distributed import gathered_diagnosis
from epsgrid.observing.trackers import import_extra
from tests.integrations.samples import (
    BATCH,
    EPOCH,
    Model,
    adam,
    by_hand,
    damping_by_hand,
    data,
    two_epsilons,
    wandb_rows,
)

pytestmark = [
    pytest.mark.skipif(not importlib.util.find_spec("lightning"), reason="lightning not installed"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec"),
]

RANK_ZERO = "lightning.pytorch.utilities.rank_zero"


@functools.cache
def real() -> SimpleNamespace:
    """Import what is tested, and Lightning after it; third parties' warnings at import are their own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        own = importlib.import_module("epsgrid.integrations.lightning")
        pl = importlib.import_module("lightning.pytorch")
        return SimpleNamespace(own=own, pl=pl, loggers=importlib.import_module("lightning.pytorch.loggers"))


def module(make: Any = adam, scale: float = 1.0, package: Any = None) -> Any:
    class Module((package or real().pl).LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = Model().net

        def training_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
            inputs, targets = batch
            return nn.functional.cross_entropy(self.net(inputs), targets) * scale

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return make(self.net.parameters())

    return Module()


def batches() -> Any:
    return torch.utils.data.DataLoader(data(), batch_size=BATCH)


def trainer_of(package: Any, callbacks: list[Any], folder: Path, **options: Any) -> Any:
    plain = {"max_epochs": 1, "accelerator": "cpu", "enable_checkpointing": False, "logger": False}
    quiet = {"enable_progress_bar": False, "enable_model_summary": False}
    return package.Trainer(**plain | quiet | options, default_root_dir=folder, callbacks=callbacks)


def fit(callback: Any, folder: Path, trained: Any = None, **options: Any) -> Any:
    """Fit a module, the small one unless another is given; return the trainer."""
    trainer = trainer_of(real().pl, [callback] if callback else [], folder, **options)
    trainer.fit(trained or module(), batches())
    return trainer


def test_bounds_are_those_of_a_loop_by_hand_and_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    callback = real().own.EpsilonCallback()
    with caplog.at_level(logging.INFO, RANK_ZERO):
        fit(callback, tmp_path, max_epochs=3)
    expected, _ = by_hand()
    low, high = callback.bounds.low, callback.bounds.high
    assert (low, high, callback.bounds.layers) == (expected.low, expected.high, expected.layers)
    (observer,) = callback.observers
    assert observer.step == 3 * EPOCH
    assert observer.series().steps == tuple(range(1, 3 * EPOCH + 1))
    (told,) = [record.message for record in caplog.records if record.message.startswith("epsgrid")]
    assert told.startswith(
        f"epsgrid: after {EPOCH} steps, 1 epoch, the bounds of ε for Adam are {power(low.decade)} to "
    )
    assert told.endswith("; it trains with 1e-8")


def test_weights_are_the_same_with_and_without(tmp_path: Path) -> None:
    with_it, without = module(), module()
    logger = real().loggers.CSVLogger(tmp_path)
    fit(real().own.EpsilonCallback(), tmp_path, with_it, max_epochs=2, logger=logger, log_every_n_steps=1)
    fit(None, tmp_path, without, max_epochs=2)
    _, weights = by_hand(epochs=2)
    for name, expected in without.state_dict().items():
        assert torch.equal(with_it.state_dict()[name], expected)
        assert torch.equal(weights[name], expected)


def test_several_probe_epochs_and_a_training_shorter_than_the_probe(tmp_path: Path) -> None:
    expected, _ = by_hand(epochs=2)
    for probe_epochs, max_epochs in ((2, 3), (9, 2)):
        callback = real().own.EpsilonCallback(probe_epochs=probe_epochs)
        fit(callback, tmp_path, max_epochs=max_epochs)
        assert callback.bounds.layers == expected.layers
    first = callback.bounds
    fit(callback, tmp_path, max_epochs=max_epochs)
    assert callback.bounds is not first and callback.observers[0].step == 2 * EPOCH, "a second fit is observed again"


def lines_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return how many steps and epochs each line names, and forget them."""
    lines = [record.message for record in caplog.records if record.message.startswith("epsgrid: after ")]
    caplog.clear()
    return [line.removeprefix("epsgrid: after ").partition(", the bounds")[0] for line in lines]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_steps": 4}, "4 steps, within the first epoch"),
        ({"max_steps": 2, "accumulate_grad_batches": 2}, "2 steps, within the first epoch"),
        ({"accumulate_grad_batches": 4}, "2 steps, 1 epoch"),
        ({"limit_train_batches": 0.5}, "3 steps, within the first epoch"),
        ({"limit_train_batches": 4, "max_steps": 2}, "2 steps, within the first epoch"),
        ({"fast_dev_run": True}, "1 steps, within the first epoch"),
        ({"max_steps": EPOCH}, "6 steps, 1 epoch"),
    ],
)
def test_an_epoch_that_was_cut_short_is_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, options: dict[str, Any], words: str
) -> None:
    with caplog.at_level(logging.INFO, RANK_ZERO):
        fit(real().own.EpsilonCallback(), tmp_path, **{"max_epochs": 2, **options})
    assert lines_of(caplog) == [words]


@pytest.mark.parametrize(
    ("steps", "words"), [(4, "4 steps, within the first epoch"), (EPOCH + 2, f"{EPOCH} steps, 1 epoch")]
)
def test_an_epoch_of_unknown_length(tmp_path: Path, caplog: pytest.LogCaptureFixture, steps: int, words: str) -> None:
    class Stream(torch.utils.data.IterableDataset):  # type: ignore[type-arg]
        def __iter__(self) -> Any:
            return iter(data())

    trainer = trainer_of(real().pl, [real().own.EpsilonCallback()], tmp_path, max_epochs=-1, max_steps=steps)
    with caplog.at_level(logging.INFO, RANK_ZERO):
        trainer.fit(module(), torch.utils.data.DataLoader(Stream(), batch_size=BATCH))
    assert lines_of(caplog) == [words]


def test_after_a_fit_that_was_cut_short_the_next_whole_epoch_is_measured(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    callback, resumed = real().own.EpsilonCallback(), real().own.EpsilonCallback()
    with caplog.at_level(logging.INFO, RANK_ZERO):
        trainer = fit(callback, tmp_path, max_epochs=3, max_steps=4)
        provisional = callback.bounds
        trainer.save_checkpoint(tmp_path / "it.ckpt")
        trainer.fit_loop.epoch_loop.max_steps = -1
        trainer.fit(module(), batches())  # with an optimizer of its own
        expected, _ = by_hand()
        assert callback.bounds.layers == expected.layers != provisional.layers
        resume(resumed, tmp_path / "it.ckpt", epochs=2)
    assert lines_of(caplog) == ["4 steps, within the first epoch", "6 steps, 1 epoch", "10 steps, 1 epoch"]
    assert resumed.bounds == resumed.observers[0].bounds()
    assert resumed.observers[0].step == 4 + EPOCH


def test_every_logger_gets_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("tensorboard", "mlflow"):
        pytest.importorskip(package)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    address = (tmp_path / "mlruns").as_uri()
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)  # the logger sets it, and it is put back afterwards
    mlflow = import_extra("mlflow")
    to_csv = real().loggers.CSVLogger(tmp_path, name="csv")
    to_tensorboard = real().loggers.TensorBoardLogger(tmp_path, name="tensorboard")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        to_mlflow = real().loggers.MLFlowLogger("mine", tracking_uri=address)
        callback = real().own.EpsilonCallback()
        fit(callback, tmp_path, logger=[to_csv, to_tensorboard, to_mlflow], log_every_n_steps=2)

    with (Path(to_csv.log_dir) / "metrics.csv").open() as file:
        rows = {int(row["step"]): row for row in csv.DictReader(file)}
    assert list(rows) == [2, 4, 6]
    series = callback.observers[0].series()
    low = {step: low for step, low, *_ in series.ends_over_time()}
    assert {step: float(row["epsgrid/low"]) for step, row in rows.items()} == {step: low[step] for step in rows}
    assert float(rows[6]["epsgrid/adaptable"]) == callback.observers[0].adaptable_fraction().total

    events = EventAccumulator(to_tensorboard.log_dir, size_guidance={"histograms": 0})
    events.Reload()
    assert {event.step: event.value for event in events.Scalars("epsgrid/low")} == pytest.approx(
        {step: low[step] for step in rows}
    )
    histograms = events.Histograms("epsgrid_magnitudes/net.0.weight")
    assert [event.step for event in histograms] == [2, 4, 6]
    assert histograms[0].histogram_value.num == 16 * 8

    client = mlflow.MlflowClient(tracking_uri=address)
    history = client.get_metric_history(to_mlflow.run_id, "epsgrid/low")
    assert {metric.step: metric.value for metric in history} == {step: low[step] for step in rows}
    damping = {step: float(row["epsgrid/damping"]) for step, row in rows.items()}
    assert {event.step: event.value for event in events.Scalars("epsgrid/damping")} == pytest.approx(damping)
    history = client.get_metric_history(to_mlflow.run_id, "epsgrid/damping")
    assert {metric.step: metric.value for metric in history} == damping
    assert damping[6] == callback.diagnosis().damping.mean
    path = client.download_artifacts(to_mlflow.run_id, "epsgrid/step-00000004.json")
    (snapshot,) = Series.from_json(json.loads(Path(path).read_text())).snapshots
    assert (snapshot.step, snapshot.epoch) == (4, pytest.approx(4 / EPOCH))


def dampings(every: int) -> Any:
    """Return a callback that computes the damping by hand every few steps, and keeps it by step in `found`."""

    class Dampings(real().pl.Callback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.found: dict[int, float] = {}

        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            if trainer.global_step and trainer.global_step % every == 0:
                self.found[trainer.global_step] = damping_by_hand(trainer.optimizers[0])

    return Dampings()


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_damping_of_layers_with_several_epsilons_is_logged(tmp_path: Path, accumulate: int) -> None:
    logger, by_hand_, callback = real().loggers.CSVLogger(tmp_path), dampings(2), real().own.EpsilonCallback()
    options = {
        "logger": logger,
        "log_every_n_steps": 2,
        "accumulate_grad_batches": accumulate,
        "max_epochs": accumulate,
    }
    trainer_of(real().pl, [callback, by_hand_], tmp_path, **options).fit(module(two_epsilons), batches())
    with (Path(logger.log_dir) / "metrics.csv").open() as file:
        rows = {int(row["step"]): {name: float(value) for name, value in row.items()} for row in csv.DictReader(file)}
    error = callback.diagnosis().damping.error
    assert {step: row["epsgrid/damping"] for step, row in rows.items()} == pytest.approx(by_hand_.found, abs=2 * error)
    assert list(rows) == [2, 4, 6]
    kinds = {f"epsgrid/damping_{kind}": pool.mean for kind, pool in callback.diagnosis().by_kind.items()}
    assert set(kinds) == {"epsgrid/damping_dense", "epsgrid/damping_bias"}
    assert kinds.items() <= rows[6].items()
    assert rows[6]["epsgrid/adaptable"] == pytest.approx(callback.observers[0].adaptable_fraction().total)


def test_weights_and_biases_get_it_offline(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    wandb, by_hand_ = import_extra("wandb"), dampings(2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger = real().loggers.WandbLogger(save_dir=tmp_path, offline=True)
        options = {"logger": logger, "log_every_n_steps": 2}
        trainer_of(real().pl, [real().own.EpsilonCallback(), by_hand_], tmp_path, **options).fit(
            module(two_epsilons), batches()
        )
        wandb.finish()
    found = {row["trainer/global_step"]: row["epsgrid/damping"] for row in wandb_rows(tmp_path)}
    assert found == pytest.approx(by_hand_.found, abs=0.01)


def alarmed(callback: Any, folder: Path, epsilon: float, **options: Any) -> list[str]:
    """Fit for 48 batches unless otherwise asked; return the EpsilonWarnings."""
    trained = module(functools.partial(two_epsilons, large=epsilon))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", EpsilonWarning)
        fit(callback, folder, trained, **{"max_epochs": 8, **options})
    return [str(each.message) for each in caught if each.category is EpsilonWarning]


def test_the_alarm_goes_once_as_a_warning_and_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    callback = real().own.EpsilonCallback()
    assert callback.diagnosis() is None
    with caplog.at_level(logging.INFO, RANK_ZERO):
        (text,) = alarmed(callback, tmp_path, 1.0)
    assert text.startswith("Adam, step 40: ε shortens the steps of 2 of 4 layers")
    assert "net.2.weight" in text and "net.0.weight" not in text
    assert [record.message for record in caplog.records if "shortens" in record.message] == [f"epsgrid: {text}"]
    assert callback.diagnosis() == callback.observers[0].diagnosis() == gathered_diagnosis(callback.observers[0])
    assert [layer.name for layer in callback.diagnosis().findings] == ["net.2.weight", "net.2.bias"]
    assert alarmed(callback, tmp_path, 1.0), "another fit is watched again"


def test_there_is_no_alarm_unless_it_is_wanted_and_steps_are_short(tmp_path: Path) -> None:
    quiet = real().own.EpsilonCallback(alarm=False)
    assert alarmed(quiet, tmp_path, 1.0) == []
    assert quiet.diagnosis().findings
    assert alarmed(real().own.EpsilonCallback(), tmp_path, 1e-8) == []


def test_an_alarm_ends_no_training_where_warnings_are_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained, alone = (module(two_epsilons) for _ in range(2))
    fit(real().own.EpsilonCallback(), tmp_path, trained, max_epochs=8)
    assert "EpsilonWarning: Adam, step 40: ε shortens" in capsys.readouterr().err
    fit(None, tmp_path, alone, max_epochs=8)
    assert all(torch.equal(weights, trained.state_dict()[name]) for name, weights in alone.state_dict().items())


def test_the_alarm_counts_steps_and_not_batches(tmp_path: Path) -> None:
    (text,) = alarmed(real().own.EpsilonCallback(), tmp_path, 1.0, accumulate_grad_batches=3, max_epochs=24)
    assert text.startswith("Adam, step 40: ")


def test_the_alarm_goes_soon_after_a_training_is_resumed(tmp_path: Path) -> None:
    path = tmp_path / "it.ckpt"
    trained = module(two_epsilons)
    fit(real().own.EpsilonCallback(alarm=False), tmp_path, trained, max_epochs=20).save_checkpoint(path)
    trainer = trainer_of(real().pl, [real().own.EpsilonCallback()], tmp_path, max_epochs=28)
    with pytest.warns(EpsilonWarning, match="Adam, step 160: "):
        trainer.fit(module(two_epsilons), batches(), ckpt_path=path, weights_only=True)


def test_what_a_logger_cannot_take_ends_no_training(tmp_path: Path) -> None:
    class Full(real().loggers.CSVLogger):  # type: ignore[misc]
        def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
            if "epsgrid/low" in metrics:
                raise OSError("disk full")

    with pytest.warns(RuntimeWarning, match="epsgrid: OSError: disk full"):
        trainer = fit(real().own.EpsilonCallback(), tmp_path, logger=Full(tmp_path), log_every_n_steps=1)
    assert trainer.global_step == EPOCH


def test_layers_that_join_during_training_have_their_names_in_curves_and_alarm(tmp_path: Path) -> None:
    """The head is added after an epoch, and its tensor replaced by another after two."""

    class Grows(real().pl.Callback):  # type: ignore[misc]
        def on_train_epoch_end(self, trainer: Any, trained: Any) -> None:
            (optimizer,), head = trainer.optimizers, trained.net[2]
            if trainer.current_epoch == 0:
                optimizer.add_param_group({"params": list(head.parameters()), "eps": 1.0})
            elif trainer.current_epoch == 1:
                head.weight = nn.Parameter(head.weight.detach().clone())
                optimizer.param_groups[1]["params"][0] = head.weight

    class Late(type(module())):  # type: ignore[misc]
        def configure_optimizers(self) -> torch.optim.Optimizer:
            return adam(self.net[0].parameters())

    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger, callback, by_hand_ = real().loggers.TensorBoardLogger(tmp_path), real().own.EpsilonCallback(), dampings(6)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        options = {"max_epochs": 10, "logger": logger, "log_every_n_steps": 6}
        trainer_of(real().pl, [Grows(), callback, by_hand_], tmp_path, **options).fit(Late(), batches())
    (text,) = [str(each.message) for each in caught if each.category is EpsilonWarning]
    assert "net.2.weight: its steps are" in text
    events = EventAccumulator(logger.log_dir, size_guidance={"histograms": 0, "scalars": 0})
    events.Reload()
    names = {f"epsgrid_magnitudes/net.{layer}" for layer in ("0.weight", "0.bias", "2.weight", "2.bias")}
    assert set(events.Tags()["histograms"]) == names
    assert [event.step for event in events.Histograms("epsgrid_magnitudes/net.2.weight")] == list(range(12, 61, 6))
    found = {event.step: event.value for event in events.Scalars("epsgrid/damping")}
    assert found == pytest.approx(by_hand_.found, abs=0.01)
    assert {layer.kind for layer in callback.diagnosis().layers} == {"dense", "bias"}


def adversaries(first: Any, second: Any) -> Any:
    """Two optimizers, stepped by hand, the second every other time."""

    class Adversaries(real().pl.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False
            self.one, self.other = Model().net, Model().net

        def training_step(self, batch: list[torch.Tensor], number: int) -> None:
            inputs, targets = batch
            for net, optimizer in zip((self.one, self.other), self.optimizers(), strict=True):
                if net is self.one or number % 2:
                    optimizer.zero_grad()
                    self.manual_backward(nn.functional.cross_entropy(net(inputs), targets))
                    optimizer.step()

        def configure_optimizers(self) -> list[torch.optim.Optimizer]:
            return [first(self.one.parameters()), second(self.other.parameters())]

    return Adversaries()


def test_several_optimizers_stepped_by_hand(tmp_path: Path) -> None:
    callback = real().own.EpsilonCallback()
    logger = real().loggers.CSVLogger(tmp_path)
    fit(callback, tmp_path, adversaries(adam, torch.optim.RMSprop), logger=logger, log_every_n_steps=3)
    one, other = callback.observers
    assert (one.step, other.step) == (EPOCH, EPOCH // 2)
    expected, _ = by_hand()
    assert callback.all_bounds[0].low.magnitude == expected.low.magnitude
    assert callback.all_bounds[1] == other.bounds()
    with pytest.raises(ObservationError, match=r"2 optimizers are observed: .*all_bounds\[0\]"):
        _ = callback.bounds
    with pytest.raises(ObservationError, match=r"2 optimizers are observed: ask observers\[0\]\.diagnosis\(\)"):
        callback.diagnosis()
    with (Path(logger.log_dir) / "metrics.csv").open() as file:
        names = next(csv.reader(file))
    assert {"epsgrid.0/low", "epsgrid.1/low", "epsgrid.0/damping", "epsgrid.1/damping"} <= set(names)


def test_layers_that_are_frozen_when_an_epoch_ends_keep_their_bounds(tmp_path: Path) -> None:
    class Freezes(real().pl.Callback):  # type: ignore[misc]
        def on_train_batch_start(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            pl_module.requires_grad_(True)

        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            pl_module.requires_grad_(False)

    callback = real().own.EpsilonCallback()
    trainer_of(real().pl, [Freezes(), callback], tmp_path).fit(module(), batches())
    expected, _ = by_hand()
    assert callback.bounds.layers == expected.layers


def test_an_optimizer_with_two_epsilons_is_described_without_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Two(torch.optim.Adam):
        def step(self, closure: Any = None) -> Any:
            (group,) = self.param_groups
            group["eps"], both = 1e-8, group["eps"]
            loss = super().step(closure)
            group["eps"] = both
            return loss

    def two(parameters: Any) -> torch.optim.Optimizer:
        optimizer = Two(parameters)
        optimizer.param_groups[0]["eps"] = (1e-30, 1e-3)
        return optimizer

    callback = real().own.EpsilonCallback()
    with caplog.at_level(logging.INFO, RANK_ZERO):
        fit(callback, tmp_path, module(two))
    (line,) = [record.message for record in caplog.records if record.message.startswith("epsgrid:")]
    assert "the bounds of ε for Two are" in line and "it trains with" not in line


def test_a_model_set_up_by_fabric_has_its_own_names() -> None:
    model = Model()
    real()
    fabric = importlib.import_module("lightning.fabric").Fabric(accelerator="cpu", devices=1)
    wrapped, optimizer = fabric.setup(model, torch.optim.Adam(model.parameters()))
    observer = epsgrid.observe(optimizer, model=wrapped)
    assert [layer.name for layer in observer.layers] == [name for name, _ in model.named_parameters()]


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended")
def test_several_optimizers_count_on_after_a_checkpoint(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Save(real().pl.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            if batch_idx == 2:
                trainer.save_checkpoint(tmp_path / "it.ckpt")

    trainer_of(real().pl, [real().own.EpsilonCallback(), Save()], tmp_path).fit(adversaries(adam, adam), batches())
    caplog.clear()
    resumed = real().own.EpsilonCallback()
    trainer = trainer_of(real().pl, [resumed], tmp_path)
    with caplog.at_level(logging.INFO, RANK_ZERO):
        trainer.fit(adversaries(adam, adam), batches(), ckpt_path=tmp_path / "it.ckpt", weights_only=True)
    assert [observer.step for observer in resumed.observers] == [EPOCH, EPOCH // 2]
    assert lines_of(caplog) == ["6 steps, 1 epoch", "3 steps, 1 epoch"]


def test_an_optimizer_that_cannot_be_observed_is_left_out(tmp_path: Path) -> None:
    callback = real().own.EpsilonCallback()
    with pytest.warns(RuntimeWarning, match="SGD cannot be observed: it divides by no second moment"):
        fit(callback, tmp_path, adversaries(adam, functools.partial(torch.optim.SGD, lr=1e-2)))
    assert len(callback.observers) == 1
    assert callback.bounds is not None


def test_an_only_optimizer_that_cannot_be_observed_is_refused_before_the_first_step(tmp_path: Path) -> None:
    trained, before = module(functools.partial(torch.optim.SGD, lr=1e-2)), module().state_dict()
    with pytest.raises(ObservationError, match="SGD cannot be observed"):
        fit(real().own.EpsilonCallback(), tmp_path, trained)
    assert all(torch.equal(weights, before[name]) for name, weights in trained.state_dict().items())


def test_an_exception_ends_the_observing(tmp_path: Path) -> None:
    class Stop(real().pl.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            if trainer.global_step == 8:
                raise RuntimeError("enough")

    callback = real().own.EpsilonCallback()
    trainer = trainer_of(real().pl, [callback, Stop()], tmp_path, max_epochs=2)
    with pytest.raises(RuntimeError, match="enough"):
        trainer.fit(module(), batches())
    expected, _ = by_hand()
    assert callback.bounds.layers == expected.layers
    (observer,) = callback.observers
    assert observer.step == 8
    with epsgrid.observe(observer.optimizer, [(layer.name, layer.parameter) for layer in observer.layers]):
        pass


def test_bounds_that_cannot_be_had_do_not_end_the_training(tmp_path: Path) -> None:
    callback = real().own.EpsilonCallback()
    with pytest.warns(RuntimeWarning, match="epsgrid: no bounds: none of the 4 layers has finite non-zero"):
        trainer = fit(callback, tmp_path, module(scale=0.0), max_epochs=2)
    assert trainer.global_step == 2 * EPOCH
    assert callback.bounds is None


@pytest.mark.parametrize(("name", "value"), [("every", 0), ("every", 1.5), ("probe_epochs", -1)])
def test_arguments_out_of_range(name: str, value: object) -> None:
    with pytest.raises(ObservationError, match=f"{name} must be a whole number, at least 1, got {value!r}"):
        real().own.EpsilonCallback(**{name: value})


def checkpoint(folder: Path, callback: Any, **options: Any) -> Path:
    trainer = fit(callback, folder, **options)
    trainer.save_checkpoint(folder / "it.ckpt")
    return folder / "it.ckpt"


def resume(callback: Any, path: Path, epochs: int) -> Any:
    trainer = trainer_of(real().pl, [callback], path.parent, max_epochs=epochs)
    trainer.fit(module(), batches(), ckpt_path=path, weights_only=True)
    return trainer


def test_a_resumed_training_has_the_bounds_of_the_first_epoch(tmp_path: Path) -> None:
    first, second = real().own.EpsilonCallback(), real().own.EpsilonCallback()
    resume(second, checkpoint(tmp_path, first), epochs=3)
    assert second.bounds == first.bounds
    assert second.observers[0].step == 3 * EPOCH
    assert second.observers[0].series().steps[0] == EPOCH + 1


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended")
def test_a_training_resumed_within_the_first_epoch_probes_it_to_its_end(tmp_path: Path) -> None:
    class Save(real().pl.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            if trainer.global_step == 2:
                trainer.save_checkpoint(tmp_path / "it.ckpt")

    callback = real().own.EpsilonCallback()
    trainer_of(real().pl, [callback, Save()], tmp_path).fit(module(), batches())
    resumed = real().own.EpsilonCallback()
    resume(resumed, tmp_path / "it.ckpt", epochs=2)
    expected, _ = by_hand(order=[0, 1, 0, 1, 2, 3])  # Lightning does not wind an ordinary loader forward
    assert resumed.bounds.layers == expected.layers
    assert resumed.observers[0].series().steps[0] == 3


def test_a_training_resumed_beyond_the_probe_without_bounds_has_none(tmp_path: Path) -> None:
    late = real().own.EpsilonCallback()
    resume(late, checkpoint(tmp_path, None), epochs=2)
    assert late.bounds is None
    assert late.observers[0].step == 2 * EPOCH


def test_what_a_checkpoint_holds_may_be_damaged() -> None:
    for text in ("", "{}", "null", '{"version": 1, "kept": [{"version": 1}]}'):
        callback = real().own.EpsilonCallback()
        with pytest.warns(RuntimeWarning, match="the bounds in the checkpoint cannot be read"):
            callback.load_state_dict({"epsgrid": text})
        assert callback.bounds is None


@pytest.mark.skipif(not importlib.util.find_spec("pytorch_lightning"), reason="pytorch_lightning not installed")
def test_the_trainer_of_the_other_package_takes_it_too(tmp_path: Path) -> None:

    callback = real().own.EpsilonCallback()
    other = importlib.import_module("pytorch_lightning")
    trainer_of(other, [callback], tmp_path).fit(module(package=other), batches())
    expected, _ = by_hand()
    assert callback.bounds.layers == expected.layers


def test_the_base_is_of_the_package_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    own, names = real().own, ("lightning.pytorch", "pytorch_lightning")
    monkeypatch.setattr(own, "importlib", SimpleNamespace(import_module=lambda name: name))
    for imported, chosen in (((), names[0]), (names[:1], names[0]), (names[1:], names[1]), (names, names[0])):
        monkeypatch.setattr(own, "sys", SimpleNamespace(modules=dict.fromkeys(imported)))
        assert own._import_package() == chosen


def test_without_either_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    own = real().own
    for name in ("lightning.pytorch", "pytorch_lightning"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ExecutionError, match=r"lightning is needed here .*pip install 'epsgrid\[lightning\]'"):
        own._import_package()


def test_a_torchvision_that_cannot_be_imported_is_no_hindrance(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def broken() -> None:
        asked.append(True)
        raise DataError("no such module")

    monkeypatch.setattr(_following, "import_torchvision", broken)
    for installed in (None, True):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name, found=installed: found)
        _following.repair_torchvision()
        assert bool(asked) is bool(installed)
