"""Any folder of labelled images as a task: one's own, or Tiny-ImageNet as its archive unpacks.

Cross-entropy; accuracy. Images lie in train/<class>/* and test/<class>/* below `root`, in any format PIL reads; they
are turned upright as their EXIF orientation says, and files that are no images are skipped.
Training images are cut out at random after padding with an eighth of their size in black, and flipped half of the time.

Tiny-ImageNet has 200 folders train/<class>/images/*, and val/images/* with their classes in val/val_annotations.txt;
its own test images have no labels, so the 10,000 of val are the test images, as in the published experiments.
"""

from __future__ import annotations

import hashlib
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from epsgrid.data._cache import Arrays, arrays_folder, cached_arrays, keyed_folder
from epsgrid.data._corpus import text_lines
from epsgrid.data._images import (
    ImageSet,
    Listing,
    cached_images,
    decode_splits,
    find_images,
    image_set,
    labelled_as,
    list_images,
    list_split,
)
from epsgrid.errors import DataError
from epsgrid.spec.options import Count, TaskOptions
from epsgrid.tasks import Task
from epsgrid.tasks._divide import DividedImages, divide
from epsgrid.tasks._options import Subset

if TYPE_CHECKING:
    import torch
    from PIL import Image

_PADDING_FRACTION = 8
_VALIDATION_FRACTION = 10
_ANNOTATIONS = "val_annotations.txt"

START = {"model": "resnet34", "training": {"epochs": 100, "batch_size": 128}}


class Options(TaskOptions):
    """Where the images lie, their size, how many are held out, and whether they are varied."""

    location_fields: ClassVar[frozenset[str]] = frozenset({"root"})

    root: Annotated[str, Field(min_length=1, examples=["path/to/images"])]
    """Folder with `train/CLASS/*` and `test/CLASS/*`; it is no part of a trial's identity, the checksum of the decoded
    images is."""
    size: Count | None = None
    """Height and width to bring every image to, in pixels. null: all have the same size already."""
    fit: Literal["center-crop", "resize"] = "center-crop"
    """center-crop scales the shorter side and cuts the middle out; resize stretches both sides."""
    mean: None = None  # like `std` and `padding`, of an earlier version, and so part of the ids of its trials
    std: None = None
    validation: Annotated[int, Field(ge=0)] | None = None
    """Training images that are held out for validation, to choose by. null: a tenth of them."""
    subset: Subset = Subset()
    augment: bool = True
    """Shift and mirror the training images at random."""
    padding: None = None


def prepare(options: Options) -> DividedImages:
    """List the folder, decode it once, and return it mapped from the cache.

    It is decoded again if the name, size or modification time of a file differs, or `size` or `fit`.
    """
    folder = Path(options.root).expanduser().absolute()
    train = list_split(folder / "train")
    if len(train.classes) < 2:
        raise DataError(
            f"{folder / 'train'}: found {len(train.classes)} class folders; classification needs two or more"
        )
    annotated = (folder / "val" / _ANNOTATIONS).is_file()
    test = _list_annotated(folder / "val") if annotated else list_split(folder / "test")
    test = labelled_as(test, train.classes, folder)

    def decoded() -> ImageSet:
        size, fit = None, None
        if options.size is not None:
            size, fit = (options.size, options.size), partial(_fit, options.fit)
        training, testing = decode_splits((train, test), size, fit)
        return image_set(training, testing, train.classes, f"images of {folder.name}")

    key = f"{folder}\0{train.signature}\0{test.signature}\0{options.size} {options.fit}"
    images = cached_images(keyed_folder("images", key), decoded)
    mean_and_sd(images)  # computed here once, and not in every worker
    return _divided(options, images)


def find(options: Options, checksum: str) -> DividedImages | None:
    """Return the cached data with this checksum; None if they have to be prepared."""
    found = find_images("images", checksum)
    return None if found is None else _divided(options, found)


def build(options: Options, data: DividedImages, device: torch.device) -> Task:
    """Bind the task to its data and a device."""
    from epsgrid.tasks._images import ImageTask

    padding = min(data.images.train.pixels.shape[2:]) // _PADDING_FRACTION
    mean, sd = mean_and_sd(data.images)
    return ImageTask(data, device, white=255, mean=mean, sd=sd, augment=options.augment, padding=padding)


def _divided(options: Options, images: ImageSet) -> DividedImages:
    held_out = len(images.train) // _VALIDATION_FRACTION if options.validation is None else options.validation
    return divide(images, held_out, options.subset)


def mean_and_sd(images: ImageSet) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of all training pixels by channel, as fractions of white; kept in the cache.

    Raises DataError where the pixels of a channel are all the same.
    """

    def count() -> Arrays:
        """Count how often each value occurs in each channel: (channels, 256)."""
        channels = images.train.pixels.swapaxes(0, 1)
        counts = [sum(np.bincount(image.reshape(-1), minlength=256) for image in channel) for channel in channels]
        return Arrays({"counts": np.array(counts, np.int64)}, {})

    counts = cached_arrays(arrays_folder() / f"pixels-{images.checksum[:16]}", count).arrays["counts"]
    values = np.arange(256) / 255
    mean = counts @ values / counts.sum(1)
    sd = np.sqrt((counts * (values - mean[:, np.newaxis]) ** 2).sum(1) / counts.sum(1))
    if not sd.all():
        raise DataError(
            f"{images.description}: all training pixels of a channel are the same, so they cannot be normalised;"
            " check the images"
        )
    return tuple(mean.tolist()), tuple(sd.tolist())


def _list_annotated(split: Path) -> Listing:
    """List Tiny-ImageNet's val: one folder of images, and a file whose lines begin with name and class."""
    annotations = split / _ANNOTATIONS
    try:
        rows = [line.split("\t")[:2] for line in text_lines(annotations.read_bytes(), annotations)]
        pairs = sorted((label, name) for name, label in rows)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{annotations}: not lines of a file name and its class between tabs ({error}); unpack the archive again"
        ) from error
    everything = list_images({"val": split / "images"})
    present = {Path(file).name: file for file in everything.files}
    if missing := [name for _, name in pairs if name not in present]:
        raise DataError(
            f"{split / 'images'}: {len(missing)} images that {annotations} names are not there: {missing[0]}"
        )
    classes = tuple(sorted({label for label, _ in pairs}))
    signature = hashlib.sha256(os.fsencode(f"{everything.signature} {pairs}")).hexdigest()
    files = tuple(present[name] for _, name in pairs)
    return Listing(files, tuple(classes.index(label) for label, _ in pairs), classes, signature)


def _fit(how: str, image: Image.Image, size: tuple[int, int]) -> Image.Image:
    from PIL import Image, ImageOps

    if how == "center-crop":
        return ImageOps.fit(image, size, Image.Resampling.BILINEAR)
    return image.resize(size, Image.Resampling.BILINEAR)
