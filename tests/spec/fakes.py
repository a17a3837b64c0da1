"""Plug-ins that exist for these tests only; a spec names them by dotted path, such as `tests.spec.fakes:adam_like`."""

from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from epsgrid.spec.options import Frozen, ModelOptions, OptimizerOptions, TaskOptions


class BlobsOptions(TaskOptions):
    location_fields: ClassVar[frozenset[str]] = frozenset({"root"})

    root: Path | None = None
    label: str = "plain"
    classes: Annotated[int, Field(ge=2)] = 2
    shuffle: bool = True


class Layer(Frozen):
    width: int = 8
    activation: Literal["relu", "tanh"] = "relu"


class NetOptions(ModelOptions):
    layers: tuple[Layer, ...] = (Layer(),)


class AdamOptions(OptimizerOptions):
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    warmup: int | Literal["auto"] = "auto"


blobs = SimpleNamespace(Options=BlobsOptions)
net = SimpleNamespace(Options=NetOptions)
adam_like = SimpleNamespace(Options=AdamOptions)

TASK = "tests.spec.fakes:blobs"
MODEL = "tests.spec.fakes:net"
OPTIMIZER = "tests.spec.fakes:adam_like"

MINIMAL = f"""\
experiment: demo
task: {TASK}
model: {MODEL}
optimizer: {OPTIMIZER}
sweep:
  learning_rates: [1e-3]
"""
