"""Decoded images: arrays of 8-bit pixels with labels, kept in the cache, and decoded from folders of image files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from epsgrid.data._cache import Arrays, cached_arrays, find_cached
from epsgrid.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

_DECODED_AT_ONCE = 250

_DEEP_MODES = ("I", "F")
"""First letters of PIL's modes with more than 8 bits per channel; its conversion to colour would clip their values."""

Fit = Callable[["Image.Image", tuple[int, int]], "Image.Image"]
"""Brings an image to (width, height)."""


@dataclass(frozen=True, eq=False)
class Images:
    """One split.

    Attributes:
        pixels: (n, channels, height, width), uint8, C-contiguous; possibly mapped from a file and so read-only.
        labels: (n,), int64, indices into the classes of the set.
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
    """A data set as its source provides it: training and test images.

    Attributes:
        classes: names of the classes, in the order of the labels.
        checksum: sha256 of train, test and classes, hex.
        description: what the data set is, as the beginning of a line for the report.
    """

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
    """Return the image set stored in `folder`, mapped read-only; decode and store it first if necessary.

    Args:
        folder: named after everything that the arrays are made from, so that other data have another folder.
        make: decodes the data; called only when the folder is missing or damaged.

    Raises:
        DataError: the folder cannot be written; errors of `make` are passed on.
    """

    def arrays() -> Arrays:
        images = make()
        splits = {"train": images.train, "test": images.test}
        pixels: dict[str, NDArray[Any]] = {f"{name}_pixels": split.pixels for name, split in splits.items()}
        labels = {f"{name}_labels": split.labels for name, split in splits.items()}
        about = {"classes": images.classes, "checksum": images.checksum, "description": images.description}
        return Arrays({**pixels, **labels}, about)

    return _from_arrays(cached_arrays(folder, arrays))


def find_images(kind: str, checksum: str) -> ImageSet | None:
    """Return an image set that was decoded before, mapped; None if it is no longer in the cache.

    The source is not looked at: checking that none of 60,000 files has changed takes a third of a second on a local
    disk, and minutes on a file server.

    Args:
        kind: beginning of the names of its folders, such as "cifar10".
        checksum: of the set.
    """
    found = find_cached(kind, {"checksum": checksum})
    return None if found is None else _from_arrays(found)


def _from_arrays(kept: Arrays) -> ImageSet:
    arrays, about = kept.arrays, kept.about
    train, test = (Images(arrays[f"{split}_pixels"], arrays[f"{split}_labels"]) for split in ("train", "test"))
    return ImageSet(train, test, tuple(about["classes"]), about["checksum"], about["description"])


@dataclass(frozen=True)
class Listing:
    """The image files of one split.

    Attributes:
        files: their paths, ordered by class and then by name.
        labels: class of each file, an index into `classes`.
        classes: names of the class folders, sorted.
        signature: sha256 over names, sizes and modification times of all files, hex.
    """

    files: tuple[str, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    signature: str


def class_names(split: Path) -> list[str]:
    """Return the sorted names of the class folders of a split; names that begin with a dot are ignored.

    Raises:
        DataError: there is no such folder.
    """
    if not split.is_dir():
        raise DataError(f"no folder {split}: an image folder holds train/<class>/* and test/<class>/*")
    return sorted(path.name for path in split.iterdir() if path.is_dir() and not path.name.startswith("."))


def list_split(split: Path) -> Listing:
    """List the images of a split in <class>/*, or in <class>/images/* as in Tiny-ImageNet.

    Raises:
        DataError: there is no such folder, or a class is empty, holds folders, or cannot be read.
    """
    folders = {name: split / name for name in class_names(split)}
    nested = {name: folder / "images" for name, folder in folders.items() if (folder / "images").is_dir()}
    return list_images({**folders, **nested}.items())


def list_images(classes: Iterable[tuple[str, Path]]) -> Listing:
    """List the images of a split without opening any; names that begin with a dot are ignored.

    Args:
        classes: name and folder of each class; the folder holds images and nothing else.

    Raises:
        DataError: a class is empty, holds folders, or cannot be read.
    """
    digest = hashlib.sha256()
    names: list[str] = []
    files: list[str] = []
    labels: list[int] = []
    for label, (name, folder) in enumerate(classes):
        try:
            with os.scandir(folder) as entries:
                found = sorted((each for each in entries if not each.name.startswith(".")), key=lambda each: each.name)
        except OSError as error:
            raise DataError(
                f"{folder}: cannot be read ({error.strerror}); a folder of images is expected there"
            ) from error
        if not found:
            raise DataError(f"{folder}: no images in it; every class needs some in train and in test")
        for entry in found:
            if entry.is_dir():
                raise DataError(f"{entry.path}: a folder where images are expected; move its files up, or remove it")
            try:
                status = entry.stat()
            except OSError as error:
                reason = f"{error.strerror}), as where a link leads nowhere"
                raise DataError(f"{entry.path}: cannot be read ({reason}; replace or remove it") from error
            digest.update(f"{folder.name}/{entry.name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
        names.append(name)
        files += [entry.path for entry in found]
        labels += [label] * len(found)
    return Listing(tuple(files), tuple(labels), tuple(names), digest.hexdigest())


def decode(listing: Listing, size: tuple[int, int], fit: Fit | None = None, advice: str = "") -> Images:
    """Decode the images of a split with PIL, one thread per core; every image becomes RGB.

    Args:
        listing: of the files.
        size: width and height of the result, in pixels.
        fit: brings an image of another size to this one; without it every image must have this size.
        advice: end of the message about an image of another size.

    Raises:
        DataError: a file is no readable image, has another size, or more than 8 bits per channel; the message names
            it. Or all of them do not fit into memory.
    """
    width, height = size
    count = len(listing.files)
    try:
        pixels = np.empty((count, 3, height, width), np.uint8)
    except MemoryError as error:
        gigabytes = count * 3 * height * width / 1e9
        raise DataError(
            f"{count:,} images of {width}×{height} pixels need {gigabytes:,.0f} GB of memory, more than this machine"
            " has; bring them to a smaller size"
        ) from error

    def decode_some(start: int) -> None:
        for index in range(start, min(start + _DECODED_AT_ONCE, count)):
            file = listing.files[index]
            with opened_image(file) as image:
                if image.mode.startswith(_DEEP_MODES):
                    raise DataError(f"{file}: more than 8 bits per channel (PIL's mode {image.mode}); convert it to 8")
                if fit is None and image.size != size:
                    found = "×".join(map(str, image.size))
                    raise DataError(f"{file}: {found} pixels, expected {width}×{height}{advice}")
                colour = image.convert("RGB")
                if fit is not None and image.size != size:
                    colour = fit(colour, size)
                pixels[index] = np.asarray(colour).transpose(2, 0, 1)  # (height, width, 3) → (3, height, width)

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with ThreadPoolExecutor(cores) as threads:
        list(threads.map(decode_some, range(0, count, _DECODED_AT_ONCE)))
    return Images(pixels, np.array(listing.labels, np.int64))


@contextmanager
def opened_image(file: str) -> Iterator[Image.Image]:
    """Open an image.

    Raises:
        DataError: it cannot be opened, or not be decoded by what is done with it; the message names the file.
    """
    from PIL import Image

    try:
        with Image.open(file) as image:
            yield image
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{file}: not a readable image ({error}); replace or remove it") from error
