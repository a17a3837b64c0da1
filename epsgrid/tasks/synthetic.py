"""Generated images, for trying things out and for tests: no data needed, and nothing learnt about the real world."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from epsgrid.spec.model import Seed, TaskOptions
from epsgrid.tasks._divide import Count, DividedImages, divide
from epsgrid.tasks._images import ImageTask, Pixels

if TYPE_CHECKING:
    import torch

PIXELS = Pixels(white=255, mean=(0.5,), sd=(0.25,))


class Options(TaskOptions):
    """Shape (channels, height, width) and classes of the images, how many are generated, how noisy, and their seed."""

    shape: tuple[Count, Count, Count] = (3, 32, 32)
    classes: Annotated[int, Field(ge=2)] = 10
    train: Count = 2000
    validation: Annotated[int, Field(ge=0)] = 500
    test: Count = 500
    noise: Annotated[float, Field(ge=0, le=1)] = 0.5
    data_seed: Seed = 0
    augment: bool = False


def prepare(options: Options) -> DividedImages:
    """Generate the images; nothing is kept, as reading them back would hardly be faster."""
    from epsgrid.data import synthetic

    images = synthetic.generate(
        options.shape,
        options.classes,
        options.train + options.validation,
        options.test,
        options.noise,
        options.data_seed,
    )
    return divide(images, options.validation)


def build(options: Options, data: DividedImages, device: torch.device) -> ImageTask:
    """Bind the task to its data and a device."""
    return ImageTask(data, PIXELS, options.augment, device)
