"""Progress on stderr: a live view in a terminal, plain lines and a heartbeat elsewhere."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from epsgrid.cli import tables
from epsgrid.cli.console import err
from epsgrid.errors import StoreError
from epsgrid.report.words import duration
from epsgrid.stages.sweep import SweepEvent, SweepPlan, TrialEnded, TrialStarted
from epsgrid.store.records import EpochRecord, read_epochs

if TYPE_CHECKING:
    from rich.console import RenderableType

    from epsgrid.grids._plan import PlannedTrial
    from epsgrid.store.paths import ExperimentFolder

_REFRESHES_PER_S = 2
_HEARTBEAT_S = 30.0


@contextmanager
def steps_shown(title: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Show the progress of a number of steps; yields `on_step(done, of)`."""
    if quiet:
        yield lambda done, of: None
    elif err().is_terminal:
        from rich.progress import Progress

        with Progress(console=err(), transient=True) as progress:
            task = progress.add_task(title, total=None)
            yield lambda done, of: progress.update(task, completed=done, total=of)
    else:
        yield _StepLines(title)


class _StepLines:
    """A line at the first and last step and every half minute between."""

    def __init__(self, title: str) -> None:
        self.title, self.told = title, -float("inf")

    def __call__(self, done: int, of: int) -> None:
        now = time.monotonic()
        if done == of or now - self.told >= heartbeat_s():
            self.told = now
            err().print(f"{self.title}: step {done} of {of}")


@contextmanager
def sweep_shown(folder: ExperimentFolder, *, quiet: bool) -> Iterator[Callable[[SweepEvent], None]]:
    """Show the progress of a sweep; yields the function to be told its events."""
    board = _Board(folder)
    if quiet:
        yield lambda event: None
    elif err().is_terminal:
        from rich.live import Live

        with Live(
            get_renderable=board.render, console=err(), refresh_per_second=_REFRESHES_PER_S, transient=True
        ) as live:

            def notify(event: SweepEvent) -> None:
                board.update(event)
                for line in board.lines(event, starts=False):
                    live.console.print(line)

            yield notify
    else:
        with _heartbeat(board):

            def notify(event: SweepEvent) -> None:
                board.update(event)
                for line in board.lines(event, starts=True):
                    err().print(line)

            yield notify


@dataclass
class _Running:
    """A trial under way."""

    trial: PlannedTrial
    since: float


class _Board:
    """What is going on in a sweep, from its events and the metrics that trials append; any thread may render it."""

    def __init__(self, folder: ExperimentFolder) -> None:
        self.folder = folder
        self.lock = threading.Lock()
        self.plan: SweepPlan | None = None
        self.running: dict[str, _Running] = {}
        self.ended: Counter[str] = Counter()
        self.start = time.monotonic()

    def update(self, event: SweepEvent) -> None:
        with self.lock:
            if isinstance(event, SweepPlan):
                self.plan = event
            elif isinstance(event, TrialStarted):
                self.running[event.trial.id] = _Running(event.trial, time.monotonic())
            else:
                self.running.pop(event.trial.id, None)
                self.ended[event.state] += 1

    def lines(self, event: SweepEvent, *, starts: bool) -> list[str]:
        """Return what to print of an event; starts only where there is no live table to show them."""
        if isinstance(event, SweepPlan):
            return tables.plan_lines(event)
        if isinstance(event, TrialEnded):
            return tables.ended_lines(event)
        return [f"start {tables.trial_label(event.trial)}"] if starts else []

    def status(self) -> str:
        """Return one line: how many trials are done, under way, and how long the rest will take."""
        with self.lock:
            assert self.plan is not None
            finished = self.ended["done"] + self.ended["diverged"]
            left = self.plan.to_run - finished
            text = f"{finished} of {self.plan.to_run} trials, {len(self.running)} running"
            if self.ended["failed"]:
                text += f", {self.ended['failed']} failed"
            elapsed = time.monotonic() - self.start
        if finished and left > 0:
            text += f", about {duration(elapsed / finished * left)} left"
        return text

    def render(self) -> RenderableType:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        if self.plan is None:
            return Text("preparing …")
        table = Table(box=None, pad_edge=False, header_style="dim")
        for column in ("trial", "lr", "epsilon", "seed", "epoch", "score", "time"):
            table.add_column(column, justify="left" if column == "trial" else "right")
        with self.lock:
            running = list(self.running.values())
        for entry in running:
            table.add_row(
                *tables.running_row(entry.trial, self._last_epoch(entry.trial), time.monotonic() - entry.since)
            )
        return Group(table, Text(self.status()))

    def _last_epoch(self, trial: PlannedTrial) -> EpochRecord | None:
        try:
            epochs = read_epochs(self.folder.trial(trial.id).metrics_jsonl)
        except StoreError:  # being rewritten, or damaged: the trial itself will tell
            return None
        return epochs[-1] if epochs else None


@contextmanager
def _heartbeat(board: _Board) -> Iterator[None]:
    """Print the board's status line at intervals, so that a log never looks like a hang."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(heartbeat_s()):
            if board.plan is not None:
                err().print(board.status())

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def heartbeat_s() -> float:
    """Return the seconds between two heartbeat lines: EPSGRID_HEARTBEAT_S, or 30."""
    try:
        return max(0.05, float(os.environ.get("EPSGRID_HEARTBEAT_S", _HEARTBEAT_S)))
    except ValueError:
        return _HEARTBEAT_S
