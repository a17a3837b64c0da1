"""Sizes of cell nuclei, bundled with epsgrid: a real regression whose outputs are in units of their own.

From the texture and the shape of the nuclei in an image of a breast mass, predict their mean radius (cm), perimeter
(cm) and area (cm²): 21 inputs, 3 outputs, 569 images. Mean squared error in these units; R², the mean over the three
outputs, each against the mean of its own split. Less than −1, which only a training that blew up has, counts as −1.

The model's outputs are standardised, and the prediction is mean + sd · output. Only the units of the error differ: the
gradient of an output is s² times that of a standardised one, where s², the variance over the training images, is 6e-6
cm² for the perimeter and 1e-11 cm⁴ for the area. Adam's step does not depend on this factor as long as ε is far below
√v̂; at ε = 1e-8 the weights that predict the area hardly move. In µm all gradients are large, and ε = 1e-8 will do.

The data are the UCI set "Breast Cancer Wisconsin (Diagnostic)" (Wolberg, Street and Mangasarian 1995), whose lengths
are read as µm; a fixed fifth of both diagnoses is set aside for testing here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from epsgrid.data import bundled
from epsgrid.errors import SpecError
from epsgrid.numerics.seeds import derive_seed
from epsgrid.spec.options import TaskOptions
from epsgrid.tasks import Metric, Split, Task
from epsgrid.tasks._divide import balanced_order

if TYPE_CHECKING:
    import torch

_SIZES = ("radius", "perimeter", "area")
_POWERS = np.array([1.0, 1.0, 2.0])
_UM_IN = {"um": 1.0, "mm": 1e-3, "cm": 1e-4}
_TEST_SIZE = 114
_TEST_SEED = 0

START = {"training": {"epochs": 12, "batch_size": 32}, "sweep": {"learning_rates": [1e-3, 5e-3, 2.5e-2]}}


class Options(TaskOptions):
    """The unit of the predicted sizes, and how the 569 images are divided; 114 are for testing."""

    unit: Literal["um", "mm", "cm"] = "cm"
    """Unit of length of radius, perimeter and area; um: micrometre."""
    validation: Annotated[int, Field(ge=0)] = 114
    """Of the other 455 images, how many are held out of training for validation, to choose by."""


@dataclass(frozen=True, eq=False)
class Nuclei:
    """The measurements, and which images belong to which split.

    `inputs` (n, 21) are texture and shape, `sizes` (n, 3) radius (µm), perimeter (µm) and area (µm²), all float64 as
    measured; `train`, `validation`, which may be empty, and `test` are indices of images.
    """

    inputs: NDArray[np.float64]
    sizes: NDArray[np.float64]
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]
    checksum: str

    @property
    def description(self) -> str:
        """One line for the report."""
        return (
            f"scikit-learn's breast cancer data: {len(self.train)} training, {len(self.validation)} validation (held"
            f" out of training) and {len(self.test)} test images, {self.inputs.shape[1]} features each"
        )

    @property
    def has_validation(self) -> bool:
        """Whether images are held out of the training images."""
        return len(self.validation) > 0


def prepare(options: Options) -> Nuclei:
    """Read the measurements; SpecError where `validation` leaves nothing to train on."""
    kept = bundled("breast_cancer")
    names = kept["feature_names"].tolist()
    of_size = [index for index, name in enumerate(names) if any(size in name for size in _SIZES)]
    inputs = np.delete(kept["data"], of_size, axis=1)
    sizes = kept["data"][:, [names.index(f"mean {size}") for size in _SIZES]]
    malignant = (kept["target"] == 0).astype(np.int64)
    order = balanced_order(malignant, _TEST_SEED)
    test, rest = order[:_TEST_SIZE], order[_TEST_SIZE:]
    if options.validation >= len(rest):
        raise SpecError(
            f"task.validation: {options.validation:,} images held out leave nothing to train on: the breast cancer data"
            f" have {len(rest)} training images; ask for fewer"
        )
    validation, train = rest[: options.validation], rest[options.validation :]
    digest = hashlib.sha256(inputs.astype("<f8").tobytes() + sizes.astype("<f8").tobytes())
    return Nuclei(inputs, sizes, train, validation, test, digest.hexdigest())


def build(options: Options, data: Nuclei, device: torch.device) -> Task:
    """Bind the task to its data and a device."""
    return _NucleiTask(data, options.unit, device)


class _Batch(NamedTuple):
    """A batch on the device: `inputs` (n, 21), standardised; `sizes` (n, 3), in the task's unit; float32."""

    inputs: torch.Tensor
    sizes: torch.Tensor


class _NucleiTask(Task):
    """Predict sizes, in units of a length, by mean squared error; judged by R².

    Inputs and outputs are standardised by mean and standard deviation of the training images.
    """

    metric = Metric("R2", "max", "%")
    notes = MappingProxyType(
        {"R2": "1 − mean squared error / variance, at least −1; the mean over radius, perimeter and area"}
    )
    outputs = len(_SIZES)

    def __init__(self, data: Nuclei, unit: str, device: torch.device) -> None:
        import torch

        def standardised(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
            mean, sd = values[data.train].mean(0), values[data.train].std(0)
            return (values - mean) / sd, mean, sd

        sizes = data.sizes * _UM_IN[unit] ** _POWERS
        tensors = (
            torch.tensor(values, dtype=torch.float32, device=device)
            for values in (standardised(data.inputs)[0], sizes, *standardised(sizes)[1:])
        )
        self._inputs, self._sizes, self._mean, self._sd = tensors
        self.inputs = (data.inputs.shape[1],)
        self._splits = {
            name: torch.from_numpy(getattr(data, name)).to(device) for name in ("train", "validation", "test")
        }

    def steps_per_epoch(self, batch_size: int, seed: int = 0, epoch: int = 0) -> int:
        """Return the number of batches; the last one may be smaller."""
        return -(-len(self._splits["train"]) // batch_size)

    def batches(self, seed: int, epoch: int, batch_size: int, first_step: int = 0) -> Iterator[_Batch]:
        """Yield the batches of an epoch, from `first_step` on; their order is drawn on the CPU for the whole epoch."""
        import torch

        train = self._splits["train"]
        generator = torch.Generator().manual_seed(derive_seed("order", seed, epoch))
        order = train[torch.randperm(len(train), generator=generator).to(train.device)]
        for step in range(first_step, self.steps_per_epoch(batch_size)):
            chosen = order[step * batch_size : (step + 1) * batch_size]
            yield _Batch(self._inputs[chosen], self._sizes[chosen])

    def loss(self, model: torch.nn.Module, batch: _Batch) -> torch.Tensor:
        """Return the squared error, in the squares of the units, averaged over images and outputs."""
        return (self._predict(model, batch.inputs) - batch.sizes).square().mean()

    def evaluate(self, model: torch.nn.Module, split: Split) -> dict[str, float]:
        """Return the mean squared error, R², and the R² of each size, as fractions.

        Raises SpecError where the task holds no images out for validation.
        """
        import torch

        assert not model.training
        chosen = self._splits[split]
        if not len(chosen):
            raise SpecError(
                "task.validation is 0: no images to validate on; hold some out, or set training.selection: test"
            )
        with torch.inference_mode():
            predicted = self._predict(model, self._inputs[chosen]).double()
        sizes = self._sizes[chosen].double()
        error = (predicted - sizes).square().mean(0)
        r2 = (1 - error / sizes.var(0, correction=0)).clamp(min=-1).tolist()
        of_each = {f"R2 {name}": value for name, value in zip(_SIZES, r2, strict=True)}
        return {"loss": error.mean().item(), "R2": sum(r2) / len(r2), **of_each}

    def _predict(self, model: torch.nn.Module, inputs: torch.Tensor) -> torch.Tensor:
        """Return the sizes in the task's unit: (n, 3), float32."""
        standardised: torch.Tensor = model(inputs).float()
        return self._mean + self._sd * standardised
