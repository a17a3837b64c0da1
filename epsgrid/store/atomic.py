"""Write files so that a kill or a power cut leaves the old content or the new, never a part; read and check them.

A file is written under a temporary name in its own folder, synced, renamed over the old one, and the folder is synced.
A document is sealed with the sha256 of its own content, so that damage is noticed. Stored JSON is strict: no NaN and no
infinity (`epsgrid.codec` stores them as words), and the order of keys does not matter.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from epsgrid.errors import CorruptRecordError, StoreError

CHECKSUM = "checksum"
_LINE_WIDTH = 110
_FULL = "free some space and run the same command again; what was stored before is intact"
_ADVICE = {
    errno.ENOSPC: f"the disk is full: {_FULL}",
    errno.EDQUOT: f"the disk quota is used up: {_FULL}",
    errno.EROFS: "the file system is read-only: choose another folder with --out",
    errno.EACCES: "permission denied: check who owns the folder, or choose another with --out",
    errno.EPERM: "operation not permitted: check who owns the folder, or choose another with --out",
}


@contextlib.contextmanager
def store_errors(action: str, path: Path) -> Iterator[None]:
    """Turn an OSError inside the block into a StoreError such as "cannot write PATH", and what to do."""
    try:
        yield
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, error.strerror or str(error))
        raise StoreError(f"cannot {action} {path}: {advice}") from error


def make_folder(path: Path) -> None:
    """Create a folder and the missing ones above it, durably; one that exists is fine."""
    if path.is_dir():
        return
    with store_errors("create the folder", path):
        missing = [folder for folder in (path, *path.parents) if not folder.exists()]
        path.mkdir(parents=True, exist_ok=True)
        for folder in missing:
            _sync_folder(folder.parent)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole, and create the folders that are missing.

    When the disk fails, `path` is as it was, the temporary file is removed, and StoreError says what to do; after a
    kill the temporary file stays until `remove_leftovers`.
    """
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with store_errors("write", path):
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            _sync_folder(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def remove_leftovers(path: Path) -> None:
    """Remove the temporary files of killed writers of `path`; only for the process that alone may write it."""
    with store_errors("tidy", path.parent):
        for temporary in path.parent.glob(f".{path.name}.*.tmp"):
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole, as UTF-8; see `write_bytes`.

    Bytes of file names that are no text are escaped, as JSON reads them.
    """
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_json(path: Path, document: Any) -> None:
    """Write a JSON document whole, laid out for people; see `write_bytes`.

    Raises ValueError where the document holds NaN or an infinity, which JSON has not.
    """
    write_text(path, readable_json(document) + "\n")


def append_line(path: Path, text: str) -> None:
    """Append one line and sync it; a half-written line that a kill left at the end is cut off first.

    For one writer at a time: the holder of the trial's lease.
    """
    assert "\n" not in text, "a line must not contain a line break"
    make_folder(path.parent)
    with store_errors("append to", path):
        is_new = not path.exists()
        with path.open("ab+") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - 1, 0))
            if file.read(1) not in (b"", b"\n"):
                file.seek(0)
                file.truncate(file.read().rfind(b"\n") + 1)
            file.write(text.encode(errors="backslashreplace") + b"\n")
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            _sync_folder(path.parent)


def read_json(path: Path) -> Any:
    """Return the document of a JSON file.

    Raises StoreError where it is missing or cannot be read, CorruptRecordError where it is not strict JSON in UTF-8.
    """
    with store_errors("read", path):
        content = path.read_bytes()
    return parse_json(content, str(path))


def read_lines(path: Path) -> list[bytes]:
    """Return the complete lines of a JSON-lines file, without line breaks; a missing file has none.

    A half-written last line, all that a kill can leave, is left out.
    """
    if not path.exists():
        return []
    with store_errors("read", path):
        return path.read_bytes().split(b"\n")[:-1]


def parse_json(text: bytes, source: str) -> Any:
    """Return the document of a text of strict JSON; `source` is the place that an error names."""

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    try:
        return json.loads(text.decode(), parse_constant=refuse)
    except ValueError as error:
        raise CorruptRecordError(f"{source} is damaged: {error}; restore it from a copy, or remove it") from error


def seal(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a JSON document with the checksum of its content as the last entry.

    >>> sealed = seal({"version": 1})
    >>> unseal(sealed, "example") == {"version": 1}
    True
    """
    assert CHECKSUM not in document, "already sealed"
    return {**document, CHECKSUM: _checksum(json.loads(json.dumps(document, allow_nan=False)))}


def unseal(document: Mapping[str, Any], source: str | Path) -> dict[str, Any]:
    """Return a sealed document, stored and read again, without its checksum, after checking it.

    Raises CorruptRecordError where there is no checksum, or it is not that of the content.
    """
    content = {key: value for key, value in document.items() if key != CHECKSUM}
    if CHECKSUM not in document:
        raise CorruptRecordError(f"{source} is damaged: it has no checksum, so it is not a whole record of epsgrid")
    if document[CHECKSUM] != _checksum(content):
        raise CorruptRecordError(
            f"{source} is damaged or was edited: its content does not match its checksum; restore it from a copy, or "
            "remove it to compute it again"
        )
    return content


def _checksum(as_read_back: Mapping[str, Any]) -> str:
    """Return the sha256, hex, of a document's canonical form: sorted keys, no spaces, shortest exact numbers."""
    canonical = json.dumps(as_read_back, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(canonical.encode(errors="backslashreplace")).hexdigest()


def readable_json(document: Any, indent: int = 0) -> str:
    """Return strict JSON laid out for people: what fits is on one line, and so are lists of plain values.

    >>> print(readable_json({"epsilons": [1e-08, 1e-07], "seed": 0}))
    {"epsilons": [1e-08, 1e-07], "seed": 0}
    """
    flat = json.dumps(document, ensure_ascii=False, allow_nan=False)
    if len(flat) <= _LINE_WIDTH - indent:
        return flat
    pad = " " * (indent + 2)
    if isinstance(document, Mapping):
        parts = [f"{pad}{json.dumps(key)}: {readable_json(document[key], indent + 2)}" for key in document]
        return "{\n" + ",\n".join(parts) + "\n" + " " * indent + "}"
    if isinstance(document, list | tuple) and any(isinstance(item, Mapping | list | tuple) for item in document):
        parts = [pad + readable_json(item, indent + 2) for item in document]
        return "[\n" + ",\n".join(parts) + "\n" + " " * indent + "]"
    return flat


def _sync_folder(folder: Path) -> None:
    """Make a rename in `folder` durable; a file system that cannot sync folders (EINVAL) does so by itself."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
