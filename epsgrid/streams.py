"""Streams that cannot fail: where output cannot be written it is lost, and the work that it tells of goes on.

A full disk, a reader that has gone (`| head -1`), or a terminal that was closed must not end a training. The console,
the processes of trials and their logs all write through these streams.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import sys
import warnings
from typing import Any, TextIO


class _Raw(io.FileIO):
    """A file that takes all that is written; `problem` is the last error of writing, other than a closed pipe."""

    problem: OSError | None = None

    def write(self, data: Any, /) -> int:
        try:
            while (count := super().write(data)) is None:  # another process has made it non-blocking, and it is full
                select.select((), (self,), ())
            return count
        except OSError as error:
            self._keep(error)
            return memoryview(data).nbytes

    def close(self) -> None:
        try:
            super().close()
        except OSError as error:
            self._keep(error)

    def _keep(self, error: OSError) -> None:
        if error.errno != errno.EPIPE:  # its reader wants no more
            self.problem = error


def open_log(path: str | os.PathLike[str]) -> TextIO:
    """Open a text file to append lines to it; one that cannot be opened is written nowhere."""
    try:
        raw = _Raw(path, "a")
    except OSError:
        raw = _Raw(os.devnull, "a")
    return io.TextIOWrapper(io.BufferedWriter(raw), "utf-8", "backslashreplace", line_buffering=True)


def protect_standard_streams() -> None:
    """Make stdout and stderr such streams, also where the process was started without them."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:  # else a file opened later would be taken for stdout
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for number, name in ((1, "stdout"), (2, "stderr")):
        old = getattr(sys, name) or open(number, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        try:
            old.flush()
            raw = _Raw(old.fileno(), "w", closefd=False)
        except (OSError, ValueError):  # no file: something else has replaced it
            continue
        buffer = raw if old.write_through else io.BufferedWriter(raw)
        new = io.TextIOWrapper(
            buffer,
            old.encoding,
            old.errors,
            line_buffering=old.line_buffering,
            write_through=old.write_through,
        )
        setattr(sys, name, new)


def print_anyway(text: str, name: str = "stdout") -> None:
    """Print a line on a stream of a program of the user's, which goes on where that cannot be written."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # full, closed, none
        stream = getattr(sys, name)
        encoding = stream.encoding or "utf-8"
        print(text.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)


def warn_anyway(message: str, category: type[Warning], stacklevel: int) -> None:
    """Warn as `warnings.warn`; where such a warning is an error, print it on stderr and go on."""
    try:
        warnings.warn(message, category, stacklevel + 1)
    except category:
        print_anyway(f"{category.__name__}: {message}", "stderr")


def writing_problem(stream: TextIO) -> OSError | None:
    """Return why something could not be written to a protected stream; None if all was, or its reader has gone."""
    stream.flush()
    buffer = getattr(stream, "buffer", None)
    problem: OSError | None = getattr(getattr(buffer, "raw", buffer), "problem", None)
    return problem
