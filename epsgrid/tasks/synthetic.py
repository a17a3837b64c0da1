"""Generated images, for trying things out and for tests: no data needed, and nothing learnt about the real world.

Every class has a pattern of random grey or colour blocks, four by four over the image. An image blends the pattern of
its class (50 to 100 %) with that of another class and with uniform noise.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from epsgrid.data._images import Images, ImageSet, image_set
from epsgrid.spec.options import Count, Seed, TaskOptions
from epsgrid.tasks._build import image_builder
from epsgrid.tasks._divide import DividedImages, divide

_BLOCKS = 4

START = {"training": {"epochs": 3, "batch_size": 64}}


class Options(TaskOptions):
    """The images that are generated."""

    shape: tuple[Count, Count, Count] = (3, 32, 32)
    """Channels, height and width."""
    classes: Annotated[int, Field(ge=2)] = 10
    """Classes of images."""
    train: Count = 2000
    """Training images."""
    validation: Annotated[int, Field(ge=0)] = 500
    """Images held out for validation, to choose by."""
    test: Count = 500
    """Test images."""
    noise: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of noise in an image; at 1 there is nothing to learn."""
    data_seed: Seed = 0
    """Seed of the images."""
    augment: bool = False
    """Shift and mirror the training images at random."""


def prepare(options: Options) -> DividedImages:
    """Generate the images; nothing is cached, because reading them would hardly be faster."""
    return divide(generate(options), options.validation)


build = image_builder(255, (0.5,), (0.25,))


def generate(options: Options) -> ImageSet:
    """Generate the image set; equal options give equal images on every machine, with balanced classes."""
    random = np.random.RandomState(options.data_seed)
    channels, height, width = options.shape
    blocks = random.randint(0, 256, (options.classes, channels, _BLOCKS, _BLOCKS)).astype(np.float32)
    rows, columns = np.arange(height) * _BLOCKS // height, np.arange(width) * _BLOCKS // width
    patterns = blocks[:, :, rows[:, np.newaxis], columns]  # (classes, channels, height, width), values 0 to 255
    return image_set(
        _draw(random, patterns, options.train + options.validation, options.noise),
        _draw(random, patterns, options.test, options.noise),
        tuple(f"pattern {label}" for label in range(options.classes)),
        "GENERATED images (no real data)",
    )


def _draw(random: np.random.RandomState, patterns: NDArray[np.float32], count: int, noise: float) -> Images:
    classes = len(patterns)
    labels = random.permutation(np.arange(count) % classes)
    others = (labels + random.randint(1, classes, count)) % classes
    own = random.uniform(0.5, 1, (count, 1, 1, 1)).astype(np.float32)
    blend = own * patterns[labels] + (1 - own) * patterns[others]
    static = random.randint(0, 256, blend.shape, dtype=np.uint8)
    pixels = np.float32(1 - noise) * blend + np.float32(noise) * static
    return Images(pixels.astype(np.uint8), labels.astype(np.int64))
