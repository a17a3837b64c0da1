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
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path

import numpy as np

from epsgrid.data._cache import cached
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


def load(root: str | None = None, download: bool = False, environment: Mapping[str, str] = os.environ) -> ImageSet:
    """Find CIFAR-10, decode it once, and return it mapped from the cache.

    Looked for in `root` alone where it is given; else as `cifar10-images` and `cifar-10-batches-py` in `$EPSGRID_DATA`
    and in `data` of the cache folder. What is found is decoded again only when a file's name, size or time of change is
    another.

    Args:
        root: an image folder, or a folder that is or holds torchvision's copy.
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


def _find(root: str | None, environment: Mapping[str, str]) -> Path | None:
    if root is None:
        places = [folder / name for folder in data_folders(environment) for name in (_FOLDER, _BATCHES)]
        return next((place for place in places if place.is_dir()), None)
    folder = Path(root).expanduser().absolute()
    if folder.name == _BATCHES and folder.is_dir():
        return folder
    if (folder / _BATCHES).is_dir():
        return folder / _BATCHES
    return folder if (folder / "train").is_dir() or (folder / "test").is_dir() else None


def _how_to_get(root: str | None, environment: Mapping[str, str]) -> str:
    first = data_folders(environment)[0]
    place = Path(root).expanduser().absolute() if root else first / _FOLDER
    copy = (place if root else first) / _BATCHES
    named = f"task.root {place} holds" if root else f"{' and '.join(map(str, data_folders(environment)))} hold"
    return (
        f"CIFAR-10 not found: {named} neither its images nor torchvision's copy. Either put its images, 32×32, in"
        f" {place} as train/<class>/* and test/<class>/*{'' if root else ' (or name their folder in task.root)'};"
        f" or say `download: true` under task: and torchvision downloads it (170 MB) to {copy}"
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


def _download(parent: Path) -> Path:
    """Let torchvision download and check its copy in a folder of our own, then move it into place."""
    target, making = parent.absolute() / _BATCHES, parent.absolute() / f".downloading-{uuid.uuid4().hex}"
    dataset = import_torchvision().datasets.CIFAR10
    try:
        making.mkdir(parents=True)
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
