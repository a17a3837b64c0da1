"""Decoded images: arrays of 8-bit pixels with labels, kept in the cache, and decoded from folders of image files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from epsgrid.data._cache import Arrays, cached_arrays, find_cached
from epsgrid.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

_DECODED_AT_ONCE = 250

_DEEP_MODES = ("I", "F")
"""First letters of PIL's modes with more than 8 bits per channel; its conversion to colour would clip their values."""

_Size = tuple[int, int]
"""Width and height in pixels."""


@dataclass(frozen=True, eq=False)
class Images:
    """One split: (n, channels, height, width) uint8 pixels, possibly mapped read-only, and (n,) int64 labels."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class ImageSet:
    """A data set as its source provides it; `classes` are in the order of the labels, `checksum` is a sha256."""

    train: Images
    test: Images
    classes: tuple[str, ...]
    checksum: str
    description: str


def image_set(train: Images, test: Images, classes: tuple[str, ...], description: str) -> ImageSet:
    """Return the set with its checksum; two copies with equal pixels, labels and classes have the same one."""
    digest = hashlib.sha256("\0".join(classes).encode())
    for images in (train, test):
        digest.update(repr(images.pixels.shape).encode())
        digest.update(np.ascontiguousarray(images.labels).astype("<i8", copy=False).data)
        digest.update(np.ascontiguousarray(images.pixels).data)
    return ImageSet(train, test, classes, digest.hexdigest(), description)


def cached_images(folder: Path, make: Callable[[], ImageSet]) -> ImageSet:
    """Return the image set stored in `folder`, mapped read-only; decode and store it first if necessary."""

    def arrays() -> Arrays:
        images = make()
        splits = (("train", images.train), ("test", images.test))
        parts = {f"{name}_{part}": getattr(split, part) for part in ("pixels", "labels") for name, split in splits}
        about = {"classes": images.classes, "checksum": images.checksum, "description": images.description}
        return Arrays(parts, about)

    return _from_arrays(cached_arrays(folder, arrays))


def find_images(kind: str, checksum: str) -> ImageSet | None:
    """Return an image set of one kind, such as "cifar10", that was decoded before, mapped; None if it is not there.

    The source is not looked at: checking that none of 60,000 files has changed takes minutes on a file server.
    """
    found = find_cached(kind, checksum)
    return None if found is None else _from_arrays(found)


def _from_arrays(kept: Arrays) -> ImageSet:
    arrays, about = kept.arrays, kept.about
    train, test = (Images(arrays[f"{split}_pixels"], arrays[f"{split}_labels"]) for split in ("train", "test"))
    return ImageSet(train, test, tuple(about["classes"]), about["checksum"], about["description"])


@dataclass(frozen=True)
class Listing:
    """The image files of one split, ordered by class and then by name; each label is an index into `classes`.

    `signature` is the sha256 over names, sizes and modification times of all files.
    """

    files: tuple[str, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    signature: str


def list_split(split: Path) -> Listing:
    """List the images of a split in <class>/*, or in <class>/images/* as in Tiny-ImageNet.

    Raises DataError where there is no such folder, or as `list_images`.
    """
    if not split.is_dir():
        raise DataError(f"no folder {split}: an image folder holds train/<class>/* and test/<class>/*")
    names = sorted(path.name for path in split.iterdir() if path.is_dir() and not path.name.startswith("."))
    nested = {name: split / name / "images" for name in names}
    return list_images({name: place if place.is_dir() else split / name for name, place in nested.items()})


def list_images(classes: Mapping[str, Path]) -> Listing:
    """List the images in the folder of each class without opening any; names that begin with a dot are ignored.

    Raises DataError where a class is empty, holds folders, or cannot be read.
    """
    digest = hashlib.sha256()
    files: list[str] = []
    labels: list[int] = []
    for label, folder in enumerate(classes.values()):
        place = str(folder)
        try:
            with os.scandir(folder) as entries:
                found = sorted((each for each in entries if not each.name.startswith(".")), key=lambda each: each.name)
            for entry in found:
                place = entry.path
                if entry.is_dir():
                    raise DataError(f"{place}: a folder where images are expected; move its files up, or remove it")
                status = entry.stat()
                digest.update(f"{folder.name}/{entry.name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
        except OSError as error:
            raise DataError(f"{place}: cannot be read ({error.strerror}); replace or remove it") from error
        if not found:
            raise DataError(f"{folder}: no images in it; every class needs some in train and in test")
        files += [entry.path for entry in found]
        labels += [label] * len(found)
    return Listing(tuple(files), tuple(labels), tuple(classes), digest.hexdigest())


def decode(listing: Listing, size: _Size | None, fit: Callable[[Image.Image, _Size], Image.Image] | None) -> Images:
    """Decode the images of a split with PIL, one thread per core; every image becomes RGB.

    `size`, width and height in pixels, is that of the first image by default, and `fit` brings images of another size
    to it. Raises DataError, with the file, where one is no readable image, has another size, or more than 8 bits per
    channel.
    """
    count = len(listing.files)
    width, height = size or _decoded(listing.files[0], None, None).shape[1::-1]
    pixels = np.empty((count, 3, height, width), np.uint8)

    def decode_some(start: int) -> None:
        for index in range(start, min(start + _DECODED_AT_ONCE, count)):
            pixels[index] = _decoded(listing.files[index], (width, height), fit).transpose(2, 0, 1)

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with ThreadPoolExecutor(cores) as threads:
        list(threads.map(decode_some, range(0, count, _DECODED_AT_ONCE)))
    return Images(pixels, np.array(listing.labels, np.int64))


def _decoded(
    file: str, size: _Size | None, fit: Callable[[Image.Image, _Size], Image.Image] | None
) -> NDArray[np.uint8]:
    """Return the pixels of an image, (height, width, 3)."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            if image.mode.startswith(_DEEP_MODES):
                raise DataError(f"{file}: more than 8 bits per channel (PIL's mode {image.mode}); convert it to 8")
            if size and not fit and image.size != size:
                found, expected = ("×".join(map(str, each)) for each in (image.size, size))
                raise DataError(
                    f"{file}: {found} pixels, expected {expected}; bring all images to one size, as the task `images`"
                    " does with task.size"
                )
            colour = image.convert("RGB")
            return np.asarray(fit(colour, size) if fit and size and image.size != size else colour)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{file}: not a readable image ({error}); replace or remove it") from error
