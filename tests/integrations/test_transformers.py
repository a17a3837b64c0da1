"""The real Trainer of transformers, on a model of two layers; nothing is downloaded."""

from __future__ import annotations

import functools
import importlib
import importlib.util
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
from epsgrid.errors import ExecutionError, ObservationError
from epsgrid.observing.diagnosis import EpsilonWarning
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

pytestmark = pytest.mark.skipif(not importlib.util.find_spec("transformers"), reason="transformers not installed")


@functools.cache
def real() -> SimpleNamespace:
    """Import what is tested, and transformers after it; third parties' warnings at import are their own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        own = importlib.import_module("epsgrid.integrations.transformers")
        hf = importlib.import_module("transformers")
        return SimpleNamespace(own=own, Trainer=hf.Trainer, Arguments=hf.TrainingArguments, Callback=hf.TrainerCallback)


def examples() -> list[dict[str, torch.Tensor]]:
    return [{"inputs": inputs, "labels": label} for inputs, label in data()]


def trainer_of(
    folder: Path, callbacks: list[Any], model: nn.Module | None = None, make: Any = adam, **options: Any
) -> Any:
    """Build a Trainer without schedule, shuffling, clipping or reports, unless asked for."""
    training = {"num_train_epochs": 1, "per_device_train_batch_size": BATCH, "max_grad_norm": 0, "use_cpu": True}
    quiet = {"logging_steps": 2, "save_strategy": "no", "report_to": "none", "disable_tqdm": True}
    order = {"train_sampling_strategy": "sequential"}
    arguments = real().Arguments(str(folder), **training | quiet | order | options)
    model = model or Model()
    optimizer = make(model.parameters())
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    return real().Trainer(
        model, arguments, train_dataset=examples(), callbacks=callbacks, optimizers=(optimizer, schedule)
    )


def test_bounds_are_those_of_a_loop_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    callback = real().own.EpsilonCallback()
    trainer_of(tmp_path, [callback], num_train_epochs=3).train()
    expected, _ = by_hand()
    assert callback.bounds.layers == expected.layers
    assert (callback.bounds.low, callback.bounds.high) == (expected.low, expected.high)
    assert callback.observer.step == 3 * EPOCH
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epsgrid")]
    assert line.startswith(f"epsgrid: after {EPOCH} steps, 1 epoch, the bounds of ε for Adam are ")


def test_weights_are_the_same_with_and_without(tmp_path: Path) -> None:
    with_it, without = Model(), Model()
    trainer_of(tmp_path, [real().own.EpsilonCallback()], with_it, num_train_epochs=2).train()
    trainer_of(tmp_path, [], without, num_train_epochs=2).train()
    _, weights = by_hand(epochs=2)
    for name, expected in without.state_dict().items():
        assert torch.equal(with_it.state_dict()[name], expected)
        assert torch.equal(weights[name], expected)


def test_an_optimizer_that_the_trainer_makes_is_observed(tmp_path: Path) -> None:
    callback = real().own.EpsilonCallback()
    trainer = trainer_of(tmp_path, [callback])
    trainer.optimizer = trainer.lr_scheduler = None
    trainer.train()
    assert type(callback.observer.optimizer) is torch.optim.AdamW
    assert callback.bounds == callback.observer.bounds()


def test_the_trainers_log_gets_bounds_and_shares(tmp_path: Path) -> None:
    callback = real().own.EpsilonCallback()
    trainer = trainer_of(tmp_path, [callback])
    trainer.train()
    logged = {row["step"]: row for row in trainer.state.log_history if "loss" in row}
    assert list(logged) == [2, 4, 6]
    low = {step: low for step, low, *_ in callback.observer.series().ends_over_time()}
    assert {step: row["epsgrid/low"] for step, row in logged.items()} == {step: low[step] for step in logged}
    assert logged[6]["epsgrid/adaptable"] == callback.observer.adaptable_fraction().total
    assert not [row for row in trainer.state.log_history if "loss" not in row and "epsgrid/low" in row]


def test_every_reporter_gets_the_damping_of_layers_with_several_epsilons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("tensorboard", "mlflow", "wandb"):
        pytest.importorskip(package)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    class Dampings(real().Callback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, optimizer: Any = None, **_: Any) -> None:
            found[state.global_step] = damping_by_hand(optimizer)

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "events"))
    found: dict[int, float] = {}
    callback, mlflow, wandb = real().own.EpsilonCallback(), import_extra("mlflow"), import_extra("wandb")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wandb.init(dir=str(tmp_path), mode="offline")  # the reporter writes into an open run
        options = {"report_to": ["tensorboard", "mlflow", "wandb"]}
        trainer = trainer_of(tmp_path, [Dampings(), callback], make=two_epsilons, **options)
        trainer.train()
        wandb.finish()
    expected = pytest.approx({step: damping for step, damping in found.items() if step % 2 == 0}, abs=0.01)
    logged = {row["step"]: row["epsgrid/damping"] for row in trainer.state.log_history if "loss" in row}
    assert logged == expected
    events = EventAccumulator(str(tmp_path / "events"))
    events.Reload()
    assert {event.step: event.value for event in events.Scalars("train/epsgrid/damping")} == expected
    client = mlflow.MlflowClient()
    (run,) = client.search_runs(["0"])
    history = client.get_metric_history(run.info.run_id, "epsgrid/damping")
    assert {metric.step: metric.value for metric in history} == logged
    rows = [row for row in wandb_rows(tmp_path) if "train/loss" in row]
    assert {row["train/global_step"]: row["train/epsgrid/damping"] for row in rows} == logged


def alarms(callbacks: list[Any], folder: Path, model: nn.Module | None = None, **options: Any) -> list[str]:
    """Train for 48 batches unless otherwise asked; return the EpsilonWarnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", EpsilonWarning)
        trainer_of(folder, callbacks, model, two_epsilons, **{"num_train_epochs": 8, **options}).train()
    return [str(each.message) for each in caught if each.category is EpsilonWarning]


def test_the_alarm_goes_once_as_a_warning_and_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    callback, logger = real().own.EpsilonCallback(), logging.getLogger("transformers")
    assert callback.diagnosis() is None
    logger.addHandler(caplog.handler)
    try:
        (text,) = alarms([callback], tmp_path)
    finally:
        logger.removeHandler(caplog.handler)
    assert text.startswith("Adam, step 40: ε shortens the steps of 2 of 4 layers")
    assert {record.message for record in caplog.records if "shortens" in record.message} == {f"epsgrid: {text}"}
    assert callback.diagnosis() == callback.observer.diagnosis()
    assert [layer.name for layer in callback.diagnosis().findings] == ["net.2.weight", "net.2.bias"]
    assert alarms([real().own.EpsilonCallback(alarm=False)], tmp_path) == []


def test_an_alarm_ends_no_training_where_warnings_are_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained, alone = Model(), Model()
    trainer_of(tmp_path, [real().own.EpsilonCallback()], trained, two_epsilons, num_train_epochs=8).train()
    assert "EpsilonWarning: Adam, step 40: ε shortens" in capsys.readouterr().err
    trainer_of(tmp_path, [], alone, two_epsilons, num_train_epochs=8).train()
    assert all(torch.equal(weights, trained.state_dict()[name]) for name, weights in alone.state_dict().items())


def test_a_subclass_of_the_callback_comes_before_reporters_too(tmp_path: Path) -> None:
    class Own(real().own.EpsilonCallback):  # type: ignore[misc]
        def on_train_begin(self, *arguments: Any, **options: Any) -> None:
            super().on_train_begin(*arguments, **options)

    class Reporter(real().Callback):  # type: ignore[misc]
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            seen.append("epsgrid/damping" in logs)

    seen: list[bool] = []
    trainer_of(tmp_path, [Reporter(), Own()]).train()
    assert seen == [True, True, True, False], "the last has the time that it took"


def test_the_alarm_counts_steps_and_not_batches(tmp_path: Path) -> None:
    options = {"gradient_accumulation_steps": 3, "num_train_epochs": 24}
    (text,) = alarms([real().own.EpsilonCallback()], tmp_path, **options)
    assert text.startswith("Adam, step 40: ")


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return how many steps and epochs each line names."""
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epsgrid: after ")]
    return [line.removeprefix("epsgrid: after ").partition(", the bounds")[0] for line in lines]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_steps": 4}, "4 steps, within the first epoch"),
        ({"num_train_epochs": 0.5}, "3 steps, within the first epoch"),
        ({"max_steps": 2, "gradient_accumulation_steps": 2}, "2 steps, within the first epoch"),
        ({"gradient_accumulation_steps": 4}, "2 steps, 1 epoch"),
        ({"max_steps": EPOCH}, "6 steps, 1 epoch"),
    ],
)
def test_an_epoch_that_was_cut_short_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: dict[str, Any], words: str
) -> None:
    trainer_of(tmp_path, [real().own.EpsilonCallback()], **options).train()
    assert lines_of(capsys) == [words]


class Stream(torch.utils.data.IterableDataset):  # type: ignore[type-arg]
    def __iter__(self) -> Any:
        return iter(examples())


@pytest.mark.parametrize(
    ("steps", "words"), [(4, "4 steps, within the first epoch"), (EPOCH + 2, f"{EPOCH} steps, 1 epoch")]
)
def test_an_epoch_of_unknown_length(tmp_path: Path, capsys: pytest.CaptureFixture[str], steps: int, words: str) -> None:
    trainer = trainer_of(tmp_path, [real().own.EpsilonCallback()], max_steps=steps)
    trainer.train_dataset = Stream()
    trainer.train()
    assert lines_of(capsys) == [words]


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
@pytest.mark.parametrize(("only_model", "words"), [(False, "6 steps, 1 epoch"), (True, f"{2 + EPOCH} steps, 1 epoch")])
def test_after_a_training_that_was_cut_short_the_next_whole_epoch_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], only_model: bool, words: str
) -> None:
    kept = {"save_strategy": "steps", "save_steps": 4, "save_only_model": only_model}
    trainer_of(tmp_path, [real().own.EpsilonCallback()], max_steps=4, **kept).train()
    assert lines_of(capsys) == ["4 steps, within the first epoch"]
    callback = real().own.EpsilonCallback()
    trainer = trainer_of(tmp_path, [callback], num_train_epochs=2)
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert lines_of(capsys) == [words]
    expected, _ = by_hand()
    assert (callback.bounds.layers == expected.layers) is not only_model


def test_an_optimizer_that_cannot_be_observed_is_refused_before_the_first_step(tmp_path: Path) -> None:
    model, before = Model(), Model().state_dict()
    trainer = trainer_of(tmp_path, [real().own.EpsilonCallback()], model, functools.partial(torch.optim.SGD, lr=1e-2))
    with pytest.raises(ObservationError, match="SGD cannot be observed: it divides by no second moment"):
        trainer.train()
    assert all(torch.equal(weights, before[name]) for name, weights in model.state_dict().items())


def test_after_an_exception_training_may_begin_again(tmp_path: Path) -> None:
    class Stop(real().Callback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 3:
                raise RuntimeError("enough")

    callback = real().own.EpsilonCallback()
    trainer = trainer_of(tmp_path, [callback, Stop()])
    with pytest.raises(RuntimeError, match="enough"):
        trainer.train()
    first = callback.observer
    assert first.step == 3
    callback.close()
    trainer.remove_callback(Stop)
    trainer.train()
    assert callback.observer is not first
    assert callback.observer.step == EPOCH
    assert callback.bounds is not None
    with epsgrid.observe(callback.observer.optimizer, model=trainer.model):
        pass


def test_without_transformers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real()
    monkeypatch.setitem(sys.modules, "transformers.trainer_callback", None)
    monkeypatch.delitem(sys.modules, "epsgrid.integrations.transformers")
    with pytest.raises(ExecutionError, match=r"transformers is needed here .*'epsgrid\[transformers\]'"):
        importlib.import_module("epsgrid.integrations.transformers")


def saved(folder: Path, callbacks: list[Any], steps: int) -> Path:
    trainer_of(folder, callbacks, num_train_epochs=2, save_strategy="steps", save_steps=steps).train()
    return folder / f"checkpoint-{steps}"


@pytest.mark.parametrize("restored_by_the_trainer", [False, True])
@pytest.mark.parametrize("steps", [EPOCH + 2, 4])
def test_a_resumed_training_has_the_bounds_of_the_first_epoch(
    tmp_path: Path, restored_by_the_trainer: bool, steps: int
) -> None:
    path = saved(tmp_path, [real().own.EpsilonCallback()], steps)
    trainer = trainer_of(
        tmp_path,
        [real().own.EpsilonCallback()],
        num_train_epochs=2,
        restore_callback_states_from_checkpoint=restored_by_the_trainer,
    )
    trainer.train(resume_from_checkpoint=str(path))
    (callback,) = [each for each in trainer.callback_handler.callbacks if isinstance(each, real().own.EpsilonCallback)]
    expected, _ = by_hand()
    assert callback.bounds.layers == expected.layers
    assert callback.observer.step == 2 * EPOCH
    assert callback.observer.series().steps[0] == steps + 1


def test_a_training_resumed_beyond_the_probe_without_bounds_has_none(tmp_path: Path) -> None:
    path = saved(tmp_path, [], EPOCH + 2)
    callback = real().own.EpsilonCallback()
    trainer_of(tmp_path, [callback], num_train_epochs=2).train(resume_from_checkpoint=str(path))
    assert callback.bounds is None
    assert callback.observer.step == 2 * EPOCH
