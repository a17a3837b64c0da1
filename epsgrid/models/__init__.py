"""ONE FILE PER ARCHITECTURE, in torch.nn only.

A file `models/NAME.py` defines `Options`, the architecture's settings, and `build(options, inputs, outputs)`, where
`inputs` is the shape of one example, such as (3, 32, 32), and `outputs` is the number of classes. Initial weights are
drawn from torch's global generator. A model may have `learning_rate_factors`, numbers by the name of a parameter, which
multiply the learning rate of these. Options are read without torch, so these files import it inside functions only.

A dotted path may also name a class of torch.nn.Module, or a function that returns one. It is called with the keywords
that the spec gives and, if it has parameters of these names, with `inputs` and `outputs`.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Protocol, cast

from epsgrid import plugins
from epsgrid.errors import SpecError
from epsgrid.spec.options import FILLED_IN, CallableOptions, ModelOptions

if TYPE_CHECKING:
    import torch


class ModelPlugin(Protocol):
    """The contents of a file of this folder; see the docstring of the package."""

    Options: type[ModelOptions]

    def build(self, options: Any, inputs: tuple[int, ...], outputs: int) -> torch.nn.Module:
        """Build the model with newly drawn weights, on the CPU, in float32; SpecError if it does not suit the task."""


def load(name: str) -> ModelPlugin:
    """Return the model plug-in called `name`."""
    plugin: ModelPlugin = plugins.load("models", name)
    return plugin


def build(options: ModelOptions, inputs: tuple[int, ...], outputs: int) -> torch.nn.Module:
    """Build the model of a spec; see `ModelPlugin.build`."""
    if not isinstance(options, CallableOptions):
        return load(options.name).build(options, inputs, outputs)
    make = plugins.load("models", options.name)
    try:
        taken = {*inspect.signature(make).parameters}
    except (TypeError, ValueError):
        taken = set()
    filled = {name: value for name, value in zip(FILLED_IN, (inputs, outputs), strict=True) if name in taken}
    return cast("torch.nn.Module", make(**{**filled, **(options.model_extra or {})}))


def require_images(model: str, inputs: tuple[int, ...], smallest: int) -> tuple[int, int, int]:
    """Return `inputs`, the shape of one example, as (channels, height, width).

    Raises SpecError where that is not the shape of an image of at least `smallest` pixels on a side.
    """
    if len(inputs) != 3 or min(inputs[1:]) < smallest:
        raise SpecError(
            f"model {model} needs images of at least {smallest}×{smallest} pixels, as (channels, height, width);"
            f" this task gives {inputs}; take another task, or `model: mlp`, which takes any shape"
        )
    channels, height, width = inputs
    return channels, height, width


def require_text(model: str, inputs: tuple[int, ...]) -> None:
    """Raise SpecError unless examples are word ids: a single id has no axes, so `inputs` of a language task are ()."""
    if inputs != ():
        raise SpecError(
            f"model {model} reads text, and this task gives examples of shape {inputs};"
            " take a language task such as `ptb`, or another model"
        )
