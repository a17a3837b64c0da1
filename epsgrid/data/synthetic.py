"""Generated stand-in images, for trying things out where no data are at hand. Numbers on them mean nothing.

Every class has a pattern of random grey or colour blocks, four by four over the image. An image blends the pattern of
its class (a share of 50 to 100 %) with that of another class and with uniform noise, so that some examples are easy,
some close to the border between two classes, and a model has something to learn.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from epsgrid.data._images import Images, ImageSet, image_set

_BLOCKS = 4


def generate(shape: tuple[int, int, int], classes: int, train: int, test: int, noise: float, seed: int) -> ImageSet:
    """Generate an image set; the same arguments give the same images on every machine.

    Args:
        shape: (channels, height, width) of an image.
        classes: how many, at least 2; both splits are balanced.
        train: number of training images.
        test: number of test images.
        noise: share of noise in an image, in [0, 1].
        seed: of patterns and images.
    """
    random = np.random.RandomState(seed)
    patterns = _patterns(random, shape, classes)
    return image_set(
        _draw(random, patterns, train, noise),
        _draw(random, patterns, test, noise),
        tuple(f"pattern {label}" for label in range(classes)),
        "GENERATED images (no real data)",
    )


def _patterns(random: np.random.RandomState, shape: tuple[int, int, int], classes: int) -> NDArray[np.float32]:
    """Draw (classes, channels, height, width) of blocks, values 0 to 255."""
    channels, height, width = shape
    blocks = random.randint(0, 256, (classes, channels, _BLOCKS, _BLOCKS)).astype(np.float32)
    rows, columns = np.arange(height) * _BLOCKS // height, np.arange(width) * _BLOCKS // width
    return blocks[:, :, rows[:, np.newaxis], columns]


def _draw(random: np.random.RandomState, patterns: NDArray[np.float32], count: int, noise: float) -> Images:
    classes = len(patterns)
    labels = random.permutation(np.arange(count) % classes)
    others = (labels + random.randint(1, classes, count)) % classes
    share = random.uniform(0.5, 1, (count, 1, 1, 1)).astype(np.float32)
    blend = share * patterns[labels] + (1 - share) * patterns[others]
    static = random.randint(0, 256, blend.shape, dtype=np.uint8)
    pixels = np.float32(1 - noise) * blend + np.float32(noise) * static
    return Images(pixels.astype(np.uint8), labels.astype(np.int64))
