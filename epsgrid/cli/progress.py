"""Progress on stderr: a live view in a terminal, lines and a heartbeat elsewhere; and signals that stop a sweep."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from rich.live import Live
from rich.progress import DownloadColumn, Progress, TransferSpeedColumn
from rich.text import Text

from epsgrid.cli.console import err, note
from epsgrid.errors import ExecutionError, ExitCode
from epsgrid.selection.formatting import duration, score, setting
from epsgrid.stages.deciding import Further, sweep_further
from epsgrid.stages.experiment import Asked
from epsgrid.stages.running import HowToRun, SweepEvent, SweepPlan, SweepSummary, TrialEvent
from epsgrid.stages.sweep import GridChoice, Planned

_Progress = tuple[Callable[[str], None], Callable[[str, int, int], None]]
"""Functions that show a line, and progress as `update(title, done, of)`; `of` is 0 where it is unknown."""


class Stop:
    """Counts the requests to stop, while it is entered.

    The first Ctrl-C, or SIGTERM or SIGUSR1, asks that nothing more be started and that running trials save themselves;
    a second Ctrl-C asks that they be killed. Closing the terminal (SIGHUP) asks for the same as SIGTERM, unless it is
    ignored, as under nohup, or `outlives_terminal`: trials in a cluster's queue go on without the command.

    Attributes:
        exit_code: 130 after Ctrl-C, 75 after another signal, None before any request.
    """

    def __init__(self, *, outlives_terminal: bool = False) -> None:
        self.exit_code: ExitCode | None = None
        is_ignored = outlives_terminal or signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        self._numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, *(() if is_ignored else (signal.SIGHUP,)))
        self._level = 0
        self._before: dict[int, Any] = {}

    def level(self) -> int:
        """Return 0: go on; 1: save and end; 2: at once."""
        return self._level

    def __enter__(self) -> Stop:
        """Take over the signals, as the main thread of a program can."""
        for number in self._numbers if threading.current_thread() is threading.main_thread() else ():
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._level = min(self._level + 1, 2) if number == signal.SIGINT else max(self._level, 1)
        if self.exit_code is None:
            self.exit_code = ExitCode.INTERRUPTED if number == signal.SIGINT else ExitCode.STOPPED
        saving = "Stopping: running trials save themselves; Ctrl-C again stops at once."
        err().print(saving if self._level == 1 else "Stopping at once.")


def _heartbeat_s() -> float:
    """Return the seconds between two lines of progress: EPSGRID_HEARTBEAT_S, or 30."""
    text = os.environ.get("EPSGRID_HEARTBEAT_S", "30")
    with contextlib.suppress(ValueError):
        if 0 < float(text) < threading.TIMEOUT_MAX:
            return float(text)
    raise ExecutionError(f"EPSGRID_HEARTBEAT_S: expected a number of seconds above 0, such as 30, not {text!r}")


@contextmanager
def progress_shown(*, quiet: bool, in_bytes: bool = False) -> Iterator[_Progress]:
    """Show progress on stderr, of bytes or of steps: a bar in a terminal, elsewhere a line from time to time."""
    console = err()
    if quiet:
        yield (lambda line: None, lambda title, done, of: None)
    elif console.is_terminal:
        columns = (*Progress.get_default_columns(), *((DownloadColumn(), TransferSpeedColumn()) if in_bytes else ()))
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task("", total=None, visible=False)
            yield (
                lambda line: progress.console.print(line, markup=False),
                lambda title, done, of: progress.update(
                    task, description=title, completed=done, total=of or None, visible=done != of
                ),
            )
    else:
        last, heartbeat_s = -math.inf, _heartbeat_s()

        def update(title: str, done: int, of: int) -> None:
            nonlocal last
            if done == of or time.monotonic() - last >= heartbeat_s:
                last = time.monotonic()
                whole = f" of {of / 1e6:.1f}" if of else ""
                text = f"{done / 1e6:.1f}{whole} MB" if in_bytes else f"step {done} of {of}"
                console.print(f"{title}: {text}", markup=False)

        yield (lambda line: console.print(line, markup=False), update)


def sweep_with_progress(
    asked: Asked, what: GridChoice | Planned, further: Further, *, workers: int | None, fail_fast: bool, quiet: bool
) -> tuple[SweepSummary, ExitCode | None]:
    """Sweep with its progress shown; return how it ended, and the exit code where it was asked to stop."""
    with Stop(outlives_terminal=asked.spec.execution.executor == "slurm") as stop, sweep_shown(quiet=quiet) as notify:
        say = (lambda sentence: None) if quiet else note
        return sweep_further(asked, what, further, HowToRun(workers, notify, stop, fail_fast, say)), stop.exit_code


@contextmanager
def sweep_shown(*, quiet: bool) -> Iterator[Callable[[SweepEvent], None]]:
    """Show the progress of a sweep; yields the function that receives its events."""
    if quiet:
        yield lambda event: None
        return
    is_live, board = err().is_terminal, _Board()

    def notify(event: SweepEvent) -> None:
        board.update(event)
        if is_live and isinstance(event, TrialEvent) and event.state == "running":
            return  # the live view lists these
        for line in _event_lines(event):
            err().print(line, markup=False)

    if is_live:
        with Live(get_renderable=board.render, console=err(), refresh_per_second=2, transient=True):
            yield notify
        return
    over, heartbeat_s = threading.Event(), _heartbeat_s()

    def beat() -> None:
        while not over.wait(heartbeat_s):
            if board.plan is not None:
                err().print(board.status())

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield notify
    finally:
        over.set()
        thread.join()


class _Board:
    """The state of a sweep, from its events; any thread may render it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.plan: SweepPlan | None = None
        self.running: dict[str, tuple[str, float]] = {}  # label and start of each running trial
        self.ended: Counter[str] = Counter()
        self.start = time.monotonic()

    def update(self, event: SweepEvent) -> None:
        """Take in an event."""
        with self.lock:
            if isinstance(event, SweepPlan):  # a sweep may train several, one after the other
                self.plan, self.ended, self.start = event, Counter(), time.monotonic()
            elif event.state == "running":
                self.running[event.trial.id] = (f"{event.trial.id}: {setting(event.trial)}", time.monotonic())
            else:
                self.running.pop(event.trial.id, None)
                self.ended[event.state] += 1

    def status(self) -> str:
        """Return one line: trials finished and under way, and the time left."""
        with self.lock:
            assert self.plan is not None
            finished = sum(self.ended[state] for state in self.plan.settled)
            left = self.plan.to_run - finished
            text = f"{finished} of {self.plan.to_run} trials, {len(self.running)} running"
            for state in ("failed", "pruned"):
                text += f", {self.ended[state]} {state}" if self.ended[state] else ""
        if finished and left > 0:
            text += f", about {duration((time.monotonic() - self.start) / finished * left)} left"
        return text

    def render(self) -> Text:
        """Return the live view: running trials and the status line."""
        if self.plan is None:
            return Text("preparing …")
        with self.lock:
            running = list(self.running.values())
        lines = [f"running {label}, {duration(time.monotonic() - since)}" for label, since in running]
        return Text("\n".join([*lines, self.status()]))


def _event_lines(event: SweepEvent) -> list[str]:
    """Return the lines that describe an event; for a failed trial also its log."""
    if isinstance(event, SweepPlan):
        return plan_lines(event)
    label = f"{event.trial.id}: {setting(event.trial)}"
    if event.state == "running":
        return [f"start {label}"]
    label = f"{event.state} {label}"
    if (result := event.result) is not None:
        split, scores = "validation" if result.validation is not None else "test", result.selecting
        words = result.reason
        if words is None:
            words = f"{split} {result.metric_name} {score(scores.metric if scores else None, None, result.metric)}"
        return [f"{label}: {words} in {duration(result.seconds)}"]
    if event.pruning is not None:
        return [f"{label} after epoch {event.pruning.epochs_trained} of {event.pruning.epochs}: {event.pruning.why}"]
    if event.failure is not None:
        return [f"{label}: {event.failure.error}", f"  log: {event.failure.log}"]
    return [label]


def plan_lines(planned: SweepPlan) -> list[str]:
    """Return the lines that describe a sweep before it starts."""
    is_settled = "pruned" in planned.settled
    finished = len(planned.states) - planned.to_run - (planned.count("pruned") if is_settled else 0)
    workers = f"{planned.slots} worker{'s' * (planned.slots > 1)}"
    line = f"{len(planned.states)} trials: {finished} finished, {planned.to_run} to run on {workers}"
    meaning = {
        "pruned": "were pruned and are left so" if is_settled else "were pruned and are trained to their end",
        "interrupted": "go on from a checkpoint",
        "failed": "failed before and are tried again",
    }
    for state, words in meaning.items():
        if count := planned.count(state):
            line += f"; {count} {words}"
    if planned.estimated_seconds:
        line += f"; about {duration(planned.estimated_seconds)}"
    return [line, *(f"warning: {text}" for text in planned.warnings)]
