"""Image classification: batches that are a function of (seed, epoch, step), augmentation, loss and scores."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from epsgrid.data._images import Images
from epsgrid.errors import SpecError
from epsgrid.numerics.seeds import derive_seed
from epsgrid.tasks import Metric, Split, Task
from epsgrid.tasks._divide import DividedImages

_PADDING = 4
"""Black pixels around an image of CIFAR-10 before it is cropped, as published."""

_EVALUATED_AT_ONCE = 500
"""Examples at a time when a split is scored; it limits memory and does not depend on the spec."""


class _ImageBatch(NamedTuple):
    """A batch on the device: `images` (n, channels, height, width), float32, normalised; `labels` (n,), int64."""

    images: torch.Tensor
    labels: torch.Tensor


class ImageTask(Task):
    """Classify images by cross-entropy; judged by accuracy. The input is (value / white − mean) / sd, by channel.

    `white` is the stored value of the brightest pixel; `mean` and `sd`, of each channel or of all training images, are
    fractions of it. With `augment` training images are cropped at random, after a black border of `padding` pixels, and
    flipped.
    """

    metric = Metric("accuracy", "max", "%")

    def __init__(
        self,
        data: DividedImages,
        device: torch.device,
        *,
        white: float,
        mean: tuple[float, ...],
        sd: tuple[float, ...],
        augment: bool,
        padding: int = _PADDING,
    ) -> None:
        self.inputs = tuple(data.images.train.pixels.shape[1:])
        self.outputs = len(data.images.classes)
        self._augment = augment
        self._padding = padding
        self._device = device
        self._train = _Examples(data.images.train, data.train, device)
        self._held_out: dict[Split, _Examples] = {
            "validation": _Examples(data.images.train, data.validation, device),
            "test": _Examples(data.images.test, data.test, device),
        }
        self._mean = torch.tensor([white * each for each in mean], device=device)[:, None, None]
        self._sd = torch.tensor([white * each for each in sd], device=device)[:, None, None]

    def steps_per_epoch(self, batch_size: int, seed: int = 0, epoch: int = 0) -> int:
        """Return the number of batches; the last one may be smaller (50,000 images in 128s: 391)."""
        return -(-len(self._train) // batch_size)

    def batches(self, seed: int, epoch: int, batch_size: int, first_step: int = 0) -> Iterator[_ImageBatch]:
        """Yield the batches of an epoch, from `first_step` on.

        The order and every image's crop and flip are drawn for the whole epoch at once, on the CPU, from private
        generators: they are the same on every device and whatever the first step is.
        """
        count, steps = len(self._train), self.steps_per_epoch(batch_size)
        assert 0 <= first_step <= steps, (first_step, steps)
        generator = torch.Generator().manual_seed(derive_seed("order", seed, epoch))
        order = torch.randperm(count, generator=generator).to(self._device)
        variation = [part.to(self._device) for part in _draw_variation(count, seed, epoch, self._padding)]
        for step in range(first_step, steps):
            here = slice(step * batch_size, (step + 1) * batch_size)
            images, labels = self._train.take(order[here])
            if self._augment:
                tops, lefts, flips = (part[here] for part in variation)
                images = _crop_and_flip(images, tops, lefts, flips, self._padding)
            yield _ImageBatch(self._normalise(images), labels)

    def loss(self, model: torch.nn.Module, batch: _ImageBatch) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(model(batch.images), batch.labels)

    def evaluate(self, model: torch.nn.Module, split: Split) -> dict[str, float]:
        """Return mean cross-entropy and accuracy, a fraction; waits for the device once."""
        assert not model.training
        examples = self._held_out[split]
        if not len(examples):
            raise SpecError(
                "task.validation is 0: no images to validate on; hold some out, or set training.selection: test"
            )
        loss = torch.zeros((), dtype=torch.float64, device=self._device)
        correct = torch.zeros((), dtype=torch.int64, device=self._device)
        with torch.inference_mode():
            for first in range(0, len(examples), _EVALUATED_AT_ONCE):
                after = min(first + _EVALUATED_AT_ONCE, len(examples))
                images, labels = examples.take(torch.arange(first, after, device=self._device))
                scores = model(self._normalise(images)).float()
                loss += torch.nn.functional.cross_entropy(scores, labels, reduction="sum")
                correct += (scores.argmax(1) == labels).sum()
        return {"loss": loss.item() / len(examples), "accuracy": correct.item() / len(examples)}

    def _normalise(self, images: torch.Tensor) -> torch.Tensor:
        """Turn stored values into inputs: (n, channels, height, width), uint8 to float32."""
        return images.float().sub_(self._mean).div_(self._sd)


class _Examples:
    """The used examples of a split, by index from 0.

    On a CPU they are read batch by batch from mapped arrays, which all processes of a machine share; any other device
    keeps them as a whole.
    """

    def __init__(self, images: Images, chosen: NDArray[np.int64], device: torch.device) -> None:
        self._arrays = (images.pixels, images.labels)
        self._chosen = chosen
        resident = device.type != "cpu"
        self._tensors = [torch.from_numpy(part[chosen]).to(device) for part in self._arrays] if resident else None

    def __len__(self) -> int:
        return len(self._chosen)

    def take(self, indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return pixels, uint8, and labels of the examples at `indices`, a tensor on the task's device."""
        if self._tensors is None:
            places = self._chosen[indices.numpy()]
            pixels, labels = (torch.from_numpy(part[places]) for part in self._arrays)
        else:
            pixels, labels = (part[indices] for part in self._tensors)
        return pixels, labels


def _draw_variation(
    count: int, seed: int, epoch: int, padding: int = _PADDING
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw first row, first column and flip of each example of an epoch, in the order of visit: three of (count,)."""
    generator = torch.Generator().manual_seed(derive_seed("augmentation", seed, epoch))
    tops, lefts = torch.randint(0, 2 * padding + 1, (2, count), generator=generator)
    return tops, lefts, torch.randint(0, 2, (count,), generator=generator, dtype=torch.bool)


def _crop_and_flip(
    images: torch.Tensor, tops: torch.Tensor, lefts: torch.Tensor, flips: torch.Tensor, padding: int = _PADDING
) -> torch.Tensor:
    """Surround (n, channels, height, width) with black, cut pieces of the old size out, and mirror some of them.

    This is the published augmentation of CIFAR-10, in one gather without a loop over images; on the CPU it is four
    times as fast as indexing by (row, column). First row and column of a piece are 0 … 2·`padding`.
    """
    count, channels, height, width = images.shape
    padded = torch.nn.functional.pad(images, (padding, padding, padding, padding))
    row = torch.arange(height, device=images.device)
    column = torch.arange(width, device=images.device)
    rows = tops[:, None] + row
    columns = lefts[:, None] + torch.where(flips[:, None], column.flip(0), column)
    places = rows[:, :, None] * padded.shape[3] + columns[:, None, :]
    places = places.reshape(count, 1, height * width).expand(count, channels, height * width)
    return padded.flatten(2).gather(2, places).reshape(images.shape)
