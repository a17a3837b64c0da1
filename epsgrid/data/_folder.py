"""Images in folders, `train/<class>/*` and `test/<class>/*`: list them, tell when they change, decode them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from epsgrid.data._images import Images
from epsgrid.errors import DataError

_AT_ONCE = 250


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
    if not split.is_dir():
        raise DataError(f"no folder {split}: an image folder holds train/<class>/* and test/<class>/*")
    names = sorted(path.name for path in split.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(names) != classes:
        raise DataError(
            f"{split}: expected {classes} class folders, found {len(names)} ({', '.join(names) or 'none'});"
            " a class is missing, or another data set lies there"
        )
    digest = hashlib.sha256()
    files: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(names):
        of_class = _list_class(split / name, digest)
        files += of_class
        labels += [label] * len(of_class)
    return Listing(tuple(files), tuple(labels), tuple(names), digest.hexdigest())


def _list_class(folder: Path, digest: hashlib._Hash) -> list[str]:
    """List a class by name, and feed name, size and time of change of each file to the digest."""
    with os.scandir(folder) as entries:
        found = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    if not found:
        raise DataError(f"{folder}: no images in it; every class needs some in train and in test")
    for entry in found:
        if entry.is_dir():
            raise DataError(f"{entry.path}: a folder where images are expected; move its files up, or remove it")
        status = entry.stat()
        digest.update(f"{folder.name}/{entry.name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return [entry.path for entry in found]


def decode(listing: Listing, side: int) -> Images:
    """Decode a split with PIL, in as many threads as there are cores.

    Args:
        listing: of the files.
        side: height and width every image must have, in pixels.

    Raises:
        DataError: a file is no readable image or has another size; it is named.
    """
    pixels = np.empty((len(listing.files), 3, side, side), np.uint8)
    starts = range(0, len(listing.files), _AT_ONCE)
    with ThreadPoolExecutor(_cores()) as threads:
        work = [
            threads.submit(_decode_into, pixels[start : start + _AT_ONCE], listing.files[start : start + _AT_ONCE])
            for start in starts
        ]
        try:
            for piece in work:
                piece.result()
        finally:
            threads.shutdown(cancel_futures=True)
    return Images(pixels, np.array(listing.labels, np.int64))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _decode_into(pixels: NDArray[np.uint8], files: Sequence[str]) -> None:
    for target, file in zip(pixels, files, strict=True):
        target[:] = _decode(file, (target.shape[2], target.shape[1])).transpose(2, 0, 1)


def _decode(file: str, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Decode one file into (height, width, 3)."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            if image.size != size:
                width, height = image.size
                raise DataError(f"{file}: {width}×{height} pixels, expected {size[0]}×{size[1]}")
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{file}: not a readable image ({error}); replace or remove it") from error
