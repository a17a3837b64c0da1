"""What can be seen without a GPU of training on one: that all a step needs is there, and that it waits for nothing.

The device is torch's `meta`, which works out shapes and no numbers. A number that is asked of it is an error, where on
a GPU a process would wait for it; a mode of our own makes it an error, as on a GPU, to mix its tensors with others.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import epsgrid
from epsgrid import optimizers, plugins, tasks
from epsgrid.observing import stepping
from epsgrid.observing.probing import Probing
from epsgrid.spec.loading import parse_spec
from epsgrid.spec.model import Spec
from epsgrid.tasks import Task
from epsgrid.trials.building import build_model
from epsgrid.trials.train import take_step

REPOSITORY = Path(__file__).parents[2]
DEVICE = torch.device("meta")
STEPS = 3
_FUSED = "_get_fused_kernels_supported_devices"

SPECS = {
    "resnet18": ("synthetic-resnet34", ("model={name: resnet18, width: 4}",)),
    "resnet34": ("synthetic-resnet34", ()),
    "densenet121": ("synthetic-densenet121", ()),
    "vit": ("synthetic-vit", ()),
    "vgg11": ("synthetic-resnet34", ("model=vgg11", "task.shape=[3, 32, 32]")),
    "alexnet": ("synthetic-resnet34", ("model=alexnet", "task.shape=[3, 32, 32]")),
    "mlp": ("digits-mlp-adam", ()),
    "clipped": ("synthetic-vit", ("training.clip_norm=0.25",)),
    "svag": ("digits-mlp-adam", ("training.svag={l: 2}",)),
    "image folder": ("images-mlp", (f"task.root={REPOSITORY}/experiments/smoke/generated-shapes",)),
    "lstm": ("ptb-stand-in", ()),
    "awd_lstm": ("ptb-stand-in", ("model={name: awd_lstm, layers: 2, embedding: 8, hidden: 12}",)),
    "gpt": ("ptb-stand-in", ("model={name: gpt, width: 16, layers: 1, parametrization: mup, base_width: 8}",)),
    "transformer": ("translation-stand-in", ()),
}


class Apart(TorchDispatchMode):
    """Refuse to mix tensors of the device with others, but for scalars, as a GPU does; moving them is allowed."""

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: tuple[Any, ...] = (), keywords: dict[str, Any] | None = None
    ) -> Any:
        tensors = [each for each in tree_leaves((arguments, keywords)) if isinstance(each, torch.Tensor) and each.dim()]
        if len({each.device for each in tensors}) > 1 and function is not torch.ops.aten.copy_.default:
            raise RuntimeError(f"{function} mixes {' and '.join(sorted({str(each.device) for each in tensors}))}")
        if function is torch.ops.aten._fused_sgd_.default:
            return None  # torch has forgotten that this one can be pretended too
        return function(*arguments, **(keywords or {}))


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("EPSGRID_CACHE", str(tmp_path / "cache"))
    # What a GPU has and meta has not: autocast, which is not on here, and fused kernels, which work out nothing there.
    monkeypatch.setattr(torch, "autocast", lambda device, kind, *, enabled: contextlib.nullcontext())
    monkeypatch.setitem(vars(sys.modules["torch.optim.optimizer"]), _FUSED, lambda: [DEVICE.type])
    with Apart():
        yield


def prepare(name: str, *overrides: str) -> tuple[Spec, Task, torch.nn.Module, torch.optim.Optimizer]:
    """Build what a smoke version trains, on the device."""
    file = REPOSITORY / "experiments" / "smoke" / f"{name}.yaml"
    spec: Spec = parse_spec(file.read_text(), overrides=overrides)
    task_plugin, plugin = tasks.load(spec.task.name), optimizers.load(spec.optimizer.name)
    task = task_plugin.build(spec.task, task_plugin.prepare(spec.task), DEVICE)
    model = build_model(spec, task, 0, DEVICE)
    assert {tensor.device for tensor in (*model.parameters(), *model.buffers())} == {DEVICE}
    epsilon = 1e-8 if plugin.DEFAULT_EPSILON else None
    return spec, task, model, plugin.build(model.parameters(), spec.optimizer, 1e-3, epsilon)


def train(name: str, *overrides: str, watched: bool = False) -> list[torch.Tensor]:
    """Take the first steps of a smoke version; return their losses."""
    spec, task, model, optimizer = prepare(name, *overrides)
    with epsgrid.observe(optimizer, model=model) if watched else contextlib.nullcontext():
        batches = task.batches(0, 0, spec.training.batch_size)
        return [take_step(task, model.train(), optimizer, next(batches), spec.training) for _ in range(STEPS)]


@pytest.mark.parametrize("name", SPECS)
def test_a_step_of_every_model_and_kind_of_task_stays_on_the_device(name: str) -> None:
    file, overrides = SPECS[name]
    assert [loss.device for loss in train(file, *overrides)] == [DEVICE] * STEPS


def test_no_model_is_left_out() -> None:
    assert set(plugins.names("models")) <= set(SPECS)


@pytest.mark.parametrize("name", plugins.names("optimizers"))
def test_a_step_of_every_optimizer_stays_on_the_device(name: str) -> None:
    assert len(train("digits-mlp-adam", f"optimizer={name}")) == STEPS


def test_counting_at_every_step_waits_for_nothing() -> None:
    assert len(train("digits-mlp-adam", watched=True)) == STEPS


@pytest.mark.parametrize("name", ["digits-mlp-adam", "ptb-stand-in", "translation-stand-in"])
def test_a_probe_waits_for_nothing_but_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []  # whether the loss has moved the weights: after the first step
    monkeypatch.setattr(stepping.torch, "allclose", lambda *tensors, **_: asked.append(tensors) or True)
    spec, task, model, optimizer = prepare(name)
    batches = task.batches(0, 0, spec.training.batch_size)
    with Probing(model, optimizer, task.loss, clip_norm=1.0) as probing:
        for _ in range(STEPS):
            probing.step(next(batches))
    assert (probing.steps, len(asked)) == (STEPS, len(list(model.parameters())))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: torch.zeros(2, device=DEVICE) + torch.zeros(2), r"mixes|not on the expected device"),
        (lambda: torch.zeros(2, 2) @ torch.zeros(2, 2, device=DEVICE), "mixes cpu and meta"),
        (lambda: torch.zeros(2, device=DEVICE)[torch.tensor([0])], "mixes cpu and meta"),
        (lambda: torch.zeros(2, device=DEVICE).sum().item(), "cannot be called on meta"),
        (lambda: bool(torch.zeros(2, device=DEVICE).isnan().any()), "cannot be called on meta"),
        (lambda: torch.zeros(2, device=DEVICE).cpu().numpy(), "meta"),
    ],
)
def test_what_would_mix_or_wait_is_seen(wrong: Callable[[], object], words: str) -> None:
    with pytest.raises((RuntimeError, NotImplementedError), match=words):
        wrong()
