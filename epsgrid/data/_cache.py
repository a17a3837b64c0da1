"""Decode once, map for ever: image sets kept as arrays that all processes of a machine share."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from epsgrid.data._arrays import Arrays, cached_arrays, kept_with
from epsgrid.data._images import Images, ImageSet
from epsgrid.data._places import arrays_folder


def cached(folder: Path, make: Callable[[], ImageSet]) -> ImageSet:
    """Return the image set kept in `folder`, with its arrays mapped read-only; make and keep it first if need be.

    Args:
        folder: named after what the arrays are made from, so that other data have another folder.
        make: decodes the data; called only when the folder is missing or damaged.

    Raises:
        DataError: the folder cannot be written; also whatever `make` raises.
    """
    return _from_arrays(cached_arrays(folder, lambda: _to_arrays(make())))


def known(kind: str, checksum: str, environment: Mapping[str, str] = os.environ) -> ImageSet | None:
    """Return an image set that was decoded before, mapped; None where it is kept no more.

    Its source is asked nothing: to see that none of 60,000 files has changed takes a third of a second, and on a file
    server minutes.

    Args:
        kind: with which the names of its folders begin, such as "cifar10".
        checksum: of the set.
        environment: variables that name the cache folder.
    """
    kept = kept_with(arrays_folder(environment), f"{kind}-*", {"checksum": checksum})
    return None if kept is None else _from_arrays(kept)


def _from_arrays(kept: Arrays) -> ImageSet:
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
