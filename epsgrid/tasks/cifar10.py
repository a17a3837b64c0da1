"""CIFAR-10 with the published recipe (AdaBelief's repository, after AdaBound).

Images are cut to 32×32 after padding with 4 black pixels, flipped half of the time, and normalised with the published
mean and deviation; cross-entropy; accuracy. The published protocol trains on all 50,000 images and watches the test
set: `validation: 0` with `training.selection: test`.

The data (Krizhevsky 2009) are read from an image folder, `train/<class>/*` and `test/<class>/*`, classes in the order
of their names, or from torchvision's copy, `cifar-10-batches-py`, which is downloaded only when asked for.
"""

from __future__ import annotations

import shutil
import sys
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from epsgrid.data._cache import data_folders, keyed_folder, new_folder
from epsgrid.data._fetch import DataSet, Fetcher, Finding, Remote, md5_problem
from epsgrid.data._images import (
    Images,
    ImageSet,
    Listing,
    cached_images,
    decode,
    decode_splits,
    find_images,
    image_set,
    labelled_as,
    list_split,
)
from epsgrid.data._torchvision import import_torchvision
from epsgrid.errors import DataError
from epsgrid.spec.options import TaskOptions
from epsgrid.tasks._build import image_builder
from epsgrid.tasks._divide import DividedImages, divide
from epsgrid.tasks._options import Subset

MEAN, SD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
_SIZES = (50_000, 10_000)
_SIDE = 32
_CLASSES = 10
_FOLDER = "cifar10-images"
_COPY = "cifar-10-batches-py"

ARCHIVE = Remote("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a")
"""The archive on its author's own page, as torchvision knows it."""

_BATCHES = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
    "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
}
"""MD5 of the files in torchvision's copy, as in torchvision."""

START = {"model": "vgg11", "training": {"epochs": 200, "batch_size": 128}}


class Options(TaskOptions):
    """Where CIFAR-10 lies, how many images are held out, and how training images are varied."""

    location_fields: ClassVar[frozenset[str]] = frozenset({"root", "download"})

    root: str | None = None
    """Folder of the data; it is no part of a trial's identity, their checksum is. null: looked for in the data folders
    (`epsgrid data list`)."""
    download: bool = False
    """Fetch the data where they are missing."""
    validation: Annotated[int, Field(ge=0)] = 5000
    """Training images that are held out for validation, to choose by."""
    subset: Subset = Subset()
    augment: bool = True
    """Shift and mirror the training images at random."""


def prepare(options: Options) -> DividedImages:
    """Find CIFAR-10, decode it once, and return it mapped from the cache.

    It is looked for as `cifar10-images` and `cifar-10-batches-py` in `$EPSGRID_DATA` and in `data` of the cache folder;
    if `root` is given, there alone, or `root` is one of the two itself. It is decoded again only if a file's name, size
    or modification time differs.
    """
    root = Path(options.root).expanduser().absolute() if options.root else None
    place = _find((root,) if root else data_folders())
    if place is None and root and root.is_dir():
        place = root if root.name == _COPY or (root / "train").is_dir() or (root / "test").is_dir() else None
    folder = root or data_folders()[0]
    if place is None and options.download:
        fetch(folder, Fetcher(say=lambda line: print(line, file=sys.stderr)))
        place = folder / _COPY
    if place is None:
        searched = root or " or ".join(map(str, data_folders()))
        raise DataError(
            f"CIFAR-10 not found: neither its images nor torchvision's copy in {searched}. Put its images, 32×32,"
            f" in {root or folder / _FOLDER} as train/<class>/* and test/<class>/*, or name their folder in task.root;"
            " or say `download: true` under task: and torchvision's copy is downloaded (170 MB) to"
            f" {folder / _COPY}, as `epsgrid data fetch cifar10` does"
        )
    images = _from_batches(place) if place.name == _COPY else _from_folder(place)
    return divide(images, options.validation, options.subset)


def find(options: Options, checksum: str) -> DividedImages | None:
    """Return the cached data with this checksum; None if they have to be prepared."""
    found = find_images("cifar10", checksum)
    return None if found is None else divide(found, options.validation, options.subset)


build = image_builder(255, MEAN, SD)


def fetch(folder: Path, fetcher: Fetcher) -> bool:
    """Put torchvision's copy into a folder, and return whether it was missing; an archive that is there is used."""
    if _find((folder,)) is not None:
        return False
    archive = folder / ARCHIVE.name
    fetched = fetcher.get({archive: ARCHIVE})
    fetcher.say(f"unpacking {archive}")
    target = folder / _COPY
    try:
        with tarfile.open(archive) as tar, new_folder(target) as temporary:
            for name in _BATCHES:  # read by name, so that nothing in the archive can reach outside of the folder
                with tar.extractfile(f"{_COPY}/{name}") as packed, (temporary / name).open("wb") as file:  # type: ignore[union-attr]
                    shutil.copyfileobj(packed, file)
    except (OSError, tarfile.TarError, KeyError, EOFError, zlib.error) as error:
        if not target.is_dir():  # otherwise another process was faster
            raise DataError(
                f"{archive} cannot be unpacked: {error}; make room there, or remove it to have it fetched again"
            ) from error
    if fetched:
        archive.unlink(missing_ok=True)
    return True


def _find(folders: Sequence[Path]) -> Path | None:
    """Return the image folder or torchvision's copy in the first of the folders that has one; else None."""
    places = [folder / name for folder in folders for name in (_FOLDER, _COPY)]
    return next((place for place in places if place.is_dir()), None)


def _check(place: Path) -> Iterator[Finding]:
    """Check what was found: checksums of torchvision's copy, or counts and every image of an image folder."""
    if place.name == _COPY:
        for name, md5 in _BATCHES.items():
            yield Finding(name, md5_problem(place / name, md5))
        return
    for name, size in zip(("train", "test"), _SIZES, strict=True):
        try:
            listing = _list_split(place / name)
            decode(listing, (_SIDE, _SIDE), None)
        except DataError as error:
            yield Finding(name, str(error))
            continue
        counts = zip(listing.classes, np.bincount(listing.labels), strict=True)
        wrong = [f"{label} has {count:,}" for label, count in counts if count * _CLASSES != size]
        problem = f"every class has {size // _CLASSES:,} images, but {', '.join(wrong)}" if wrong else None
        yield Finding(f"{name}: {len(listing.files):,} images, all readable", problem)


DATA_SET = DataSet(
    "cifar10",
    contents="60,000 images of 32×32 pixels in ten classes",
    files=(ARCHIVE,),
    download_mb=170,
    licence="none stated; its author asks to cite Krizhevsky 2009",
    tasks=("cifar10",),
    find=_find,
    fetch=fetch,
    check=_check,
)


def _list_split(split: Path) -> Listing:
    listing = list_split(split)
    if (found := len(listing.classes)) != _CLASSES:
        raise DataError(
            f"{split}: expected {_CLASSES} class folders, found {found} ({', '.join(listing.classes) or 'none'});"
            " a class is missing, or another data set lies there"
        )
    return listing


def _from_folder(folder: Path) -> ImageSet:
    train, test = (_list_split(folder / split) for split in ("train", "test"))
    test = labelled_as(test, train.classes, folder)

    def read() -> ImageSet:
        training, testing = decode_splits((train, test), (_SIDE, _SIDE), None)
        return _described(training, testing, train.classes)

    return cached_images(keyed_folder("cifar10", f"{folder}\0{train.signature}\0{test.signature}"), read)


def _from_batches(folder: Path) -> ImageSet:
    def read() -> ImageSet:
        dataset = import_torchvision().datasets.CIFAR10
        try:
            train, test = (dataset(str(folder.parent), train=train) for train in (True, False))
        except (OSError, RuntimeError) as error:
            raise DataError(
                f"{folder}: torchvision's copy of CIFAR-10 is incomplete or damaged ({error});"
                " delete that folder and say `download: true` under task:, or use an image folder"
            ) from error
        return _described(images(train), images(test), tuple(train.classes))

    def images(dataset: Any) -> Images:
        pixels = np.ascontiguousarray(dataset.data.transpose(0, 3, 1, 2))
        return Images(pixels, np.array(dataset.targets, np.int64))

    files = sorted((path.name, path.stat()) for path in folder.iterdir() if path.is_file())
    signature = "\n".join(f"{name} {status.st_size} {status.st_mtime_ns}" for name, status in files)
    return cached_images(keyed_folder("cifar10", f"{folder}\0{signature}"), read)


def _described(train: Images, test: Images, classes: tuple[str, ...]) -> ImageSet:
    whole = (len(train), len(test)) == _SIZES
    return image_set(train, test, classes, "CIFAR-10" if whole else "CIFAR-10 (a subset of its 60,000 images)")
