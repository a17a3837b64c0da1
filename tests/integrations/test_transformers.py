"""The real Trainer of transformers, on a model of two layers; nothing is downloaded."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import json
import re
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import epsgrid
from epsgrid.errors import ExecutionError, ObservationError
from epsgrid.numerics.magnitudes import decade_of
from epsgrid.numerics.series import Series
from epsgrid.observing.trackers import import_tracker

pytestmark = pytest.mark.skipif(not importlib.util.find_spec("transformers"), reason="transformers not installed")

EXAMPLES, BATCH, EPOCH = 48, 8, 6


@functools.cache
def real() -> SimpleNamespace:
    """Import what is tested, and transformers after it; third parties' warnings at import are their own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        own = importlib.import_module("epsgrid.integrations.transformers")
        hf = importlib.import_module("transformers")
        return SimpleNamespace(own=own, Trainer=hf.Trainer, Arguments=hf.TrainingArguments, Callback=hf.TrainerCallback)


class Model(nn.Module):
    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
        self.scale = scale

    def forward(self, inputs: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        logits = self.net(inputs)
        return {"loss": nn.functional.cross_entropy(logits, labels) * self.scale, "logits": logits}


def examples() -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(EXAMPLES, 8, generator=generator)
    labels = torch.randint(3, (EXAMPLES,), generator=generator)
    return [{"inputs": one, "labels": label} for one, label in zip(inputs, labels, strict=True)]


def adam(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=1e-2)


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


def by_hand(epochs: int = 1, batch: int = BATCH) -> Any:
    """Train without Trainer; return the bounds and the weights."""
    model, data = Model(), examples()
    optimizer = adam(model.parameters())
    with epsgrid.observe(optimizer, model=model) as observer:
        for _ in range(epochs):
            for start in range(0, EXAMPLES, batch):
                some = data[start : start + batch]
                optimizer.zero_grad()
                model(*(torch.stack([each[what] for each in some]) for what in ("inputs", "labels")))["loss"].backward()
                optimizer.step()
    return observer.bounds(), model.state_dict()


# Bounds and weights


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


def test_accumulated_gradients_are_one_step(tmp_path: Path) -> None:
    callback = real().own.EpsilonCallback()
    trainer_of(tmp_path, [callback], gradient_accumulation_steps=2, per_device_train_batch_size=4).train()
    assert callback.observer.step == EPOCH


def test_several_probe_epochs_and_a_training_shorter_than_the_probe(tmp_path: Path) -> None:
    expected, _ = by_hand(epochs=2)
    for probe_epochs, epochs in ((2, 3), (9, 2)):
        callback = real().own.EpsilonCallback(probe_epochs=probe_epochs)
        trainer_of(tmp_path, [callback], num_train_epochs=epochs).train()
        assert callback.bounds.layers == expected.layers


# Logs


def test_the_trainers_log_gets_bounds_and_shares(tmp_path: Path) -> None:
    callback = real().own.EpsilonCallback()
    trainer = trainer_of(tmp_path, [callback])
    trainer.train()
    logged = {row["step"]: row for row in trainer.state.log_history if "loss" in row}
    assert list(logged) == [2, 4, 6]
    low = {step: low for step, low, _ in callback.observer.series().bounds_over_time()}
    assert {step: row["epsgrid/low"] for step, row in logged.items()} == {step: low[step] for step in logged}
    assert logged[6]["epsgrid/adaptable"] == callback.observer.adaptable_fraction().total
    assert not [row for row in trainer.state.log_history if "loss" not in row and "epsgrid/low" in row]


@pytest.mark.filterwarnings("ignore::FutureWarning:mlflow", "ignore::DeprecationWarning")
def test_reporters_get_numbers_and_histograms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("tensorboard", "mlflow"):
        pytest.importorskip(package)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    address = (tmp_path / "mlruns").as_uri()
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "events"))
    mlflow = import_tracker("mlflow")
    mlflow.set_tracking_uri(address)  # another test may have set it for the whole process
    trainer = trainer_of(tmp_path, [], report_to=["tensorboard", "mlflow"])
    callback = real().own.follow(trainer)
    trainer.train()
    series = callback.observer.series()
    low = {step: low for step, low, _ in series.bounds_over_time()}

    events = EventAccumulator(str(tmp_path / "events"), size_guidance={"histograms": 0})
    events.Reload()
    read = {event.step: event.value for event in events.Scalars("train/epsgrid/low")}
    assert read == pytest.approx({step: low[step] for step in (2, 4, 6)})
    medians = {event.step: event.value for event in events.Scalars("epsgrid_p50/net.0.bias")}
    assert medians == pytest.approx({step: dict(series.over_time("net.0.bias", 0.5))[step] for step in (2, 4, 6)})
    histograms = events.Histograms("epsgrid_magnitudes/net.0.weight")
    assert [(event.step, event.histogram_value.num) for event in histograms] == [(2, 128), (4, 128), (6, 128)]
    assert "epsgrid/low" not in events.Tags()["scalars"]

    client = mlflow.MlflowClient(tracking_uri=address)
    (run,) = client.search_runs(["0"])
    history = client.get_metric_history(run.info.run_id, "epsgrid/low")
    assert {metric.step: metric.value for metric in history} == {step: low[step] for step in (2, 4, 6)}
    path = client.download_artifacts(run.info.run_id, "epsgrid/step-00000004.json")
    (snapshot,) = Series.from_json(json.loads(Path(path).read_text())).snapshots
    assert (snapshot.step, snapshot.epoch) == (4, pytest.approx(4 / EPOCH))


def test_a_trainer_is_followed_once(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, [real().own.EpsilonCallback()])
    with pytest.raises(ObservationError, match="this trainer has an EpsilonCallback already"):
        real().own.follow(trainer)


# What goes wrong


def test_an_optimizer_that_cannot_be_observed_is_refused_before_the_first_step(tmp_path: Path) -> None:
    model = Model()
    before = {name: weights.clone() for name, weights in model.state_dict().items()}
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
    with epsgrid.observe(first.optimizer, model=trainer.model):
        callback.close()
    trainer.remove_callback(Stop)
    trainer.train()
    assert callback.observer is not first
    assert callback.observer.step == EPOCH
    assert callback.bounds is not None
    with epsgrid.observe(callback.observer.optimizer, model=trainer.model):
        pass


def test_without_transformers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    own = real().own
    monkeypatch.setitem(sys.modules, "transformers.trainer_callback", None)
    with pytest.raises(ExecutionError, match=r"transformers cannot be imported .*'epsgrid\[transformers\]'"):
        own._import_callbacks()


# Checkpoints


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


def test_a_fresh_training_forgets_the_bounds_of_the_one_before(tmp_path: Path) -> None:
    callback = real().own.EpsilonCallback()
    trainer = trainer_of(tmp_path, [callback])
    trainer.train()
    first = callback.bounds
    trainer.train()
    assert callback.bounds is not first
    assert callback.observer.step == EPOCH


# The README's example


def test_the_readmes_example(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The statements of the README, with quieter options; its output is this one."""
    from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments, set_seed

    EpsilonCallback = real().own.EpsilonCallback  # noqa: N806 - as it is imported there
    set_seed(0)
    config = BertConfig(
        vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
    )
    words = torch.randint(100, (256, 12))
    data = [{"input_ids": each, "labels": int(each[0] < 50)} for each in words]

    epsilon = EpsilonCallback()
    arguments = TrainingArguments(
        str(tmp_path), num_train_epochs=2, report_to="none", use_cpu=True, save_strategy="no", disable_tqdm=True
    )
    trainer = Trainer(BertForSequenceClassification(config), arguments, train_dataset=data, callbacks=[epsilon])
    trainer.train()
    keys = [layer.name for layer in epsilon.bounds.layers if layer.name.endswith("key.bias")]
    ((_, low, high),) = epsilon.observer.series().thinned(2).bounds_over_time(leave_out=keys)[-1:]

    (told,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epsgrid")]
    assert re.fullmatch(
        r"epsgrid: after 32 steps, 1 epoch, the bounds of ε for AdamW are 1e-1[34] to 0\.1 \(set by"
        r" bert\.encoder\.layer\.\d\.attention\.self\.key\.bias, 32 entries, and classifier\.bias, 2 entries\);"
        r" it trains with 1e-08",
        told,
    )
    assert (decade_of(low), decade_of(high)) == (1e-7, 1e-1)
