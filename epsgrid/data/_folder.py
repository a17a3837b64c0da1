"""Images in folders, `train/<class>/*` and `test/<class>/*`: list them, tell when they change, decode them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from epsgrid.data._images import Images
from epsgrid.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

T = TypeVar("T")

_AT_ONCE = 250

_DEEP = ("I", "F")
"""How PIL's names of more than 8 bits per channel begin; its conversion to colour would cut their values off."""

Fit = Callable[["Image.Image", tuple[int, int]], "Image.Image"]
"""Brings an image to (width, height)."""


@dataclass(frozen=True)
class Listing:
    """The files of one split.

    Attributes:
        files: their paths, by class and then by name.
        labels: class of each, an index into `classes`.
        classes: names of the class folders, sorted.
        signature: sha256 over the names, sizes and times of change of all files, hex.
    """

    files: tuple[str, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    signature: str


def list_images(split: Path, classes: int) -> Listing:
    """List a split; names that begin with a dot are passed over. Nothing is opened.

    Args:
        split: folder that holds one folder per class.
        classes: how many there must be.

    Raises:
        DataError: the split or a class is missing, or a class is empty or holds folders.
    """
    names = class_names(split)
    if len(names) != classes:
        raise DataError(
            f"{split}: expected {classes} class folders, found {len(names)} ({', '.join(names) or 'none'});"
            " a class is missing, or another data set lies there"
        )
    return list_classes((name, split / name) for name in names)


def class_names(split: Path) -> list[str]:
    """Return the names of a split's class folders, sorted; those that begin with a dot are passed over.

    Raises:
        DataError: there is no such folder.
    """
    if not split.is_dir():
        raise DataError(f"no folder {split}: an image folder holds train/<class>/* and test/<class>/*")
    return sorted(path.name for path in split.iterdir() if path.is_dir() and not path.name.startswith("."))


def list_classes(folders: Iterable[tuple[str, Path]]) -> Listing:
    """List the images of classes, each given as its name and the folder that holds its images and nothing else.

    Raises:
        DataError: a class is empty, holds folders, or cannot be read.
    """
    digest = hashlib.sha256()
    names: list[str] = []
    files: list[str] = []
    labels: list[int] = []
    for label, (name, folder) in enumerate(folders):
        of_class = _list_class(folder, digest)
        names.append(name)
        files += of_class
        labels += [label] * len(of_class)
    return Listing(tuple(files), tuple(labels), tuple(names), digest.hexdigest())


def _list_class(folder: Path, digest: hashlib._Hash) -> list[str]:
    """List a class by name, and feed name, size and time of change of each file to the digest."""
    try:
        with os.scandir(folder) as entries:
            found = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror}); a folder of images is expected there") from error
    if not found:
        raise DataError(f"{folder}: no images in it; every class needs some in train and in test")
    for entry in found:
        if entry.is_dir():
            raise DataError(f"{entry.path}: a folder where images are expected; move its files up, or remove it")
        try:
            status = entry.stat()
        except OSError as error:
            raise DataError(
                f"{entry.path}: cannot be read ({error.strerror}), as where a link leads nowhere; replace or remove it"
            ) from error
        digest.update(f"{folder.name}/{entry.name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return [entry.path for entry in found]


def decode(listing: Listing, side: int) -> Images:
    """Decode a split of square images; raises as `decode_sized`.

    Args:
        listing: of the files.
        side: height and width every image must have, in pixels.
    """
    return decode_sized(listing, (side, side))


def decode_sized(listing: Listing, size: tuple[int, int], fit: Fit | None = None) -> Images:
    """Decode a split with PIL, in as many threads as there are cores; every image becomes colour.

    Args:
        listing: of the files.
        size: width and height of the result, in pixels.
        fit: brings an image of another size to this one; without it every image must have it.

    Raises:
        DataError: a file is no readable image, has another size, or more than 8 bits per channel, and is named; or all
            of them do not fit into memory.
    """
    pixels = _room_for(len(listing.files), size)
    starts = range(0, len(listing.files), _AT_ONCE)
    with ThreadPoolExecutor(_cores()) as threads:
        work = [
            threads.submit(_decode_into, pixels[start : start + _AT_ONCE], listing.files[start : start + _AT_ONCE], fit)
            for start in starts
        ]
        try:
            for piece in work:
                piece.result()
        finally:
            threads.shutdown(cancel_futures=True)
    return Images(pixels, np.array(listing.labels, np.int64))


def _room_for(count: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return an array for (count, 3, height, width) pixels."""
    width, height = size
    try:
        return np.empty((count, 3, height, width), np.uint8)
    except MemoryError as error:
        gigabytes = count * 3 * height * width / 1e9
        raise DataError(
            f"{count:,} images of {width}×{height} pixels need {gigabytes:,.0f} GB of memory, which this machine has"
            " not; bring them to a smaller size"
        ) from error


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def image_size(file: str) -> tuple[int, int]:
    """Return width and height of one image; raises as `decode_sized`."""
    return _opened(file, lambda image: image.size)


def _decode_into(pixels: NDArray[np.uint8], files: Sequence[str], fit: Fit | None) -> None:
    for target, file in zip(pixels, files, strict=True):
        target[:] = _decode(file, (target.shape[2], target.shape[1]), fit).transpose(2, 0, 1)


def _decode(file: str, size: tuple[int, int], fit: Fit | None) -> NDArray[np.uint8]:
    """Decode one file into (height, width, 3)."""

    def to_array(image: Image.Image) -> NDArray[np.uint8]:
        if image.mode.startswith(_DEEP):
            raise DataError(f"{file}: more than 8 bits per channel (PIL's mode {image.mode}); convert it to 8")
        if image.size == size:
            return np.asarray(image.convert("RGB"))
        if fit is None:
            width, height = image.size
            raise DataError(f"{file}: {width}×{height} pixels, expected {size[0]}×{size[1]}")
        return np.asarray(fit(image.convert("RGB"), size))

    return _opened(file, to_array)


def _opened(file: str, read: Callable[[Image.Image], T]) -> T:
    """Open a file and read it; whatever is wrong with it is told with its name."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            return read(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{file}: not a readable image ({error}); replace or remove it") from error
