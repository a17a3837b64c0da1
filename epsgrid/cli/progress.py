"""Progress on stderr: a live view in a terminal, lines and a heartbeat elsewhere; and signals that stop a sweep."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import NamedTuple

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress import DownloadColumn, Progress, TransferSpeedColumn
from rich.table import Table
from rich.text import Text

from epsgrid.cli.console import err
from epsgrid.cli.sparkline import curve
from epsgrid.cli.tables import setting_cells
from epsgrid.errors import ExitCode, StoreError
from epsgrid.selection.formatting import duration, power
from epsgrid.spec.trial import Trial
from epsgrid.stages.running import SweepEvent, SweepPlan
from epsgrid.store.paths import ExperimentFolder
from epsgrid.store.records import EpochRecord, Scores, TrialResult, read_epochs
from epsgrid.store.state import FINISHED

_RUNNING_COLUMNS = ("trial", "lr", "epsilon", "seed", "epoch", "score", "curve", "time", "left")
_BEST_COLUMNS = ("best so far", "lr", "score", "trials")
_HEARTBEAT_S = 30.0
_CURVE_WIDTH = 24
_MOST_READ = 1000


class Stop:
    """Counts the requests to stop, while it is entered.

    The first Ctrl-C, or SIGTERM or SIGUSR1, asks that nothing more be started and that running trials save themselves;
    a second Ctrl-C asks that they be killed.

    Attributes:
        exit_code: 130 after Ctrl-C, 75 after SIGTERM or SIGUSR1, None before any request.
    """

    def __init__(self) -> None:
        self.exit_code: ExitCode | None = None
        self._level = 0
        self._before: dict[int, object] = {}

    def level(self) -> int:
        """Return 0: go on; 1: save and end; 2: at once."""
        return self._level

    def __enter__(self) -> Stop:
        """Take over the signals."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._level = min(self._level + 1, 2) if number == signal.SIGINT else max(self._level, 1)
        if self.exit_code is None:
            self.exit_code = ExitCode.INTERRUPTED if number == signal.SIGINT else ExitCode.STOPPED
        saving = "Stopping: running trials save themselves; Ctrl-C again stops at once."
        err().print(saving if self._level == 1 else "Stopping at once.")


class Progressing(NamedTuple):
    """Functions that show a line of text, and progress as `update(title, done, of)`; `of` is 0 where it is unknown."""

    say: Callable[[str], None]
    update: Callable[[str, int, int], None]


def _heartbeat_s() -> float:
    """Return the seconds between two lines of progress: EPSGRID_HEARTBEAT_S, or 30."""
    try:
        return max(0.05, float(os.environ.get("EPSGRID_HEARTBEAT_S", _HEARTBEAT_S)))
    except ValueError:
        return _HEARTBEAT_S


@contextmanager
def progress_shown(*, quiet: bool, in_bytes: bool = False) -> Iterator[Progressing]:
    """Show progress on stderr: a bar in a terminal, elsewhere a line from time to time.

    Args:
        quiet: show nothing.
        in_bytes: what is counted are bytes, not steps.
    """
    console = err()
    if quiet:
        yield Progressing(lambda line: None, lambda title, done, of: None)
    elif console.is_terminal:
        columns = (*Progress.get_default_columns(), *((DownloadColumn(), TransferSpeedColumn()) if in_bytes else ()))
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task("", total=None, visible=False)
            yield Progressing(
                lambda line: progress.console.print(line, markup=False),
                lambda title, done, of: progress.update(
                    task, description=title, completed=done, total=of or None, visible=done != of
                ),
            )
    else:
        last = -math.inf

        def update(title: str, done: int, of: int) -> None:
            nonlocal last
            if done == of or time.monotonic() - last >= _heartbeat_s():
                last = time.monotonic()
                whole = f" of {of / 1e6:.1f}" if of else ""
                text = f"{done / 1e6:.1f}{whole} MB" if in_bytes else f"step {done} of {of}"
                console.print(f"{title}: {text}", markup=False)

        yield Progressing(lambda line: console.print(line, markup=False), update)


@contextmanager
def sweep_shown(folder: ExperimentFolder, *, quiet: bool) -> Iterator[Callable[[SweepEvent], None]]:
    """Show the progress of a sweep; yields the function that receives its events."""
    if quiet:
        yield lambda event: None
        return
    is_live = err().is_terminal
    board = _Board(folder, is_live=is_live)

    def notify(event: SweepEvent) -> None:
        board.update(event)
        for line in _event_lines(event):
            if not is_live or isinstance(event, SweepPlan) or event.state != "running":  # the live table shows these
                err().print(line, markup=False)

    if is_live:
        with Live(get_renderable=board.render, console=err(), refresh_per_second=2, transient=True):
            yield notify
        return
    over = threading.Event()

    def beat() -> None:
        while not over.wait(_heartbeat_s()):
            if board.plan is not None:
                err().print(board.status())

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield notify
    finally:
        over.set()
        thread.join()


@dataclass
class _Running:
    """A trial under way."""

    trial: Trial
    since: float
    seen: tuple[int, int] = (0, 0)  # size and time of the file that `epochs` was read from
    epochs: tuple[EpochRecord, ...] = ()


class _Board:
    """The state of a sweep, from its events and the metrics that trials append; any thread may render it."""

    def __init__(self, folder: ExperimentFolder, *, is_live: bool) -> None:
        self.folder, self.is_live = folder, is_live
        self.lock = threading.Lock()
        self.plan: SweepPlan | None = None
        self.running: dict[str, _Running] = {}
        self.ended: Counter[str] = Counter()
        self.results: dict[str, TrialResult] = {}
        self.start = time.monotonic()

    def update(self, event: SweepEvent) -> None:
        """Take in an event."""
        with self.lock:
            if isinstance(event, SweepPlan):  # a sweep may train several, one after the other
                self.plan, self.ended, self.start = event, Counter(), time.monotonic()
                finished = [trial for trial, state in event.states.items() if state in FINISHED]
                if self.is_live and len(finished) <= _MOST_READ:  # reading more would delay the start
                    paths = {trial: self.folder.trial(trial).result_json for trial in finished}
                    self.results = {trial: TrialResult.read(path) for trial, path in paths.items()}
            elif event.state == "running":
                self.running[event.trial.id] = _Running(event.trial, time.monotonic())
            else:
                self.running.pop(event.trial.id, None)
                self.ended[event.state] += 1
                if event.result is not None:
                    self.results[event.trial.id] = event.result

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

    def render(self) -> RenderableType:
        """Return the live view: running trials, the best results so far, and the status line."""
        if self.plan is None:
            return Text("preparing …")
        with self.lock:
            running = list(self.running.values())
            results = [(trial, self.results[trial.id]) for trial in self.plan.plan.trials if trial.id in self.results]
        shown = [_live_table(_RUNNING_COLUMNS, [self._row(entry) for entry in running])]
        if results:
            shown.append(_live_table(_BEST_COLUMNS, _best_rows(results)))
        return Group(*shown, Text(self.status()))

    def _row(self, entry: _Running) -> tuple[str, ...]:
        """Return a trial's row of the live table; its file is read again only when it has changed."""
        path = self.folder.trial(entry.trial.id).metrics_jsonl
        try:
            found = path.stat()
            if entry.seen != (found.st_size, found.st_mtime_ns):
                entry.epochs = read_epochs(path)
                entry.seen = (found.st_size, found.st_mtime_ns)
        except (OSError, StoreError):  # not there yet, being rewritten, or damaged: then the trial itself fails
            pass
        trial, epochs = entry.trial, entry.epochs
        of = trial.identity["training"]["epochs"]
        scores = [epoch.selecting.metric for epoch in epochs if epoch.selecting is not None]
        left = sum(epoch.seconds for epoch in epochs) / len(epochs) * (of - len(epochs)) if epochs else None
        return (
            *setting_cells(trial),
            f"{len(epochs)}/{of}",
            f"{scores[-1]:.4g}" if epochs and epochs[-1].selecting is not None else "",
            curve(scores, _CURVE_WIDTH),
            duration(time.monotonic() - entry.since),
            "" if left is None else duration(left),
        )


def _live_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> RenderableType:
    made = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        is_text = column in ("trial", "curve", "best so far")
        made.add_column(column, justify="left" if is_text else "right", no_wrap=True)
    for row in rows:
        made.add_row(*map(Text, row))
    return made


def _best_rows(results: Sequence[tuple[Trial, TrialResult]]) -> list[tuple[str, ...]]:
    """Return, for each ε, the best single trial so far, as rows of `_BEST_COLUMNS` rising in ε.

    Args:
        results: trials that are done or diverged; a diverged one counts as a trial and is never best.
    """
    by_epsilon: dict[float, list[tuple[Trial, TrialResult]]] = {}
    for trial, result in results:
        by_epsilon.setdefault(trial.epsilon or 0.0, []).append((trial, result))
    rows: list[tuple[str, ...]] = []
    for epsilon, found in sorted(by_epsilon.items()):
        name = f"epsilon {power(epsilon)}" if epsilon else "no epsilon"
        scored = [
            (scores.metric if result.metric_direction == "max" else -scores.metric, trial.grid_rate, result)
            for trial, result in found
            if result.state == "done" and (scores := result.selecting) is not None and math.isfinite(scores.metric)
        ]
        if scored:
            _, rate, result = max(scored, key=lambda entry: entry[0])
            score = _score(result.selecting, result.metric_name, result.metric_unit)
            rows.append((name, power(rate), score, str(len(found))))
        else:
            rows.append((name, "", "diverged", str(len(found))))
    return rows


def _event_lines(event: SweepEvent) -> list[str]:
    """Return the lines that describe an event; for a failed trial also its log."""
    if isinstance(event, SweepPlan):
        return plan_lines(event)
    trial = event.trial
    epsilon = "" if trial.epsilon is None else f" epsilon {power(trial.epsilon)}"
    label = f"{trial.id} lr {power(trial.learning_rate)}{epsilon} seed {trial.seed}"
    if event.state == "running":
        return [f"start {label}"]
    label = f"{event.state} {label}"
    if (result := event.result) is not None:
        split = "validation" if result.validation is not None else "test"
        scores = _score(result.selecting, result.metric_name, result.metric_unit)
        return [f"{label}: {result.reason or f'{split} {scores}'} in {duration(result.seconds)}"]
    if event.pruning is not None:
        return [f"{label} after epoch {event.pruning.epochs_trained} of {event.pruning.epochs}: {event.pruning.why}"]
    if event.failure is not None:
        return [f"{label}: {event.failure.error}", f"  log: {event.failure.log}"]
    return [label]


def plan_lines(planned: SweepPlan) -> list[str]:
    """Return the lines that describe a sweep before it starts."""
    total, to_run = len(planned.states), planned.to_run
    is_settled = "pruned" in planned.settled
    pruned, interrupted, failed = (planned.count(state) for state in ("pruned", "interrupted", "failed"))
    finished = total - to_run - (pruned if is_settled else 0)
    line = f"{total} trials: {finished} finished, {to_run} to run on {planned.slots} worker{'s' * (planned.slots > 1)}"
    if pruned and is_settled:
        line += f"; {pruned} were pruned and are left so"
    elif pruned:
        line += f"; {pruned} of them were pruned and are trained to their end"
    if interrupted:
        line += f"; {interrupted} of them go on from a checkpoint"
    if failed:
        line += f"; {failed} of them failed before and are tried again"
    if planned.estimated_seconds:
        line += f"; about {duration(planned.estimated_seconds)}"
    return [line, *(f"warning: {text}" for text in planned.warnings)]


def _score(scores: Scores | None, name: str, unit: str) -> str:
    """Return a metric as text, in percent where it is a fraction."""
    if scores is None:
        return "no score"
    return f"{name} {100 * scores.metric:.2f} %" if unit == "%" else f"{name} {scores.metric:.4g}"
