"""Any folder of labelled images: train/<class>/* and test/<class>/*, in any format PIL reads.

`val` or `validation` will do where there is no `test`, or where its images are not by class. Tiny-ImageNet is read as
its archive unpacks: 200 folders train/<class>/images/*, and val/images/* with their classes in val/val_annotations.txt;
its own test images have no labels, so the 10,000 of val are the test images, as in the published experiments.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from epsgrid.data._arrays import Arrays, cached_arrays
from epsgrid.data._cache import cached
from epsgrid.data._folder import Listing, class_names, decode_sized, image_size, list_classes
from epsgrid.data._images import ImageSet, image_set
from epsgrid.data._places import arrays_folder
from epsgrid.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

    from epsgrid.data._folder import Fit

FitName = Literal["center-crop", "resize"]

_TESTS = ("test", "val", "validation")
_ANNOTATIONS = "val_annotations.txt"
_AT_ONCE = 1000


def load(
    root: str, size: int | None = None, fit: FitName = "center-crop", environment: Mapping[str, str] = os.environ
) -> ImageSet:
    """List an image folder, decode it once, and return it mapped from the cache.

    It is decoded again when a file's name, size or time of change is another, or when `size` or `fit` is.

    Args:
        root: the folder that holds `train` and `test`.
        size: height and width to bring every image to, in pixels; None where all have the same size already.
        fit: how: scale the shorter side to `size` and cut the middle out, or stretch both sides to it.
        environment: variables that name the cache folder.

    Raises:
        DataError: the folder or a class is missing, the splits have different classes, or an image cannot be read or
            has another size than the first one and `size` is None.
    """
    folder = Path(root).expanduser().absolute()
    train = _list_train(folder / "train")
    test = _list_test(folder, set(train.classes))
    if train.classes != test.classes:
        test = _same_classes(folder, train, test)
    key = hashlib.sha256(
        "\0".join((str(folder), train.signature, test.signature, f"{size} {fit}")).encode()
    ).hexdigest()
    name = f"images of {folder.name}"
    return cached(arrays_folder(environment) / f"images-{key[:16]}", lambda: _decode(train, test, size, fit, name))


def mean_and_sd(images: ImageSet, environment: Mapping[str, str] = os.environ) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation of all training pixels by channel, as shares of white; kept in the cache.

    Raises:
        DataError: the pixels of a channel are all the same.
    """
    kept = cached_arrays(arrays_folder(environment) / f"pixels-{images.checksum[:16]}", lambda: _count_pixels(images))
    counts = kept.arrays["counts"]
    values = np.arange(256) / 255
    mean = counts @ values / counts.sum(1)
    sd = np.sqrt((counts * (values - mean[:, np.newaxis]) ** 2).sum(1) / counts.sum(1))
    if not sd.all():
        raise DataError(
            f"{images.description}: all training pixels of a channel are the same, so they cannot be normalised;"
            " check the images, or set task.mean and task.std"
        )
    return mean.tolist(), sd.tolist()


def _count_pixels(images: ImageSet) -> Arrays:
    """Count how often each value occurs in each channel: (channels, 256)."""
    pixels = images.train.pixels
    counts = np.zeros((pixels.shape[1], 256), np.int64)
    for start in range(0, len(pixels), _AT_ONCE):
        for channel in range(pixels.shape[1]):
            counts[channel] += np.bincount(pixels[start : start + _AT_ONCE, channel].reshape(-1), minlength=256)
    return Arrays({"counts": counts}, {})


def _list_train(split: Path) -> Listing:
    """List the training images; where all that a class folder holds as a folder is `images`, they lie in there."""
    names = class_names(split)
    if len(names) < 2:
        raise DataError(f"{split}: found {len(names)} class folders; classification needs two or more")
    return list_classes((name, _images_of(split / name)) for name in names)


def _images_of(folder: Path) -> Path:
    return folder / "images" if (folder / "images").is_dir() else folder


def _list_test(folder: Path, classes: set[str]) -> Listing:
    """List the test images: of the splits by class the first that has any of the training images' classes.

    So a `test` whose images have no labels, as data sets of competitions have it, does not stand before a `val`.
    """
    if (folder / "val" / _ANNOTATIONS).is_file() and (folder / "val" / "images").is_dir():
        return _list_annotated(folder / "val")
    splits = [folder / name for name in _TESTS if (folder / name).is_dir()]
    if not splits:
        raise DataError(
            f"{folder}: found none of the folders {', '.join(_TESTS)}, which hold images to test on by class"
        )
    for split in splits:
        names = class_names(split)
        if classes & set(names):
            return list_classes((each, _images_of(split / each)) for each in names)
    raise DataError(
        f"{' and '.join(map(str, splits))}: no folder of a training class such as {min(classes)!r};"
        f" the images to test on lie in {splits[0]}/<class>/*"
    )


def _list_annotated(split: Path) -> Listing:
    """List Tiny-ImageNet's val: one folder of images, and a file whose lines begin with name and class."""
    annotations = split / _ANNOTATIONS
    pairs = []
    for number, line in enumerate(_read_lines(annotations), 1):
        name, *rest = line.split("\t")
        if not rest:
            raise DataError(f"{annotations}:{number}: expected a file name and its class between tabs, got {line!r}")
        pairs.append((rest[0], name))
    everything = list_classes([("val", split / "images")])
    present = {Path(file).name: file for file in everything.files}
    missing = [name for _, name in pairs if name not in present]
    if missing:
        raise DataError(
            f"{split / 'images'}: {len(missing)} images that {annotations} names are not there: {missing[0]}"
        )
    classes = tuple(sorted({label for label, _ in pairs}))
    number_of = {label: number for number, label in enumerate(classes)}
    pairs.sort()
    signature = hashlib.sha256(f"{everything.signature} {pairs}".encode()).hexdigest()
    files = tuple(present[name] for _, name in pairs)
    return Listing(files, tuple(number_of[label] for label, _ in pairs), classes, signature)


def _read_lines(file: Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read ({error}); unpack the archive again") from error
    if not lines:
        raise DataError(f"{file}: an empty file; it must name images and their classes, a line each")
    return lines


def _same_classes(folder: Path, train: Listing, test: Listing) -> Listing:
    """Number the test images' classes as the training images' are; classes without a test image are allowed.

    Raises:
        DataError: a test image is of a class that has no training images.
    """
    unknown = sorted(set(test.classes) - set(train.classes))
    if unknown:
        raise DataError(f"{folder}: classes with test images and without training images: {', '.join(unknown)}")
    number_of = {name: number for number, name in enumerate(train.classes)}
    labels = tuple(number_of[test.classes[label]] for label in test.labels)
    return dataclasses.replace(test, labels=labels, classes=train.classes)


def _decode(train: Listing, test: Listing, size: int | None, fit: FitName, name: str) -> ImageSet:
    if size is None:
        return _decode_as_they_are(train, test, name)
    shape, by = (size, size), _FITS[fit]
    return image_set(decode_sized(train, shape, by), decode_sized(test, shape, by), train.classes, name)


def _decode_as_they_are(train: Listing, test: Listing, name: str) -> ImageSet:
    shape = image_size(train.files[0])
    try:
        return image_set(decode_sized(train, shape), decode_sized(test, shape), train.classes, name)
    except DataError as error:
        hint = (
            ", the size of the first image; set task.size to bring all to one size" if "expected" in str(error) else ""
        )
        raise DataError(f"{error}{hint}") from error


def _center_crop(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    from PIL import Image, ImageOps

    return ImageOps.fit(image, size, Image.Resampling.BILINEAR)


def _resize(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    from PIL import Image

    return image.resize(size, Image.Resampling.BILINEAR)


_FITS: dict[FitName, Fit] = {"center-crop": _center_crop, "resize": _resize}
