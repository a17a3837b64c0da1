"""Decode once, map for ever: image sets kept as arrays that all processes of a machine share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from epsgrid.data._arrays import Arrays, cached_arrays
from epsgrid.data._images import Images, ImageSet


def cached(folder: Path, make: Callable[[], ImageSet]) -> ImageSet:
    """Return the image set kept in `folder`, with its arrays mapped read-only; make and keep it first if need be.

    Args:
        folder: named after what the arrays are made from, so that other data have another folder.
        make: decodes the data; called only when the folder is missing or damaged.

    Raises:
        DataError: the folder cannot be written; also whatever `make` raises.
    """
    kept = cached_arrays(folder, lambda: _to_arrays(make()))
    arrays, about = kept.arrays, kept.about
    return ImageSet(
        Images(arrays["train_pixels"], arrays["train_labels"]),
        Images(arrays["test_pixels"], arrays["test_labels"]),
        tuple(about["classes"]),
        about["checksum"],
        about["description"],
    )


def _to_arrays(images: ImageSet) -> Arrays:
    arrays: dict[str, NDArray[Any]] = {
        "train_pixels": images.train.pixels,
        "train_labels": images.train.labels,
        "test_pixels": images.test.pixels,
        "test_labels": images.test.labels,
    }
    about = {"classes": images.classes, "checksum": images.checksum, "description": images.description}
    return Arrays(arrays, about)
