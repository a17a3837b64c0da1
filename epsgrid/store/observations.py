"""The observations of a training or a probe: `observations.jsonl`, a header and a line per snapshot.

The header names the layers and the percentiles; each further line holds one `Snapshot`. Lines are sealed and appended
like those of `metrics.jsonl`: a half-written last one, all that a kill can leave, is left out, and any other damage is
named with its line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from epsgrid import codec
from epsgrid.errors import CorruptRecordError
from epsgrid.numerics.series import Series, Snapshot
from epsgrid.store import atomic
from epsgrid.store.records import VERSION, content_of


def write(path: Path, series: Series) -> None:
    """Store a series whole, replacing the file: all of a probe's, or an empty one to append to."""
    shared = {name: value for name, value in codec.to_document(series).items() if name != "snapshots"}
    lines = (_line(shared), *(_line(codec.to_document(snapshot)) for snapshot in series.snapshots))
    atomic.write_text(path, "".join(f"{line}\n" for line in lines))


def append(path: Path, snapshot: Snapshot) -> None:
    """Append a snapshot and sync it; for the holder of the trial's lease.

    It is of the layers that the file's header names, and at a later step than the last one there.
    """
    assert path.exists(), f"{path}: write a series first, for its header"
    atomic.append_line(path, _line(codec.to_document(snapshot)))


def read(path: Path) -> Series | None:
    """Return the series in a file; None where there is no file, since most trials are not observed.

    Raises StoreError where a newer epsgrid wrote it, CorruptRecordError, with the line, where it is damaged.
    """
    if not path.exists():
        return None
    empty, snapshots = _parsed(path, atomic.read_lines(path))
    return replace(empty, snapshots=tuple(snapshots))


def keep_until(path: Path, step: int) -> None:
    """Drop the snapshots behind the step of a checkpoint, where a training that was killed goes on; 0: all of them.

    Raises as `read`, where a line that would be kept is damaged, and StoreError where it cannot be written.
    """
    if not path.exists():
        return
    lines = atomic.read_lines(path)
    kept = 1
    for snapshot in _parsed(path, lines)[1]:
        if snapshot.step > step:
            break
        kept += 1
    content = b"".join(line + b"\n" for line in lines[:kept])
    if content != path.read_bytes():
        atomic.write_bytes(path, content)


def _line(document: dict[str, Any]) -> str:
    """Return a sealed document on one line without spaces: a third less, since most of it is small numbers."""
    sealed = atomic.seal({"version": VERSION, **document})
    return json.dumps(sealed, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _parsed(path: Path, lines: list[bytes]) -> tuple[Series, Iterator[Snapshot]]:
    """Return what the header says, a series without snapshots, and these as they are asked for.

    Each snapshot must fit the header and come later than the one before.
    """
    if not lines:
        raise CorruptRecordError(f"{path} is damaged: it has no header; restore it from a copy, or remove it")

    def content(number: int, what: str) -> tuple[dict[str, Any], str]:
        source = f"{path}:{number}"
        return content_of(atomic.parse_json(lines[number - 1], source), source, what), source

    def snapshots() -> Iterator[Snapshot]:
        before = 0
        for number in range(2, len(lines) + 1):
            document, source = content(number, "snapshot")
            snapshot = codec.from_document(Snapshot, document, source)
            if snapshot.step <= before:
                raise CorruptRecordError(f"{source}: expected a step after {before}, got step {snapshot.step}")
            try:
                replace(empty, snapshots=(snapshot,))
            except AssertionError as error:
                raise CorruptRecordError(f"{source}: {error}") from error
            before = snapshot.step
            yield snapshot

    document, source = content(1, "header of observations")
    empty = codec.from_document(Series, {**document, "snapshots": []}, source)
    return empty, snapshots()
