"""ONE FILE PER ARCHITECTURE, in torch.nn only.

A file `models/NAME.py` defines

    class Options(ModelOptions)       the architecture's settings, with their defaults
    def build(options, inputs, outputs) -> torch.nn.Module

where `inputs` is the shape of one example without the batch axis, such as (3, 32, 32), and `outputs` is the number of
classes. Initial weights are drawn from torch's global generator. Files import torch inside their functions only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from epsgrid import plugins
from epsgrid.spec.model import ModelOptions

if TYPE_CHECKING:
    import torch


class ModelPlugin(Protocol):
    """What a file of this folder provides; see the module's own words."""

    Options: type[ModelOptions]

    def build(self, options: Any, inputs: tuple[int, ...], outputs: int) -> torch.nn.Module:
        """Build the model with freshly drawn weights, on the CPU, in float32."""
        ...


def load(name: str) -> ModelPlugin:
    """Return the model plug-in called `name`."""
    plugin: ModelPlugin = plugins.load("models", name)
    return plugin
