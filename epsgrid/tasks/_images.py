"""What the image tasks share: batches that are a function of (seed, epoch, step), loss and scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from epsgrid.errors import SpecError
from epsgrid.numerics.seeds import derive_seed
from epsgrid.tasks import Metric, Split
from epsgrid.tasks._augment import PADDING, crop_and_flip
from epsgrid.tasks._examples import Examples, examples_on

if TYPE_CHECKING:
    import torch

    from epsgrid.tasks._divide import DividedImages

EVALUATION_BATCH = 500
"""Examples at a time when a split is scored; it bounds memory and does not depend on the spec."""


@dataclass(frozen=True)
class Pixels:
    """How stored values become inputs: x = (value / white − mean) / sd, by channel.

    Attributes:
        white: stored value of the brightest pixel; `mean` and `sd` are shares of it.
        mean: of the training images, one per channel, or one for all.
        sd: their standard deviation, likewise.
    """

    white: float
    mean: tuple[float, ...]
    sd: tuple[float, ...]


class ImageBatch(NamedTuple):
    """A batch on the device: `images` (n, channels, height, width), float32, normalised; `labels` (n,), int64."""

    images: torch.Tensor
    labels: torch.Tensor


class ImageTask:
    """Classify images by cross-entropy; judged by accuracy.

    Args:
        data: the divided data set.
        pixels: how values become inputs.
        augment: whether training images are cropped at random and flipped.
        device: where batches are made; on CUDA the splits in use are kept there whole.
        padding: black border around training images before they are cropped, in pixels.
    """

    metric = Metric("accuracy", "max", "%")
    notes: ClassVar[Mapping[str, str]] = {}

    def __init__(
        self, data: DividedImages, pixels: Pixels, augment: bool, device: torch.device, padding: int = PADDING
    ) -> None:
        import torch

        self.inputs: tuple[int, ...] = tuple(data.images.train.pixels.shape[1:])
        self.outputs = len(data.images.classes)
        self.has_validation = data.has_validation
        self._augment = augment
        self._padding = padding
        self._device = device
        self._train = examples_on(device, data.images.train, data.train)
        self._held_out: dict[Split, Examples] = {
            "validation": examples_on(device, data.images.train, data.validation),
            "test": examples_on(device, data.images.test, data.test),
        }
        self._mean = torch.tensor([pixels.white * mean for mean in pixels.mean], device=device)[:, None, None]
        self._sd = torch.tensor([pixels.white * sd for sd in pixels.sd], device=device)[:, None, None]

    def steps_per_epoch(self, batch_size: int, seed: int = 0, epoch: int = 0) -> int:
        """Return the number of batches; the last one may be smaller (50,000 images in 128s: 391)."""
        return -(-len(self._train) // batch_size)

    def begin_epoch(self, model: torch.nn.Module, batch_size: int) -> None:
        """Do nothing: no state is carried from batch to batch."""

    def learning_rate_scale(self, batch: ImageBatch) -> float:
        """Return 1: all batches count alike."""
        return 1.0

    def batches(self, seed: int, epoch: int, batch_size: int, first_step: int = 0) -> Iterator[ImageBatch]:
        """Yield the batches of an epoch, from `first_step` on.

        The order and every image's crop and flip are drawn for the whole epoch at once, on the CPU, from private
        generators: they are the same on every device and wherever an epoch is entered.
        """
        steps = self.steps_per_epoch(batch_size)
        assert 0 <= first_step <= steps, (first_step, steps)
        order = _draw_order(len(self._train), seed, epoch).to(self._device)
        variation = [part.to(self._device) for part in _draw_variation(len(self._train), seed, epoch, self._padding)]
        for step in range(first_step, steps):
            here = slice(step * batch_size, (step + 1) * batch_size)
            images, labels = self._train.take(order[here])
            if self._augment:
                tops, lefts, flips = (part[here] for part in variation)
                images = crop_and_flip(images, tops, lefts, flips, self._padding)
            yield ImageBatch(self._normalise(images), labels)

    def loss(self, model: torch.nn.Module, batch: ImageBatch) -> torch.Tensor:
        """Return the mean cross-entropy of a batch."""
        import torch

        return torch.nn.functional.cross_entropy(model(batch.images), batch.labels)

    def evaluate(self, model: torch.nn.Module, split: Split) -> dict[str, float]:
        """Return mean cross-entropy and accuracy, a fraction, on a whole split; the device is waited for once.

        Args:
            model: in eval mode.
            split: "validation" or "test".

        Raises:
            SpecError: the task holds no images out for validation.
        """
        import torch

        assert not model.training
        examples = self._held_out[split]
        if not len(examples):
            raise SpecError(
                "task.validation is 0: no images to validate on; hold some out, or set training.selection: test"
            )
        loss = torch.zeros((), dtype=torch.float64, device=self._device)
        correct = torch.zeros((), dtype=torch.int64, device=self._device)
        with torch.inference_mode():
            for first in range(0, len(examples), EVALUATION_BATCH):
                after = min(first + EVALUATION_BATCH, len(examples))
                images, labels = examples.take(torch.arange(first, after, device=self._device))
                scores = model(self._normalise(images)).float()
                loss += torch.nn.functional.cross_entropy(scores, labels, reduction="sum")
                correct += (scores.argmax(1) == labels).sum()
        return {"loss": loss.item() / len(examples), "accuracy": correct.item() / len(examples)}

    def _normalise(self, images: torch.Tensor) -> torch.Tensor:
        """Turn stored values into inputs: (n, channels, height, width), uint8 to float32."""
        return images.float().sub_(self._mean).div_(self._sd)


def _draw_order(count: int, seed: int, epoch: int) -> torch.Tensor:
    """Draw the order in which an epoch visits its examples: (count,), a permutation."""
    import torch

    return torch.randperm(count, generator=_generator("order", seed, epoch))


def _draw_variation(
    count: int, seed: int, epoch: int, padding: int = PADDING
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw first row, first column and flip of each example of an epoch, in the order of visit: three of (count,)."""
    import torch

    generator = _generator("augmentation", seed, epoch)
    tops, lefts = torch.randint(0, 2 * padding + 1, (2, count), generator=generator)
    return tops, lefts, torch.randint(0, 2, (count,), generator=generator, dtype=torch.bool)


def _generator(purpose: str, seed: int, epoch: int) -> torch.Generator:
    """Return a generator of its own for each purpose, seed and epoch."""
    import torch

    return torch.Generator().manual_seed(derive_seed(purpose, seed, epoch))
