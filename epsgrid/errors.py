"""Every deliberate error, and the exit code the command line gives it.

Errors that a user can cause are `EpsgridError`s with a message that says what was expected, what came, where it is and
how to correct it. Errors that only we can cause are `assert`s.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit statuses of the `epsgrid` command; listed in its `--help`."""

    OK = 0
    UNEXPECTED = 1
    USAGE = 2
    TRIALS_FAILED = 3
    NO_BOUNDS = 4
    STOPPED = 75
    INTERRUPTED = 130


_NO_MEMORY = ("CUDA error: out of memory", "can't allocate memory")  # texts of RuntimeErrors of torch


def is_for_memory(error: BaseException) -> bool:
    """Return whether an error, one of torch's too, says that there was no memory for a tensor."""
    is_named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return is_named or any(words in str(error) for words in _NO_MEMORY)


def in_a_line(error: BaseException) -> str:
    """Return an error's type and the first line of its message."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


class EpsgridError(Exception):
    """Base of every error that a user can cause; `exit_code` is what the command line ends with."""

    exit_code: ExitCode = ExitCode.USAGE


class SpecError(EpsgridError):
    """A spec that cannot be used: unreadable, not YAML, an unknown key, a value out of range."""


class UnknownNameError(EpsgridError):
    """A task, model, optimizer, grid or executor that does not exist; the message lists those that do."""


class DataError(EpsgridError):
    """Data that are missing, damaged or not what the task expects."""


class StoreError(EpsgridError):
    """A run folder that cannot be used: missing, of another spec, of a newer version, or not writable."""


class CorruptRecordError(StoreError):
    """A stored file that is truncated or altered; the message names it."""


class ExecutionError(EpsgridError):
    """Trials cannot be run as asked: no such device, no free slot, nothing to run on."""


class NoBoundsError(EpsgridError):
    """The probe ran, or could not run, and there are no bounds to report."""

    exit_code = ExitCode.NO_BOUNDS


class ScalingError(EpsgridError):
    """Settings that cannot be scaled to another batch size: too large a ratio, or an optimizer without a rule."""


class ObservationError(EpsgridError):
    """An optimizer that cannot be observed as asked: unknown, unnamed parameters, observed twice, no state yet."""
