"""Any folder of labelled images as a task: one's own, or Tiny-ImageNet as its archive unpacks.

Cross-entropy; accuracy. Images lie in train/<class>/* and test/<class>/* below `root`, in any format PIL reads, and are
brought to one size if they differ. Training images are varied as in the published recipes: cut out at random after
padding with an eighth of their size (4 at 32 pixels, 8 at 64) in black, and flipped half of the time. Mean and
deviation are those of the training images unless the spec states others.

`val` or `validation` is read if there is no `test`, or if the images of `test` are not sorted by class. Tiny-ImageNet
is read as its archive unpacks: 200 folders train/<class>/images/*, and val/images/* with their classes in
val/val_annotations.txt; its own test images have no labels, so the 10,000 of val are the test images, as in the
published experiments.
"""

from __future__ import annotations

import dataclasses
import hashlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from epsgrid.data._cache import Arrays, arrays_folder, cached_arrays, keyed_folder
from epsgrid.data._images import (
    ImageSet,
    Listing,
    cached_images,
    class_names,
    decode,
    find_images,
    image_set,
    list_images,
    list_split,
    opened_image,
)
from epsgrid.errors import DataError
from epsgrid.spec.model import Count, PositiveFloat, TaskOptions
from epsgrid.tasks import Task
from epsgrid.tasks._divide import DividedImages, divide
from epsgrid.tasks._options import Subset

if TYPE_CHECKING:
    import torch
    from PIL import Image

_PADDING_FRACTION = 8
_VALIDATION_FRACTION = 10
_TEST_NAMES = ("test", "val", "validation")
_ANNOTATIONS = "val_annotations.txt"
_COUNTED_AT_ONCE = 1000


class Options(TaskOptions):
    """Where the images lie, their size, how many are held out, how they are normalised and varied.

    `root` is no part of a trial's identity; the checksum of the decoded images is. `size` is the height and width to
    bring every image to, in pixels, None if all have the same size already; `fit` says how: scale the shorter side and
    cut the middle out, or stretch both sides. By default `validation` is a tenth of the training images, and `padding`
    an eighth of the shorter side.
    """

    location_fields: ClassVar[frozenset[str]] = frozenset({"root"})

    root: Annotated[str, Field(min_length=1)]
    size: Count | None = None
    fit: Literal["center-crop", "resize"] = "center-crop"
    mean: tuple[float, float, float] | None = None
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = None
    validation: Annotated[int, Field(ge=0)] | None = None
    subset: Subset = Subset()
    augment: bool = True
    padding: Annotated[int, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _mean_and_std_go_together(self) -> Options:
        if (self.mean is None) != (self.std is None):
            raise ValueError(
                "mean and std go together; state both as shares of white, or neither to have them computed"
            )
        return self


def prepare(options: Options) -> DividedImages:
    """List the folder, decode it once, and return it mapped from the cache.

    It is decoded again if the name, size or modification time of a file differs, or `size` or `fit`.

    Raises:
        DataError: the folder or a class is missing, the splits have different classes, or an image cannot be read or
            has another size than the first one and `size` is None.
        SpecError: more images are asked for than there are.
    """
    folder = Path(options.root).expanduser().absolute()
    train = list_split(folder / "train")
    if len(train.classes) < 2:
        raise DataError(
            f"{folder / 'train'}: found {len(train.classes)} class folders; classification needs two or more"
        )
    test = _list_test(folder, train)
    key = f"{folder}\0{train.signature}\0{test.signature}\0{options.size} {options.fit}"

    def decoded() -> ImageSet:
        advice = ", the size of the first image; set task.size to bring all to one size"
        if options.size is None:
            with opened_image(train.files[0]) as image:
                size, fit = image.size, None
        else:
            size, fit = (options.size, options.size), partial(_fit, options.fit)
        splits = (decode(split, size, fit, advice) for split in (train, test))
        return image_set(next(splits), next(splits), train.classes, f"images of {folder.name}")

    images = cached_images(keyed_folder("images", key), decoded)
    if options.mean is None:
        mean_and_sd(images)  # computed here once, and not in every worker
    return _divided(options, images)


def find(options: Options, checksum: str) -> DividedImages | None:
    """Return the cached data with this checksum; None if they have to be prepared."""
    found = find_images("images", checksum)
    return None if found is None else _divided(options, found)


def build(options: Options, data: DividedImages, device: torch.device) -> Task:
    """Bind the task to its data and a device."""
    from epsgrid.tasks._images import ImageTask

    padding = options.padding
    if padding is None:
        padding = min(data.images.train.pixels.shape[2:]) // _PADDING_FRACTION
    if options.mean is None or options.std is None:
        mean, sd = mean_and_sd(data.images)
    else:
        mean, sd = options.mean, options.std
    return ImageTask(data, device, white=255, mean=mean, sd=sd, augment=options.augment, padding=padding)


def _divided(options: Options, images: ImageSet) -> DividedImages:
    held_out = len(images.train) // _VALIDATION_FRACTION if options.validation is None else options.validation
    return divide(images, held_out, options.subset)


def mean_and_sd(images: ImageSet) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of all training pixels by channel, as fractions of white; kept in the cache.

    Raises:
        DataError: the pixels of a channel are all the same.
    """

    def count() -> Arrays:
        """Count how often each value occurs in each channel: (channels, 256)."""
        pixels = images.train.pixels
        counts = np.zeros((pixels.shape[1], 256), np.int64)
        for start in range(0, len(pixels), _COUNTED_AT_ONCE):
            for channel in range(pixels.shape[1]):
                some = pixels[start : start + _COUNTED_AT_ONCE, channel]
                counts[channel] += np.bincount(some.reshape(-1), minlength=256)
        return Arrays({"counts": counts}, {})

    counts = cached_arrays(arrays_folder() / f"pixels-{images.checksum[:16]}", count).arrays["counts"]
    values = np.arange(256) / 255
    mean = counts @ values / counts.sum(1)
    sd = np.sqrt((counts * (values - mean[:, np.newaxis]) ** 2).sum(1) / counts.sum(1))
    if not sd.all():
        raise DataError(
            f"{images.description}: all training pixels of a channel are the same, so they cannot be normalised;"
            " check the images, or set task.mean and task.std"
        )
    return tuple(mean.tolist()), tuple(sd.tolist())


def _list_test(folder: Path, train: Listing) -> Listing:
    """List the test images, with the class numbers of the training images; a class may be without test images.

    They are in the first of the splits by class that has any of the training classes, so that a `test` whose images
    have no labels, as data sets of competitions have it, is not read instead of a `val`.
    """
    if (folder / "val" / _ANNOTATIONS).is_file() and (folder / "val" / "images").is_dir():
        test = _list_annotated(folder / "val")
    else:
        splits = [folder / name for name in _TEST_NAMES if (folder / name).is_dir()]
        if not splits:
            raise DataError(
                f"{folder}: found none of the folders {', '.join(_TEST_NAMES)}, which hold images to test on by class"
            )
        split = next((each for each in splits if set(train.classes) & set(class_names(each))), None)
        if split is None:
            raise DataError(
                f"{' and '.join(map(str, splits))}: no folder of a training class such as {train.classes[0]!r};"
                f" the images to test on lie in {splits[0]}/<class>/*"
            )
        test = list_split(split)
    unknown = sorted(set(test.classes) - set(train.classes))
    if unknown:
        raise DataError(f"{folder}: classes with test images and without training images: {', '.join(unknown)}")
    labels = tuple(train.classes.index(test.classes[label]) for label in test.labels)
    return dataclasses.replace(test, labels=labels, classes=train.classes)


def _list_annotated(split: Path) -> Listing:
    """List Tiny-ImageNet's val: one folder of images, and a file whose lines begin with name and class."""
    annotations = split / _ANNOTATIONS
    try:
        lines = annotations.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{annotations}: cannot be read ({error}); unpack the archive again") from error
    if not lines:
        raise DataError(f"{annotations}: an empty file; it must name images and their classes, a line each")
    pairs = []
    for number, line in enumerate(lines, 1):
        name, *rest = line.split("\t")
        if not rest:
            raise DataError(f"{annotations}:{number}: expected a file name and its class between tabs, got {line!r}")
        pairs.append((rest[0], name))
    pairs.sort()
    everything = list_images([("val", split / "images")])
    present = {Path(file).name: file for file in everything.files}
    missing = [name for _, name in pairs if name not in present]
    if missing:
        raise DataError(
            f"{split / 'images'}: {len(missing)} images that {annotations} names are not there: {missing[0]}"
        )
    classes = tuple(sorted({label for label, _ in pairs}))
    number_of = {label: number for number, label in enumerate(classes)}
    signature = hashlib.sha256(f"{everything.signature} {pairs}".encode()).hexdigest()
    files = tuple(present[name] for _, name in pairs)
    return Listing(files, tuple(number_of[label] for label, _ in pairs), classes, signature)


def _fit(how: str, image: Image.Image, size: tuple[int, int]) -> Image.Image:
    from PIL import Image, ImageOps

    if how == "center-crop":
        return ImageOps.fit(image, size, Image.Resampling.BILINEAR)
    return image.resize(size, Image.Resampling.BILINEAR)
