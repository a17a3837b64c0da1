"""Compute once, map for ever: named arrays as .npy files in a folder that all processes of a machine share.

A folder is written under a temporary name and then renamed, so it is there whole or not at all, whoever else is making
the same one at the same time. A damaged one is thrown away and made again.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from epsgrid.errors import DataError

_VERSION = 1
_ABOUT = "about.json"


@dataclass(frozen=True, eq=False)
class Arrays:
    """What a folder keeps.

    Attributes:
        arrays: by name; a name is the stem of a file.
        about: anything else, as plain JSON values.
    """

    arrays: Mapping[str, NDArray[Any]]
    about: Mapping[str, Any]


def cached_arrays(folder: Path, make: Callable[[], Arrays]) -> Arrays:
    """Return the arrays kept in `folder`, mapped read-only; make and keep them first if need be.

    Args:
        folder: named after all that the arrays are made from, so that other contents have another folder.
        make: computes them; called only when the folder is missing or damaged.

    Raises:
        DataError: the folder cannot be written; also whatever `make` raises.
    """
    found = _open(folder)
    if found is not None:
        return found
    made = make()
    try:
        _publish(folder, made)
    except OSError as error:
        raise DataError(
            f"cannot write prepared data into {folder.parent}: {error};"
            " make room there, or name another folder in the environment variable EPSGRID_CACHE"
        ) from error
    published = _open(folder)
    if published is None:
        raise DataError(f"prepared data in {folder} cannot be read back; delete that folder and run the command again")
    return published


def kept_with(parent: Path, names: str, about: Mapping[str, Any]) -> Arrays | None:
    """Return the arrays of some folder in `parent` that says this about itself; None where none does.

    Args:
        parent: has the folders.
        names: pattern of their names.
        about: some of what `Arrays.about` must hold.
    """
    for folder in sorted(parent.glob(names)):
        found = _open(folder, about)
        if found is not None:
            return found
    return None


def _open(folder: Path, about: Mapping[str, Any] = MappingProxyType({})) -> Arrays | None:
    """Map the arrays of a folder; None where it is missing, damaged, of another version or about something else."""
    try:
        document = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
        if document["version"] != _VERSION or not about.items() <= document["about"].items():
            return None
        arrays = {name: _map(folder / f"{name}.npy", shape) for name, shape in document["shapes"].items()}
        return Arrays(arrays, document["about"])
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _map(path: Path, shape: list[int]) -> NDArray[Any]:
    """Map an array, as a plain ndarray, which indexes faster than np.memmap; an empty one cannot be mapped."""
    array = np.asarray(np.load(path, mmap_mode="r" if 0 not in shape else None, allow_pickle=False))
    if list(array.shape) != shape:
        raise ValueError(f"{path}: shape {array.shape}, expected {shape}")
    return array


def _publish(folder: Path, made: Arrays) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    making = folder.parent / f".making-{uuid.uuid4().hex}"
    try:
        making.mkdir()
        _write(making, made)
        if _open(folder) is None:
            _discard(folder)
        try:
            making.rename(folder)
        except OSError:
            if _open(folder) is None:  # else another process was faster
                raise
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _write(folder: Path, made: Arrays) -> None:
    for name, array in made.arrays.items():
        with (folder / f"{name}.npy").open("wb") as file:
            np.save(file, array, allow_pickle=False)
            _flush(file)
    shapes = {name: list(array.shape) for name, array in made.arrays.items()}
    document = {"version": _VERSION, "shapes": shapes, "about": dict(made.about)}
    with (folder / _ABOUT).open("wb") as file:
        file.write(json.dumps(document, ensure_ascii=False).encode())
        _flush(file)


def _flush(file: Any) -> None:
    """Force a file to the disk: after a power cut the renamed folder must not hold empty files."""
    file.flush()
    os.fsync(file.fileno())


def _discard(folder: Path) -> None:
    """Take a damaged folder out of the way; a process that has mapped it keeps its arrays."""
    damaged = folder.parent / f".damaged-{uuid.uuid4().hex}"
    try:
        folder.rename(damaged)
    except FileNotFoundError:
        return
    shutil.rmtree(damaged, ignore_errors=True)
