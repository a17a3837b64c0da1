"""Go through a training once and store nothing, so that a mistake is told once, before trials fail for it."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from epsgrid.errors import SpecError
from epsgrid.models._language import LanguageOutput
from epsgrid.selection.trained import margin_of
from epsgrid.spec.model import Spec
from epsgrid.spec.trial import plugin_names
from epsgrid.tasks import Metric, Split, Task
from epsgrid.trials import svag
from epsgrid.trials.building import build_model, build_optimizer, seed_epoch, user_errors
from epsgrid.trials.checkpoint import KeptWeights
from epsgrid.trials.train import score, take_step

_WANTED = ("in_features", "in_channels", "num_features")
"""Attributes of torch's layers for how many numbers, or channels, an input must have."""


def check_margin(spec: Spec, metric: Metric) -> None:
    """Raise SpecError where the report's margin does not suit the metric."""
    margin_of(spec.report.margin, metric, 1.0)


def rehearse(
    spec: Spec, task: Task, device: torch.device, rate: float, epsilon: float | None, seed: int, *, to_the_end: bool
) -> None:
    """Take the first step of a training with a seed at a learning rate and an ε, None for an optimizer without.

    With `to_the_end` also make a checkpoint in memory, and score the initial weights once as after each epoch: then all
    of a trial is done that can fail, and all is held that takes memory. With plug-ins of the user's the test split is
    scored too, which a trial does once; our own tasks can, and to translate one may take longer than an epoch. Raises
    SpecError where the model does not fit the task, a plug-in of the user's raises, an epoch has no step, the first
    loss is not finite, or the report's margin does not suit the task's metric.
    """
    training = spec.training
    check_margin(spec, task.metric)

    def check_outputs(model: torch.nn.Module, given: Any, output: Any) -> None:
        if ":" in spec.task.name or isinstance(output, LanguageOutput):
            return
        if not isinstance(output, torch.Tensor):
            raise SpecError(
                f"model {spec.model_name} gives a {type(output).__name__}; task {spec.task.name} needs a tensor whose"
                f" last axis has {task.outputs} numbers"
            )
        if output.shape[-1:] != (task.outputs,):
            raise SpecError(
                f"model {spec.model_name} gives outputs of shape {tuple(output.shape)}; the last number must be"
                f" {task.outputs} for task {spec.task.name}: a parameter called `outputs` is filled in with it"
            )
        if not task.inputs and output.shape[:-1] != given[0].shape:
            raise SpecError(
                f"model {spec.model_name} gives outputs of shape {tuple(output.shape)} for word ids"
                f" {tuple(given[0].shape)}; they must be (time, batch, words) for ids (time, batch)"
            )

    spec, rate, epsilon = svag.settings(spec, rate, epsilon)
    kept = KeptWeights()
    with user_errors(spec, task):
        model = build_model(spec, task, seed, device)
        optimizer = build_optimizer(spec, model, rate, epsilon)
        model.register_forward_hook(check_outputs)
        seed_epoch(seed, 0)
        task.begin_epoch(model, training.batch_size)
        model.train()
        if to_the_end:
            kept.replace(model)
        batch = next(iter(svag.batches(task, training, seed, 0, 0)), None)
        if batch is None:
            raise SpecError(f"training.batch_size: {training.batch_size:,} leaves no batch in an epoch; take fewer")
        with _failing_layer_noted(model):
            loss = float(take_step(task, model, optimizer, batch, training))
    if not math.isfinite(loss):
        raise SpecError(
            f"the loss of the first batch is {loss} before any step, so no learning rate can train this: look for NaN"
            " in the data, or in what the model computes from its initial weights"
        )
    if to_the_end:
        splits: list[Split] = [training.selection]
        if training.selection != "test" and any(":" in name for name in plugin_names(spec)):
            splits.append("test")
        with user_errors(spec, task):
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "kept": kept.total}
            torch.save(state, io.BytesIO())
            kept.load_into(model)  # a step at a large learning rate may have made weights that nobody can score
            for split in splits:
                score(task, model, split)


@contextmanager
def _failing_layer_noted(model: torch.nn.Module) -> Iterator[None]:
    """Add to an error that arises inside the name of the innermost layer that was computing, and what it was given."""
    entered: list[str] = []

    def enter(name: str, layer: torch.nn.Module, given: tuple[Any, ...]) -> None:
        shapes = [tuple(each.shape) for each in given if isinstance(each, torch.Tensor)]
        wanted = next((getattr(layer, each) for each in _WANTED if isinstance(getattr(layer, each, None), int)), None)
        axis = 1 if hasattr(layer, "kernel_size") or hasattr(layer, "num_features") else -1
        found = shapes[0][axis] if shapes and len(shapes[0]) > 1 else None
        misfit = wanted is not None and found is not None and wanted != found
        where = f"the model's layer `{name}`" if name else "the model"
        what = f"wants {wanted} and got {found}, in" if misfit else "was given"
        entered.append(f"{where}, {type(layer).__name__}, {what} {' and '.join(map(str, shapes)) or 'no tensor'}")

    def leave(*_: Any) -> None:
        entered.pop()

    hooks = []
    for name, layer in model.named_modules():
        if not isinstance(layer, torch.jit.ScriptModule):
            hooks.append(layer.register_forward_pre_hook(partial(enter, name)))
            hooks.append(layer.register_forward_hook(leave))
    try:
        yield
    except Exception as error:
        if entered:
            error.add_note(entered[-1])
        raise
    finally:
        for hook in hooks:
            hook.remove()
