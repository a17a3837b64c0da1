"""Turn Ctrl-C, SIGTERM and SIGUSR1 into a stop request that the stages obey."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType, TracebackType

from epsgrid.errors import ExitCode


class Stop:
    """Counts the requests to stop, while it is entered.

    The first Ctrl-C, or SIGTERM or SIGUSR1, asks that nothing more be started and that running trials save themselves;
    a second Ctrl-C asks that they be killed.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._level = 0
        self._code: ExitCode | None = None
        self._before: dict[int, object] = {}

    @property
    def exit_code(self) -> ExitCode | None:
        """130 after Ctrl-C, 75 after SIGTERM or SIGUSR1, None while nobody asked."""
        return self._code

    def level(self) -> int:
        """Return 0: go on; 1: save and end; 2: at once."""
        return self._level

    def __enter__(self) -> Stop:
        """Take over the signals."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._level = min(self._level + 1, 2) if number == signal.SIGINT else max(self._level, 1)
        if self._code is None:
            self._code = ExitCode.INTERRUPTED if number == signal.SIGINT else ExitCode.STOPPED
        if self._level == 1:
            self._say("Stopping: running trials save themselves; Ctrl-C again stops at once.")
        else:
            self._say("Stopping at once.")
