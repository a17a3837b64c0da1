"""Progress on stderr: a live view in a terminal, plain lines and a heartbeat elsewhere."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from epsgrid.cli import sparkline, tables
from epsgrid.cli.console import err
from epsgrid.errors import StoreError
from epsgrid.selection.formatting import duration
from epsgrid.stages.running import SweepEvent, SweepPlan, TrialEnded, TrialStarted
from epsgrid.store.records import EpochRecord, TrialResult, read_epochs
from epsgrid.store.state import FINISHED

if TYPE_CHECKING:
    from rich.console import RenderableType

    from epsgrid.spec.trial import Trial
    from epsgrid.store.paths import ExperimentFolder

_REFRESHES_PER_S = 2
_HEARTBEAT_S = 30.0
_CURVE_WIDTH = 24
_MOST_READ = 1000


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
    board = _Board(folder, is_live=err().is_terminal)
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

    trial: Trial
    since: float
    seen: tuple[int, int] = (0, 0)  # size and time of the file that `epochs` was read from
    epochs: tuple[EpochRecord, ...] = ()


class _Board:
    """What is going on in a sweep, from its events and the metrics that trials append; any thread may render it."""

    def __init__(self, folder: ExperimentFolder, *, is_live: bool) -> None:
        self.folder, self.is_live = folder, is_live
        self.lock = threading.Lock()
        self.plan: SweepPlan | None = None
        self.running: dict[str, _Running] = {}
        self.ended: Counter[str] = Counter()
        self.results: dict[str, TrialResult] = {}
        self.start = time.monotonic()

    def update(self, event: SweepEvent) -> None:
        with self.lock:
            if isinstance(event, SweepPlan):
                self.plan = event
                self.results = self._read_results(event)
            elif isinstance(event, TrialStarted):
                self.running[event.trial.id] = _Running(event.trial, time.monotonic())
            else:
                self.running.pop(event.trial.id, None)
                self.ended[event.state] += 1
                if event.result is not None:
                    self.results[event.trial.id] = event.result

    def _read_results(self, plan: SweepPlan) -> dict[str, TrialResult]:
        """Return the results that were there before, unless they are so many that reading them would keep us."""
        finished = [trial for trial, state in plan.states.items() if state in FINISHED]
        if not self.is_live or len(finished) > _MOST_READ:
            return {}
        return {trial: TrialResult.read(self.folder.trial(trial).result_json) for trial in finished}

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
            finished = sum(self.ended[state] for state in self.plan.settled)
            left = self.plan.to_run - finished
            text = f"{finished} of {self.plan.to_run} trials, {len(self.running)} running"
            if self.ended["failed"]:
                text += f", {self.ended['failed']} failed"
            if self.ended["pruned"]:
                text += f", {self.ended['pruned']} pruned"
            elapsed = time.monotonic() - self.start
        if finished and left > 0:
            text += f", about {duration(elapsed / finished * left)} left"
        return text

    def render(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        if self.plan is None:
            return Text("preparing …")
        with self.lock:
            running = list(self.running.values())
            results = [(trial, self.results[trial.id]) for trial in self.plan.plan.trials if trial.id in self.results]
        shown = [_table(tables.RUNNING_COLUMNS, [self._running_row(entry) for entry in running], ("trial", "curve"))]
        if results:
            shown.append(_table(tables.BEST_COLUMNS, tables.best_rows(results), ("best so far",)))
        return Group(*shown, Text(self.status()))

    def _running_row(self, entry: _Running) -> tuple[str, ...]:
        epochs = self._epochs(entry)
        scores = [epoch.selecting.metric for epoch in epochs if epoch.selecting is not None]
        glyphs = sparkline.glyphs_for(err().encoding)
        curve = sparkline.curve(scores, _CURVE_WIDTH, glyphs)
        return tables.running_row(entry.trial, epochs, curve, time.monotonic() - entry.since)

    def _epochs(self, entry: _Running) -> tuple[EpochRecord, ...]:
        """Return the epochs of a trial; its file is read again only when it has changed."""
        path = self.folder.trial(entry.trial.id).metrics_jsonl
        try:
            found = path.stat()
            if entry.seen != (found.st_size, found.st_mtime_ns):
                entry.epochs = read_epochs(path)
                entry.seen = (found.st_size, found.st_mtime_ns)
        except (OSError, StoreError):  # not there yet, being rewritten, or damaged: the trial itself will tell
            pass
        return entry.epochs


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], left: Collection[str]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        made.add_column(column, justify="left" if column in left else "right", no_wrap=True)
    for row in rows:
        made.add_row(*map(Text, row))
    return made


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
