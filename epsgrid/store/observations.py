"""What was observed over a training or a probe: `observations.jsonl`, a header and a line per snapshot.

The header says which layers there are and which percentiles are kept; each further line holds one `Snapshot`. Lines are
sealed and appended like those of `metrics.jsonl`: a half-written last one, all that a kill can leave, is left out, and
any other damage is named with its line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self, final

from epsgrid.errors import CorruptRecordError
from epsgrid.numerics.series import Series, Snapshot
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

    @classmethod
    def of(cls, series: Series) -> Self:
        """Return the header of a series."""
        return cls(series.names, series.kinds, series.entries, series.fractions)

    def series(self, *snapshots: Snapshot) -> Series:
        """Return the series of this header and some snapshots; asserts that they fit."""
        return Series(self.names, self.kinds, self.entries, self.fractions, snapshots)


@final
@dataclass(frozen=True)
class _Line(Record):
    """Any other line: one snapshot; `layers` is as in `Snapshot.to_json`."""

    stored_as: ClassVar[str] = "snapshot"

    step: int
    epoch: float | None
    threshold: float | None
    layers: Any

    @classmethod
    def of(cls, snapshot: Snapshot) -> Self:
        """Return the line of a snapshot."""
        return cls(**snapshot.to_json())

    def snapshot(self) -> Snapshot:
        """Return the snapshot of this line; raises CorruptRecordError where it is none."""
        return Snapshot.from_json({name: getattr(self, name) for name in ("step", "epoch", "threshold", "layers")})


def write(path: Path, series: Series) -> None:
    """Store a series whole, in place of what is there: all of a probe's, or an empty one to append to."""
    records = (_Header.of(series), *(_Line.of(snapshot) for snapshot in series.snapshots))
    atomic.write_text(path, "".join(f"{_text(record)}\n" for record in records))


def append(path: Path, snapshot: Snapshot) -> None:
    """Append a snapshot and sync it; for the holder of the trial's lease.

    Args:
        path: a file that `write` began.
        snapshot: of the layers that the file's header names, at a later step than the last one there.
    """
    assert path.exists(), f"{path}: write a series first, for its header"
    atomic.append_line(path, _text(_Line.of(snapshot)))


def read(path: Path) -> Series | None:
    """Return what a file holds; None where there is none, for most trials are not observed.

    Raises:
        StoreError: a newer epsgrid wrote it.
        CorruptRecordError: it is damaged; names file and line.
    """
    if not path.exists():
        return None
    lines = atomic.read_lines(path)
    header = _header(path, lines)
    return header.series(*(_fitting(header, line, source) for line, source in _lines(path, lines)))


def keep_until(path: Path, step: int) -> None:
    """Drop the snapshots behind a step, where a training that was killed goes on; twice is as good as once.

    Args:
        path: a file that `write` began; one that is not there stays so.
        step: the step of the checkpoint; 0 keeps the header alone.

    Raises:
        StoreError: a newer epsgrid wrote it, or it cannot be written.
        CorruptRecordError: what is to be kept is damaged; names file and line.
    """
    if not path.exists():
        return
    lines = atomic.read_lines(path)
    _header(path, lines)
    kept = 1
    for line, _ in _lines(path, lines):
        if line.step > step:
            break
        kept += 1
    content = "".join(f"{line}\n" for line in lines[:kept]).encode()
    if content != path.read_bytes():
        atomic.write_bytes(path, content)


def _text(record: Record) -> str:
    """Return a record on one line without spaces: a third less of what is mostly small numbers."""
    return json.dumps(record.to_json(), ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _header(path: Path, lines: list[str]) -> _Header:
    if not lines:
        raise CorruptRecordError(f"{path} is damaged: it has no header; restore it from a copy, or remove it")
    header = _Header.from_json(atomic.parse_json(lines[0], f"{path}:1"), f"{path}:1")
    try:
        header.series()
    except AssertionError as error:
        raise CorruptRecordError(f"{path}:1 is damaged: {error}") from error
    return header


def _lines(path: Path, lines: list[str]) -> Iterator[tuple[_Line, str]]:
    """Yield the lines behind the header, each with its place, as they are asked for; their steps must rise."""
    before = 0
    for number, text in enumerate(lines[1:], start=2):
        source = f"{path}:{number}"
        line = _Line.from_json(atomic.parse_json(text, source), source)
        if line.step <= before:
            raise CorruptRecordError(f"{source} is damaged: expected a step after {before}, got step {line.step}")
        before = line.step
        yield line, source


def _fitting(header: _Header, line: _Line, source: str) -> Snapshot:
    """Return a line's snapshot, or name the line where it is none or not one of the header's layers."""
    try:
        snapshot = line.snapshot()
        header.series(snapshot)
    except (AssertionError, CorruptRecordError) as error:
        raise CorruptRecordError(f"{source} is damaged: {error}") from error
    return snapshot
