"""Decoded images: plain uint8 arrays with labels, the same for every source."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Images:
    """One split.

    Attributes:
        pixels: (n, channels, height, width), uint8, C-contiguous; perhaps mapped from a file, so not to be written to.
        labels: (n,), int64, indices into the set's classes.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        assert self.pixels.dtype == np.uint8 and self.pixels.ndim == 4, (self.pixels.dtype, self.pixels.shape)
        assert self.labels.dtype == np.int64 and self.labels.shape == self.pixels.shape[:1], self.labels.shape

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class ImageSet:
    """A data set as its source gives it: training and test images.

    Attributes:
        classes: their names, in the order of the labels.
        checksum: sha256 of everything above, hex.
        description: what it is, as the beginning of a line for the report.
    """

    train: Images
    test: Images
    classes: tuple[str, ...]
    checksum: str
    description: str


def image_set(train: Images, test: Images, classes: tuple[str, ...], description: str) -> ImageSet:
    """Return the set with its checksum taken; two copies that decode alike have the same."""
    return ImageSet(train, test, classes, _checksum(train, test, classes), description)


def _checksum(train: Images, test: Images, classes: tuple[str, ...]) -> str:
    digest = hashlib.sha256("\0".join(classes).encode())
    for images in (train, test):
        digest.update(repr(images.pixels.shape).encode())
        digest.update(np.ascontiguousarray(images.labels).astype("<i8", copy=False).data)
        digest.update(np.ascontiguousarray(images.pixels).data)
    return digest.hexdigest()
