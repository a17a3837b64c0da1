"""Open the files that checkpoints are kept in, as nested dicts whose tensors are mapped or read when they are wanted.

What a file is, its first bytes say. No file can run code here: torch's are loaded with `weights_only`, safetensors
have a header in JSON, and the one pickle of torch.distributed.checkpoint is read with nothing but its own data classes.
"""

from __future__ import annotations

import importlib
import io
import json
import logging
import math
import pathlib
import pickle
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch

from epsgrid.errors import ObservationError

DCP_METADATA = ".metadata"
"""The file that makes a folder one of torch.distributed.checkpoint."""

_UNSAFE = re.compile(r"GLOBAL (\S+)|(?:function|class|but got) (\S.*)")
_HINTS = {
    "torch.distributed": "save a full state dict, or save by torch.distributed.checkpoint and name its folder",
    "torchao": "its 8-bit and 4-bit tensors are a class of their own; save state[...].dequantize() of each",
    "": "often that is what a script stored beside the state, such as the hyper_parameters of Lightning. If you trust"
    ' the file, save the state alone: c = torch.load(FILE, weights_only=False); torch.save(c["optimizer_states"],'
    ' "optimizer.pt"), or under whatever key it has the optimizer',
}
"""What to do about a class that is refused, by the beginning of its name."""

_DTYPES = {
    **{"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "BOOL": torch.bool},
    **{"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8},
}
"""The types of safetensors that a state may have; entries of others are passed over."""


@dataclass(frozen=True)
class Unread:
    """A value of a file that `load` reads; `shape` is that of a tensor, None where it is none.

    `is_float` says whether a tensor has floating-point entries.
    """

    load: Callable[[], Any]
    shape: tuple[int, ...] | None = None
    is_float: bool = True


def loaded(value: Any) -> Any:
    """Return a value, read if it was not yet."""
    return value.load() if isinstance(value, Unread) else value


def open_file(path: Path) -> Any:
    """Return what a file, or a folder of torch.distributed.checkpoint, holds.

    Raises:
        ObservationError: there is none, it is damaged or incomplete, its pickle wants code, or it is no checkpoint.
    """
    if path.is_dir():
        return _open_distributed(path)
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        raise ObservationError(f"{path}: cannot be read: {error.strerror or error}") from error
    if head[8:] == b"{" and not any(head[5:8]):  # before it stands the header's length, of whatever bytes
        return _open_safetensors(path, int.from_bytes(head[:8], "little"))
    if head.startswith(b"PK\x03\x04") or head[:1] == b"\x80":
        return load_torch(path, path, mmap=head.startswith(b"PK"))
    what = "is empty" if not head else f"begins with {head!r}"
    raise ObservationError(
        f"{path}: is no checkpoint that epsgrid reads: it {what}; expected a file of torch.save, of safetensors, or a"
        " folder of torch.distributed.checkpoint"
    )


def load_torch(file: Path | BinaryIO, path: Path, *, mmap: bool = False) -> Any:
    """Return what `torch.save` wrote, without running code; `path` is for errors, which are as of `open_file`."""
    meshes = logging.getLogger("torch.distributed.device_mesh")  # complains of devices that are not there
    level = meshes.level
    meshes.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of rare protocols of pickle
            return torch.load(file, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        if "torch.distributed." in str(error) and "torch.distributed.tensor" not in sys.modules:
            importlib.import_module("torch.distributed.tensor")  # its data classes are then allowed
            return load_torch(file, path, mmap=mmap)
        found = _UNSAFE.search(str(error))
        if found is None:
            reason = str(error).partition("WeightsUnpickler error:")[2].strip().splitlines() or [_first_line(error)]
            what = "is damaged or truncated, or a pickle that torch.save did not write"
            raise ObservationError(f"{path}: {what}: {reason[0]}") from error
        wanted = found[1] or found[2]
        hint = next((hint for begin, hint in _HINTS.items() if wanted.startswith(begin)), _HINTS[""])
        refused = f"its pickle wants to run code: it asks for {wanted}, which is refused"
        raise ObservationError(f"{path}: {refused}; {hint}") from error
    except Exception as error:  # whatever torch's reader raises at damaged bytes
        raise ObservationError(f"{path}: is damaged or truncated: {_first_line(error)}") from error
    finally:
        meshes.setLevel(level)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].partition(". ")[0].rstrip(".")


def _open_safetensors(path: Path, header_size: int) -> dict[str, Any]:
    """Return the tensors by name, in a mapping of the file, and what its metadata say under "__metadata__"."""
    size, start = path.stat().st_size, 8 + header_size
    try:
        with path.open("rb") as file:
            file.seek(8)
            header = json.loads(file.read(header_size) if start <= size else b"")
        metadata = header.pop("__metadata__", {})
        end = start + max((entry["data_offsets"][1] for entry in header.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ObservationError(f"{path}: is damaged or truncated: its header of safetensors is not whole") from error
    if end > size:
        raise ObservationError(f"{path}: is truncated: it has {size:,} bytes of {end:,}")
    if wrong := [name for name, entry in header.items() if not _fits(entry)]:
        raise ObservationError(f"{path}: is damaged: its header of safetensors gives {wrong[0]!r} no place in the file")
    mapped: Any = torch.UntypedStorage.from_file(str(path), False, size)
    found: dict[str, Any] = {"__metadata__": metadata}
    for name, entry in header.items():
        if (dtype := _DTYPES.get(entry["dtype"])) is not None:
            first, last = (start + offset for offset in entry["data_offsets"])
            aligned, place = (mapped, first) if first % dtype.itemsize == 0 else (mapped[first:last].clone(), 0)
            shape = torch.Size(entry["shape"])
            strides = torch.empty(shape, device="meta").stride()
            found[name] = torch.empty(0, dtype=dtype).set_(aligned, place // dtype.itemsize, shape, strides)
    return found


def _fits(entry: Mapping[str, Any]) -> bool:
    """Return whether the bytes that a header of safetensors gives a tensor are as many as its entries take."""
    first, last = entry["data_offsets"]
    dtype, shape = _DTYPES.get(entry.get("dtype", "")), entry.get("shape")
    if not (isinstance(shape, list) and all(isinstance(length, int) and length >= 0 for length in shape)):
        return False
    return first >= 0 and (dtype is None or last - first == math.prod(shape) * dtype.itemsize)


_DISTRIBUTED = "torch.distributed.checkpoint"
_DATA_CLASSES = {
    *((f"{_DISTRIBUTED}.metadata", name) for name in ("Metadata", "MetadataIndex", "StorageMeta", "TensorProperties")),
    *((f"{_DISTRIBUTED}.metadata", f"{name}StorageMetadata") for name in ("Bytes", "Chunk", "Tensor")),
    (f"{_DISTRIBUTED}.metadata", "_MEM_FORMAT_ENCODING"),
    *((f"{_DISTRIBUTED}.filesystem", name) for name in ("_StorageInfo", "_StoragePrefix")),
    ("torch", "Size"),
    ("torch.serialization", "_get_layout"),
    ("collections", "OrderedDict"),
}


class _DataUnpickler(pickle.Unpickler):
    """Reads the metadata of torch.distributed.checkpoint; refuses everything but its own data classes."""

    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] == "pathlib" and name.endswith("Path"):
            return pathlib.PurePosixPath
        if (module, name) in _DATA_CLASSES or (
            module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        ):
            return super().find_class(module, name)
        raise ObservationError(f"its pickle wants to run code: it asks for {module}.{name}, which is refused")


def _open_distributed(folder: Path) -> dict[str, Any]:
    """Return what a folder of torch.distributed.checkpoint holds, nested as it was saved; nothing is read yet."""
    path = folder / DCP_METADATA
    try:
        with path.open("rb") as file:
            metadata = _DataUnpickler(file).load()
        paths = metadata.planner_data or {}
        places: dict[str, list[tuple[Any, Any]]] = {}
        for index, info in metadata.storage_data.items():
            places.setdefault(index.fqn, []).append((index.offset, info))
        stored = dict(metadata.state_dict_metadata)
    except ObservationError as error:
        raise ObservationError(f"{path}: {error}") from error
    except Exception as error:  # whatever a damaged pickle raises
        raise ObservationError(f"{path}: is damaged or truncated: {_first_line(error)}") from error
    files = {info.relative_path: info for parts in places.values() for _, info in parts}
    if missing := sorted(name for name in files if not (folder / name).is_file()):
        raise ObservationError(
            f"{folder}: shards are missing: {', '.join(missing)} of {len(files)}; copy the whole folder"
        )
    root: dict[Any, Any] = {}
    for key, about in stored.items():
        *parents, last = paths.get(key) or (key,)
        parent = root
        for step in parents:
            parent = parent.setdefault(step, {})
        size = getattr(about, "size", None)
        parts = places.get(key, [])
        if size is None:
            parent[last] = Unread(lambda parts=parts: _read_part(folder, parts[0][1]))  # type: ignore[misc]
        else:
            dtype = about.properties.dtype
            load = lambda parts=parts, size=size, dtype=dtype: _read_parts(folder, parts, size, dtype)  # noqa: E731
            parent[last] = Unread(load, tuple(size), dtype.is_floating_point)
    return root


def _read_parts(folder: Path, parts: list[tuple[Any, Any]], size: torch.Size, dtype: torch.dtype) -> torch.Tensor:
    """Return a tensor, put together where several ranks have saved it."""
    if len(parts) == 1:
        whole: torch.Tensor = _read_part(folder, parts[0][1])
        return whole
    whole, filled = torch.empty(size, dtype=dtype), 0
    for offset, info in parts:
        part = _read_part(folder, info)
        whole[tuple(slice(first, first + length) for first, length in zip(offset, part.shape, strict=True))] = part
        filled += part.numel()
    if filled != whole.numel():
        raise ObservationError(f"{folder}: shards are missing: {filled:,} of {whole.numel():,} entries of a tensor")
    return whole


def _read_part(folder: Path, info: Any) -> Any:
    path = folder / info.relative_path
    if getattr(info, "transform_descriptors", None):
        raise ObservationError(f"{path}: is compressed ({', '.join(map(str, info.transform_descriptors))})")
    with path.open("rb") as file:
        file.seek(info.offset)
        return load_torch(io.BytesIO(file.read(info.length)), path)


def walk(stored: Any, where: tuple[str, ...] = ()) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """Yield the mappings inside nested dicts and lists, outer ones first, each with the keys that lead to it."""
    if isinstance(stored, Mapping):
        yield ".".join(where), stored
    items = (
        stored.items() if isinstance(stored, Mapping) else enumerate(stored) if isinstance(stored, list | tuple) else ()
    )
    for key, value in items:
        if isinstance(value, Mapping | list | tuple):
            yield from walk(value, (*where, str(key)))
