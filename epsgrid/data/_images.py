"""Decoded images: arrays of 8-bit pixels with labels, kept in the cache, and decoded from folders of image files.

Every image becomes RGB and is turned upright as its EXIF orientation says. Of an animation the first frame is taken,
and transparency is ignored. Names may be in any encoding; those of classes are compared in Unicode's form NFC, since
some systems store é as one character and others as two.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from epsgrid.data._cache import Arrays, cached_arrays, find_cached
from epsgrid.errors import DataError
from epsgrid.plugins import nearest

if TYPE_CHECKING:
    from PIL import Image

_DECODED_AT_ONCE = 250
_PROBLEMS_SHOWN = 10

_RULE = 2
"""Part of the cache key; raise it whenever the same files would be decoded differently."""

_DEEP_MODES = ("I", "F")
"""First letters of PIL's modes with more than 8 bits per channel; its conversion to colour would clip their values."""

_Size = tuple[int, int]
"""Width and height in pixels."""

_Fit = Callable[["Image.Image", _Size], "Image.Image"]


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
    digest = hashlib.sha256(os.fsencode("\0".join(classes)))
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
    by_form: dict[str, str] = {}
    for name in names:
        if (other := by_form.setdefault(unicodedata.normalize("NFC", name), name)) != name:
            raise DataError(f"{split}: {other!a} and {name!a} are one name in two forms of Unicode; merge the folders")
    nested = {name: split / name / "images" for name in names}
    return list_images({name: place if place.is_dir() else split / name for name, place in nested.items()})


def list_images(classes: Mapping[str, Path]) -> Listing:
    """List the images in the folder of each class without decoding any; names that begin with a dot are ignored.

    A file is an image if its name ends as such or, where it does not, if PIL knows its content. Others are skipped, and
    one line on stderr counts them. Raises DataError where a class is empty, holds folders, or cannot be read.
    """
    digest = hashlib.sha256(f"rule {_RULE}\n".encode())
    files: list[str] = []
    labels: list[int] = []
    skipped: list[str] = []
    for label, folder in enumerate(classes.values()):
        try:
            with os.scandir(folder) as entries:
                found = sorted((each for each in entries if not each.name.startswith(".")), key=lambda each: each.name)
        except OSError as error:
            raise DataError(f"{folder}: cannot be read ({error.strerror})") from error
        images = []
        for entry in found:
            if Path(entry.path).is_dir() if entry.is_symlink() else entry.is_dir():
                raise DataError(f"{entry.path}: a folder where images are expected; move its files up, or remove it")
            if _is_image(entry):
                images.append(entry)
            else:
                skipped.append(entry.path)
        if not images:
            raise DataError(f"{folder}: no images in it; every class needs some in train and in test")
        for entry in images:
            try:
                status = entry.stat()
                stamp = f"{status.st_size}\0{status.st_mtime_ns}"
            except OSError as error:  # such as a link to nowhere: named with all others that cannot be decoded
                stamp = str(error.errno)
            digest.update(os.fsencode(f"{folder.name}/{entry.name}\0{stamp}\n"))
        files += [entry.path for entry in images]
        labels += [label] * len(images)
    if skipped:
        some = "1 file that is no image" if len(skipped) == 1 else f"{len(skipped):,} files that are no images, such as"
        print(f"Note: skipped {some}: {skipped[0]}", file=sys.stderr)
    return Listing(tuple(files), tuple(labels), tuple(classes), digest.hexdigest())


@cache
def _suffixes() -> frozenset[str]:
    """Return the ends of names, in lower case and with the dot, of files that PIL reads."""
    from PIL import Image

    return frozenset(suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN)


def _is_image(entry: os.DirEntry[str]) -> bool:
    if not entry.is_symlink() and not entry.is_file():  # a pipe, for example, which would block its reader
        return False
    if f".{entry.name.rpartition('.')[2].lower()}" in _suffixes():
        return True
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(entry.path):
            return True
    except UnidentifiedImageError:
        return False
    except Exception:  # an image that is damaged, or a file that cannot be read: decoding it tells which
        return True


def labelled_as(listing: Listing, classes: tuple[str, ...], folder: Path) -> Listing:
    """Return the listing of test images with the labels of the training images' `classes`.

    Raises DataError where a class has no training images.
    """
    places = {unicodedata.normalize("NFC", name): place for place, name in enumerate(classes)}
    places_here = [places.get(unicodedata.normalize("NFC", name), -1) for name in listing.classes]
    if unknown := [name for name, place in zip(listing.classes, places_here, strict=True) if place < 0]:
        close = nearest(unknown[0], classes)
        hint = f"; train has {close!r}" if close else ""
        raise DataError(f"{folder}: classes with test images and without training images: {', '.join(unknown)}{hint}")
    return replace(listing, labels=tuple(places_here[label] for label in listing.labels), classes=classes)


def decode(listing: Listing, size: _Size | None, fit: _Fit | None) -> Images:
    """Decode the images of one split; see `decode_splits`."""
    return decode_splits((listing,), size, fit)[0]


def decode_splits(listings: Sequence[Listing], size: _Size | None, fit: _Fit | None) -> list[Images]:
    """Decode the images of some splits with PIL, one thread per core.

    `size`, width and height in pixels, is that of the first image by default, and `fit` brings images of another size
    to it. Raises DataError, which names all files that are no readable image, have another size, or have more than 8
    bits per channel.
    """
    files = [file for listing in listings for file in listing.files]
    problems: dict[str, str] = {}

    def decoded(file: str, size: _Size | None) -> NDArray[np.uint8] | None:
        try:
            return _decoded(file, size, fit)
        except DataError as error:
            problems[file] = str(error)
            return None

    if size is None:
        first = next((pixels for pixels in (decoded(file, None) for file in files) if pixels is not None), None)
        size = (1, 1) if first is None else first.shape[1::-1]
    width, height = size
    splits = [
        Images(np.empty((len(each.files), 3, height, width), np.uint8), np.array(each.labels, np.int64))
        for each in listings
    ]

    def decode_some(part: tuple[Images, Sequence[str], int]) -> None:
        images, files, start = part
        for index in range(start, min(start + _DECODED_AT_ONCE, len(files))):
            if (pixels := decoded(files[index], (width, height))) is not None:
                images.pixels[index] = pixels.transpose(2, 0, 1)

    parts = [
        (images, listing.files, start)
        for images, listing in zip(splits, listings, strict=True)
        for start in range(0, len(images), _DECODED_AT_ONCE)
    ]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with ThreadPoolExecutor(cores) as threads:
        list(threads.map(decode_some, parts))
    if problems:
        lines = [problems[file] for file in files if file in problems]
        if len(lines) > 1:
            lines.insert(0, f"{len(lines):,} of {len(files):,} images cannot be used:")
        hidden = len(lines) - 1 - _PROBLEMS_SHOWN
        raise DataError("\n  ".join(lines[: 1 + _PROBLEMS_SHOWN] + ([f"and {hidden:,} more"] if hidden > 0 else [])))
    return splits


def _decoded(file: str, size: _Size | None, fit: _Fit | None) -> NDArray[np.uint8]:
    """Return the pixels of an image, (height, width, 3)."""
    from PIL import ExifTags, Image, ImageOps

    try:
        with Image.open(file) as opened:
            image: Image.Image = opened
            if image.mode.startswith(_DEEP_MODES):
                raise DataError(f"{file}: more than 8 bits per channel (PIL's mode {image.mode}); convert it to 8")
            image.load()  # which turns a TIFF
            orientation = None
            with contextlib.suppress(Exception):  # EXIF that cannot be read says nothing
                orientation = image.getexif().get(ExifTags.Base.Orientation)
            if orientation not in (None, 1):
                image = ImageOps.exif_transpose(image)
            if size and not fit and image.size != size:
                found, expected = ("×".join(map(str, each)) for each in (image.size, size))
                raise DataError(
                    f"{file}: {found} pixels, expected {expected}; bring all images to one size, as the task `images`"
                    " does with task.size"
                )
            colour = image.convert("RGB")
            return np.asarray(fit(colour, size) if fit and size and image.size != size else colour)
    except DataError:
        raise
    except Exception as error:  # decoders raise many kinds, some without words
        reason = str(error) or type(error).__name__
        raise DataError(f"{file}: not a readable image ({reason}); replace or remove it") from error
