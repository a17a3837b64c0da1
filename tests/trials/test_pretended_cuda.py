"""What can be seen of training on CUDA without such a device: torch pretends to have one, and works out no numbers.

Like CUDA it refuses to mix tensors of the device with others; and it refuses to give a number out of one of them, for
which a process would have to wait. So steps that get through have all they need on the device and wait for nothing.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

import epsgrid
from epsgrid import optimizers, plugins, tasks
from epsgrid.spec import parse_spec
from epsgrid.spec.model import Spec
from epsgrid.trials.building import build_model
from epsgrid.trials.step import take_step

REPOSITORY = Path(__file__).parents[2]
CUDA = torch.device("cuda")
STEPS = 3

SPECS = {
    "resnet34": ("synthetic-resnet34", ()),
    "densenet121": ("synthetic-densenet121", ()),
    "vit": ("synthetic-vit", ()),
    "bfloat16": ("synthetic-resnet34", ("training.precision=bfloat16",)),
    "clipped": ("synthetic-vit", ("training.clip_norm=0.25",)),
    "svag": ("digits-mlp-adam", ("training.svag={l: 2}",)),
    "image folder": ("images-mlp", (f"task.root={REPOSITORY}/experiments/smoke/generated-shapes",)),
    "lstm": ("ptb-stand-in", ()),
    "awd_lstm": ("ptb-stand-in", ("model={name: awd_lstm, layers: 2, embedding: 8, hidden: 12}",)),
    "transformer": ("translation-stand-in", ()),
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EPSGRID_CACHE", str(tmp_path / "cache"))


def read(name: str, *overrides: str) -> Spec:
    return parse_spec((REPOSITORY / "experiments" / "smoke" / f"{name}.yaml").read_text(), overrides=overrides)


def train(spec: Spec, *, observed: bool = False) -> list[torch.Tensor]:
    """Take the first steps of a trial on the pretended device; return their losses."""
    plugin, optimizer_plugin = tasks.load(spec.task.name), optimizers.load(spec.optimizer.name)
    data = plugin.prepare(spec.task)
    with FakeTensorMode(allow_non_fake_inputs=True):
        task = plugin.build(spec.task, data, CUDA)
        model = build_model(spec, task, 0, CUDA)
        assert {tensor.device.type for tensor in (*model.parameters(), *model.buffers())} == {"cuda"}
        epsilon = 1e-8 if optimizer_plugin.HAS_EPSILON else None
        optimizer = optimizer_plugin.build(model.parameters(), spec.optimizer, 1e-3, epsilon)
        observer = epsgrid.observe(optimizer, model=model) if observed else None
        model.train()
        batches = task.batches(0, 0, spec.training.batch_size)
        losses = [take_step(task, model, optimizer, next(batches), spec.training) for _ in range(STEPS)]
        if observer is not None:
            observer.close()
    return losses


@pytest.mark.parametrize("name", SPECS)
def test_a_step_stays_on_the_device_and_waits_for_nothing(name: str) -> None:
    file, overrides = SPECS[name]
    losses = train(read(file, *overrides))
    assert [loss.device.type for loss in losses] == ["cuda"] * STEPS


@pytest.mark.parametrize("name", [each for each in plugins.names("optimizers")])
def test_every_optimizer_steps_on_the_device_and_waits_for_nothing(name: str) -> None:
    assert len(train(read("digits-mlp-adam", f"optimizer={name}"))) == STEPS


@pytest.mark.parametrize("name", ["adam", "adabelief"])
def test_counting_at_every_step_waits_for_nothing(name: str) -> None:
    assert len(train(read("digits-mlp-adam", f"optimizer={name}"), observed=True)) == STEPS


def test_what_would_wait_or_leave_the_device_is_seen() -> None:
    with FakeTensorMode():
        here, there = torch.zeros(2), torch.zeros(2, device=CUDA)
        with pytest.raises(DataDependentOutputException):
            there.sum().item()
        with pytest.raises(RuntimeError, match="device"):
            here + there
