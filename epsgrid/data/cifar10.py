"""CIFAR-10 (Krizhevsky 2009): 50,000 training and 10,000 test images of 32×32 pixels in ten classes.

Read from an image folder, `train/<class>/*` and `test/<class>/*` in any format PIL reads, or from torchvision's copy,
`cifar-10-batches-py`, which is downloaded only when asked for. Class folders sorted by name are the classes in their
official order.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from http.client import HTTPException
from pathlib import Path

import numpy as np

from epsgrid.data._cache import cached
from epsgrid.data._fetch import Fetcher, Finding, Remote, md5_problem
from epsgrid.data._folder import decode, list_images
from epsgrid.data._images import Images, ImageSet, image_set
from epsgrid.data._places import arrays_folder, data_folders
from epsgrid.data._torchvision import import_torchvision
from epsgrid.errors import DataError

SIDE = 32
CLASSES = 10
SIZES = (50_000, 10_000)
_FOLDER = "cifar10-images"
_BATCHES = "cifar-10-batches-py"

ARCHIVE = Remote("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a")
"""What torchvision downloads; its author's own page."""

BATCHES = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
    "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
}
"""MD5 of the files in torchvision's copy, as torchvision has them: known here, they are checked without torch."""


def load(root: str | None = None, download: bool = False, environment: Mapping[str, str] = os.environ) -> ImageSet:
    """Find CIFAR-10, decode it once, and return it mapped from the cache.

    Looked for in `root` alone where it is given; else as `cifar10-images` and `cifar-10-batches-py` in `$EPSGRID_DATA`
    and in `data` of the cache folder. What is found is decoded again only when a file's name, size or time of change is
    another.

    Args:
        root: an image folder, or a folder that holds one as `cifar10-images`, or that is or holds torchvision's copy.
        download: let torchvision download its copy where none is found.
        environment: variables that name the folders.

    Raises:
        DataError: nothing is found, and how to get it; or what is found is damaged or incomplete.
    """
    source = _find(root, environment)
    if source is None and download:
        source = _download(Path(root).expanduser() if root else data_folders(environment)[0])
    if source is None:
        raise DataError(_how_to_get(root, environment))
    if source.name == _BATCHES:
        return _load_batches(source, environment)
    return _load_folder(source, environment)


def find(folders: Sequence[Path]) -> Path | None:
    """Return the image folder or torchvision's copy in the first of the folders that has one; else None."""
    places = [folder / name for folder in folders for name in (_FOLDER, _BATCHES)]
    return next((place for place in places if place.is_dir()), None)


def fetch(folder: Path, fetcher: Fetcher) -> bool:
    """Put torchvision's copy into a folder, unless CIFAR-10 is there; an archive that lies there is used.

    Returns:
        Whether anything had to be done.

    Raises:
        DataError: the archive cannot be fetched, and how to get it by hand; or it cannot be unpacked.
    """
    if find((folder,)) is not None:
        return False
    archive = folder / ARCHIVE.name
    fetched = fetcher.get({archive: ARCHIVE})
    fetcher.say(f"unpacking {archive}")
    _download(folder, archive)
    if fetched:
        archive.unlink(missing_ok=True)
    return True


def check(place: Path) -> Iterator[Finding]:
    """Look through what `find` found: checksums of torchvision's copy, or counts and every image of an image folder."""
    if place.name == _BATCHES:
        for name, md5 in BATCHES.items():
            yield Finding(name, md5_problem(place / name, md5))
        return
    for split, size in zip(("train", "test"), SIZES, strict=True):
        yield _check_images(place / split, size)


def _check_images(split: Path, size: int) -> Finding:
    """Count a split's images, class by class, and decode them all."""
    try:
        listing = list_images(split, CLASSES)
        decode(listing, SIDE)
    except DataError as error:
        return Finding(split.name, str(error))
    counts = [listing.labels.count(label) for label in range(CLASSES)]
    wrong = [
        f"{name} has {count:,}" for name, count in zip(listing.classes, counts, strict=True) if count * CLASSES != size
    ]
    problem = f"every class has {size // CLASSES:,} images, but {', '.join(wrong)}" if wrong else None
    return Finding(f"{split.name}: {len(listing.files):,} images, all readable", problem)


def _find(root: str | None, environment: Mapping[str, str]) -> Path | None:
    if root is None:
        return find(data_folders(environment))
    folder = Path(root).expanduser().absolute()
    if folder.name == _BATCHES and folder.is_dir():
        return folder
    if held := find((folder,)):
        return held
    return folder if (folder / "train").is_dir() or (folder / "test").is_dir() else None


def _how_to_get(root: str | None, environment: Mapping[str, str]) -> str:
    first = data_folders(environment)[0]
    place = Path(root).expanduser().absolute() if root else first / _FOLDER
    copy = (place if root else first) / _BATCHES
    named = f"task.root {place} holds" if root else f"{' and '.join(map(str, data_folders(environment)))} hold"
    return (
        f"CIFAR-10 not found: {named} neither its images nor torchvision's copy. Either put its images, 32×32, in"
        f" {place} as train/<class>/* and test/<class>/*{'' if root else ' (or name their folder in task.root)'};"
        f" or say `download: true` under task: and torchvision downloads it (170 MB) to {copy},"
        " as `epsgrid data fetch cifar10` does"
    )


def _load_folder(folder: Path, environment: Mapping[str, str]) -> ImageSet:
    train, test = (list_images(folder / split, CLASSES) for split in ("train", "test"))
    if train.classes != test.classes:
        differing = ", ".join(sorted(set(train.classes) ^ set(test.classes)))
        raise DataError(f"{folder}: train and test must have the same class folders; only one of them has: {differing}")

    def make() -> ImageSet:
        return _described(decode(train, SIDE), decode(test, SIDE), train.classes)

    return cached(_arrays(environment, str(folder), train.signature, test.signature), make)


def _load_batches(folder: Path, environment: Mapping[str, str]) -> ImageSet:
    files = sorted((path.name, path.stat()) for path in folder.iterdir() if path.is_file())
    signature = "\n".join(f"{name} {status.st_size} {status.st_mtime_ns}" for name, status in files)
    return cached(_arrays(environment, str(folder), signature), lambda: _read_batches(folder))


def _read_batches(folder: Path) -> ImageSet:
    dataset = import_torchvision().datasets.CIFAR10
    try:
        train, test = (dataset(str(folder.parent), train=train) for train in (True, False))
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"{folder}: torchvision's copy of CIFAR-10 is incomplete or damaged ({error});"
            " delete that folder and say `download: true` under task:, or use an image folder"
        ) from error
    return _described(_images(train), _images(test), tuple(train.classes))


def _images(dataset: object) -> Images:
    pixels, labels = dataset.data, dataset.targets  # type: ignore[attr-defined]
    return Images(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)), np.array(labels, np.int64))


def _described(train: Images, test: Images, classes: tuple[str, ...]) -> ImageSet:
    whole = (len(train), len(test)) == SIZES
    return image_set(train, test, classes, "CIFAR-10" if whole else "CIFAR-10 (a subset of its 60,000 images)")


def _arrays(environment: Mapping[str, str], *parts: str) -> Path:
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    return arrays_folder(environment) / f"cifar10-{key[:16]}"


def _download(parent: Path, archive: Path | None = None) -> Path:
    """Let torchvision download, check and unpack its copy in a folder of our own, then move it into place.

    It takes `archive` where that is given, after checking it, and downloads nothing.
    """
    target, making = parent.absolute() / _BATCHES, parent.absolute() / f".downloading-{uuid.uuid4().hex}"
    dataset = import_torchvision().datasets.CIFAR10
    try:
        making.mkdir(parents=True)
        if archive is not None:
            (making / dataset.filename).symlink_to(archive.absolute())
        with contextlib.redirect_stdout(sys.stderr):  # stdout is for results
            dataset(str(making), download=True)
        _move(making / _BATCHES, target)
    except (OSError, RuntimeError, HTTPException) as error:
        raise DataError(
            f"downloading CIFAR-10 from {dataset.url} failed: {error}; try again, or get it elsewhere and put it"
            f" at {target}, or put its images in {parent.absolute() / _FOLDER} as train/<class>/* and test/<class>/*"
        ) from error
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return target


def _move(folder: Path, target: Path) -> None:
    try:
        folder.rename(target)
    except OSError:
        if not target.is_dir():  # else another process was faster
            raise
