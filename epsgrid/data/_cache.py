"""The folders of data sets and caches, and arrays that are computed once and mapped by every process afterwards.

Arrays are .npy files in a folder that is written under a temporary name and then renamed: it is complete or missing,
even if several processes make it at the same time. A damaged folder is made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from epsgrid.errors import DataError

_VERSION = 1
_ABOUT = "about.json"


def _cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return `$EPSGRID_CACHE`, or `epsgrid` in `$XDG_CACHE_HOME`, or `~/.cache/epsgrid`; empty variables are unset.

    >>> _cache_folder({"EPSGRID_CACHE": "/scratch/eps"}).as_posix()
    '/scratch/eps'
    """
    if own := environment.get("EPSGRID_CACHE"):
        return Path(own).expanduser().absolute()
    return Path(environment.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute() / "epsgrid"


def arrays_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of the decoded arrays; it may be deleted at any time."""
    return _cache_folder(environment) / "arrays"


def keyed_folder(kind: str, key: str) -> Path:
    """Return the folder for arrays of one kind, named after a hash of everything that they are made from."""
    return arrays_folder() / f"{kind}-{hashlib.sha256(os.fsencode(key)).hexdigest()[:16]}"


def data_folders(environment: Mapping[str, str] = os.environ) -> tuple[Path, ...]:
    """Return the folders in which data sets are looked for, in this order: `$EPSGRID_DATA`, `data` in the cache."""
    own = environment.get("EPSGRID_DATA")
    cached = _cache_folder(environment) / "data"
    return (Path(own).expanduser().absolute(), cached) if own else (cached,)


@dataclass(frozen=True, eq=False)
class Arrays:
    """The contents of a folder: `arrays` by the stem of their file, and anything else in `about`, as JSON values."""

    arrays: Mapping[str, NDArray[Any]]
    about: Mapping[str, Any]


def cached_arrays(folder: Path, make: Callable[[], Arrays]) -> Arrays:
    """Return the arrays stored in `folder`, mapped read-only; compute and store them first if it is missing or damaged.

    The folder is named after everything that the arrays are made from. Raises DataError where it cannot be written.
    """
    if (found := _open(folder)) is not None:
        return found
    made = make()
    problem: OSError | None = None
    try:
        with new_folder(folder) as temporary:
            for name, array in made.arrays.items():
                with _flushed(temporary / f"{name}.npy") as file:
                    np.save(file, array, allow_pickle=False)
            shapes = {name: list(array.shape) for name, array in made.arrays.items()}
            document = {"version": _VERSION, "shapes": shapes, "about": dict(made.about)}
            with _flushed(temporary / _ABOUT) as file:
                file.write(json.dumps(document).encode())
            if _open(folder) is None:
                shutil.rmtree(folder, ignore_errors=True)  # damaged; processes that have mapped it keep their arrays
    except OSError as error:
        problem = error
    if (written := _open(folder)) is None:  # it is there where another process was faster
        raise DataError(
            f"cannot write prepared data into {folder.parent}: {problem};"
            " make room there, or name another folder in the environment variable EPSGRID_CACHE"
        ) from problem
    return written


def find_cached(kind: str, checksum: str) -> Arrays | None:
    """Return the arrays of one kind with this checksum in `about`; None if no folder has them."""
    folders = (_open(folder) for folder in sorted(arrays_folder().glob(f"{kind}-*")))
    return next((found for found in folders if found and found.about.get("checksum") == checksum), None)


def _open(folder: Path) -> Arrays | None:
    """Map the arrays of a folder; return None if it is missing, damaged or of another version."""
    try:
        document = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
        if document["version"] != _VERSION:
            return None
        arrays = {}
        for name, shape in document["shapes"].items():
            mode: Any = "r" if 0 not in shape else None  # an empty array cannot be mapped
            # a plain ndarray is faster to index than np.memmap
            arrays[name] = np.asarray(np.load(folder / f"{name}.npy", mmap_mode=mode, allow_pickle=False))
            if list(arrays[name].shape) != shape:
                return None
        return Arrays(arrays, document["about"])
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError):
        return None


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Make a folder under a temporary name, which is yielded, and rename it afterwards: it is complete or missing."""
    temporary = folder.parent / f".making-{uuid.uuid4().hex}"
    try:
        temporary.mkdir(parents=True)
        yield temporary
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _flushed(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for writing and force it to disk: a renamed folder must not hold empty files after a power cut."""
    with path.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
