"""A slot of a Ray cluster: an actor that runs one trial at a time, each in a process of its own on its node."""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

from epsgrid.executors import Job, JobEnded, JobEvent, JobStatus, local
from epsgrid.spec.model import Execution

_TAIL_BYTES = 4000
_AS_IT_IS = Execution(device="cpu")  # Ray has chosen the device, and a trial sees what its slot sees
_TELL_NOTHING = (JobStatus.FINISHED, JobStatus.STOPPED, JobStatus.HELD_ELSEWHERE)


class Slot:
    """Made once per slot, on whatever node has room; knows nothing of Ray.

    Trials are forked from a server that belongs to the slot and has imported everything heavy, as on one machine. What
    kills a trial therefore does not kill the slot, and the next trial starts in milliseconds.
    """

    def __init__(self, environment: Mapping[str, str | None], preload: tuple[str, ...]) -> None:
        """Set (or, where None, remove) variables of this process's environment, which trials inherit."""
        for name, value in environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        self._preload = preload
        self._level = 0

    def ready(self) -> None:
        """Return once the slot exists, which is when a trial can start."""

    def run(self, work: Callable[[Job], int], job: Job) -> tuple[int, str]:
        """Run one trial; return its exit status and, where it went wrong, the end of what it wrote to stderr."""
        ended: list[int] = []

        def notify(event: JobEvent) -> None:
            if isinstance(event, JobEnded):
                ended.append(event.status)

        with tempfile.NamedTemporaryFile(prefix="epsgrid-slot-", delete=False) as errors:
            try:
                told = functools.partial(_run_told, work, errors.name)
                local.run([job], told, slots=1, notify=notify, stop=self, execution=_AS_IT_IS, preload=self._preload)
            finally:
                Path(errors.name).unlink(missing_ok=True)
            status = ended[0] if ended else JobStatus.STOPPED  # told to stop before it began
            return status, "" if status in _TELL_NOTHING else _tail(errors)

    def level(self) -> int:
        """Return how much of a hurry there is: what `local` asks while a trial runs."""
        return self._level

    def stop(self, level: int) -> None:
        """Let the running trial save and end (1), or kill it (2); called while `run` is at work, in another thread."""
        self._level = max(self._level, level)


def _run_told(work: Callable[[Job], int], errors: str, job: Job) -> int:
    """Be the trial, with stderr in a file: that of a slot is on another machine, where nobody looks.

    The file loses its name as soon as both have it open, so that none is left should the slot be killed.
    """
    os.dup2(os.open(errors, os.O_WRONLY | os.O_APPEND), 2)
    Path(errors).unlink()
    return work(job)


def _tail(errors: IO[bytes]) -> str:
    size = errors.seek(0, os.SEEK_END)
    errors.seek(max(0, size - _TAIL_BYTES))
    return errors.read().decode(errors="replace").strip()
