"""The observations of a training or a probe: `observations.jsonl`, a header and a line per snapshot.

The header names the layers and the percentiles; each further line holds one `Snapshot`. Lines are sealed and appended
like those of `metrics.jsonl`: a half-written last one, all that a kill can leave, is left out, and any other damage is
named with its line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, final

from epsgrid.errors import CorruptRecordError
from epsgrid.numerics.series import LayerSnapshot, Series, Snapshot
from epsgrid.store import atomic
from epsgrid.store.records import Record


@final
@dataclass(frozen=True)
class _Header(Record):
    """The first line: what all snapshots share; fields as in `Series`."""

    stored_as: ClassVar[str] = "header of observations"

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    entries: tuple[int, ...]
    fractions: tuple[float, ...]

    def series(self, *snapshots: Snapshot) -> Series:
        """Return the series of this header and some snapshots; asserts that they fit."""
        return Series(self.names, self.kinds, self.entries, self.fractions, snapshots)


@final
@dataclass(frozen=True)
class _Line(Record):
    """Any other line: one snapshot; fields as in `Snapshot`."""

    stored_as: ClassVar[str] = "snapshot"

    step: int
    epoch: float | None
    threshold: float | None
    layers: tuple[LayerSnapshot | None, ...]

    def snapshot(self) -> Snapshot:
        """Return the snapshot of this line."""
        return Snapshot(self.step, self.epoch, self.threshold, self.layers)


def write(path: Path, series: Series) -> None:
    """Store a series whole, replacing the file: all of a probe's, or an empty one to append to."""
    header = _Header(series.names, series.kinds, series.entries, series.fractions)
    records = (header, *map(_line_of, series.snapshots))
    atomic.write_text(path, "".join(f"{_text(record)}\n" for record in records))


def append(path: Path, snapshot: Snapshot) -> None:
    """Append a snapshot and sync it; for the holder of the trial's lease.

    Args:
        path: a file that `write` began.
        snapshot: of the layers that the file's header names, at a later step than the last one there.
    """
    assert path.exists(), f"{path}: write a series first, for its header"
    atomic.append_line(path, _text(_line_of(snapshot)))


def read(path: Path) -> Series | None:
    """Return the series in a file; None where there is no file, since most trials are not observed.

    Raises:
        StoreError: a newer epsgrid wrote it.
        CorruptRecordError: it is damaged; names file and line.
    """
    if not path.exists():
        return None
    header, snapshots = _parsed(path, atomic.read_lines(path))
    return header.series(*snapshots)


def keep_until(path: Path, step: int) -> None:
    """Drop the snapshots behind a step, where a training that was killed goes on; twice is as good as once.

    Args:
        path: a file that `write` began; without a file nothing happens.
        step: the step of the checkpoint; 0 keeps the header alone.

    Raises:
        StoreError: a newer epsgrid wrote it, or it cannot be written.
        CorruptRecordError: a line that would be kept is damaged; names file and line.
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


def _line_of(snapshot: Snapshot) -> _Line:
    return _Line(snapshot.step, snapshot.epoch, snapshot.threshold, snapshot.layers)


def _text(record: Record) -> str:
    """Return a record on one line without spaces: a third less, since most of it is small numbers."""
    return json.dumps(record.to_json(), ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _parsed(path: Path, lines: list[bytes]) -> tuple[_Header, Iterator[Snapshot]]:
    """Return the header, and the snapshots behind it as they are asked for; each must fit the header and come later."""
    if not lines:
        raise CorruptRecordError(f"{path} is damaged: it has no header; restore it from a copy, or remove it")

    def fits(number: int, *snapshots: Snapshot) -> None:
        try:
            header.series(*snapshots)
        except AssertionError as error:
            raise CorruptRecordError(f"{path}:{number} is damaged: {error}") from error

    def snapshots() -> Iterator[Snapshot]:
        before = 0
        for number, text in enumerate(lines[1:], start=2):
            source = f"{path}:{number}"
            snapshot = _Line.from_json(atomic.parse_json(text, source), source).snapshot()
            if snapshot.step <= before:
                raise CorruptRecordError(
                    f"{source} is damaged: expected a step after {before}, got step {snapshot.step}"
                )
            fits(number, snapshot)
            before = snapshot.step
            yield snapshot

    header = _Header.from_json(atomic.parse_json(lines[0], f"{path}:1"), f"{path}:1")
    fits(1)
    return header, snapshots()
