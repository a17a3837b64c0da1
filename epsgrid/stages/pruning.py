"""End trials early that fall behind the others, as decided by Optuna's pruners.

The command that runs trials gives their scores after every epoch to a pruner, and asks a trial that falls behind to end
through a file in its folder. The numbers of a trial that goes on are those it would have without any of this. When the
command dies, the next one learns from the files. Trials compete whatever their learning rate, ε and seed, and with
those that have come as far: a sweep that prunes is not repeatable to the trial.
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Literal

from epsgrid.errors import CorruptRecordError, StoreError
from epsgrid.extras import require
from epsgrid.spec.model import Prune
from epsgrid.store.paths import ExperimentFolder
from epsgrid.store.pruning import Pruning, ask
from epsgrid.store.records import EpochRecord, read_epochs
from epsgrid.store.state import FINISHED, PRUNED

_LOOK_S = 0.5
_REASONS = {
    "median": "worse than the median of the finished trials after epoch {epoch}",
    "successive_halving": "not among the best by successive halving after epoch {epoch}",
    "hyperband": "not among the best of its bracket by Hyperband after epoch {epoch}",
}


def import_optuna() -> Any:
    """Return the package optuna, with its messages off; an ExecutionError says how to install it."""
    optuna = require("optuna", "optuna", "by sweep.prune")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


class _Judge:
    """Decides which trials fall behind, from their scores epoch by epoch."""

    def __init__(self, prune: Prune, epochs: int, direction: Literal["max", "min"]) -> None:
        self._optuna = import_optuna()
        pruners, factor = self._optuna.pruners, prune.reduction_factor or 3
        if prune.method == "median":
            pruner = pruners.MedianPruner(prune.startup_trials or 5, n_warmup_steps=prune.first_epoch)
        elif prune.method == "hyperband":
            pruner = pruners.HyperbandPruner(prune.first_epoch, max(epochs, prune.first_epoch), factor)
        else:
            pruner = pruners.SuccessiveHalvingPruner(prune.first_epoch, factor)
        self._study = self._optuna.create_study(
            direction="maximize" if direction == "max" else "minimize",
            sampler=self._optuna.samplers.RandomSampler(seed=0),
            pruner=pruner,
            study_name="epsgrid",
        )
        self._trials: dict[str, Any] = {}
        self._seen: dict[str, int] = {}

    def follow(self, trial: str, scores: Sequence[float]) -> int | None:
        """Report the scores of a trial's epochs so far; return the first new epoch, from 1, at which it fell behind.

        Scores that are not finite are left to the trial itself, which ends by them.
        """
        if trial not in self._trials:
            self._trials[trial], self._seen[trial] = self._study.ask(), 0
        asked = self._trials[trial]
        for epoch in range(self._seen[trial] + 1, len(scores) + 1):
            self._seen[trial] = epoch
            if math.isfinite(scores[epoch - 1]):
                asked.report(scores[epoch - 1], epoch)
                if asked.should_prune():
                    return epoch
        return None

    def end(self, trial: str, scores: Sequence[float], *, pruned: bool) -> None:
        """Report that a trial is over; others are compared with its scores."""
        while self.follow(trial, scores) is not None:
            pass  # it is over: whether it fell behind matters no more
        asked, finite = self._trials[trial], [score for score in scores if math.isfinite(score)]
        states = self._optuna.trial.TrialState
        if finite and not pruned:
            self._study.tell(asked, finite[-1])
        else:
            self._study.tell(asked, state=states.PRUNED if pruned else states.FAIL)


class Watch:
    """Follows the trials that one command runs, and asks those that fall behind to end."""

    def __init__(self, folder: ExperimentFolder, prune: Prune, epochs: int, states: Mapping[str, str]) -> None:
        """Begin with the trials that are over already; their `states` are by id."""
        import_optuna()
        self._folder, self._prune, self._epochs = folder, prune, epochs
        self._judge: _Judge | None = None
        self._running: set[str] = set()
        self._ended: list[tuple[str, bool]] = []  # trials that are over and not reported to the judge yet
        self._sizes: dict[str, int] = {}
        self._lock = threading.Lock()
        for trial, state in states.items():
            self.end(trial, state)

    def start(self, trial: str) -> None:
        """Follow a trial from now on, unless it is spared."""
        pruning = Pruning.find(self._folder.trial(trial).prune_json)
        if pruning is None or pruning.state != "spared":
            with self._lock:
                self._running.add(trial)

    def end(self, trial: str, state: str) -> None:
        """Take in that a trial runs no more."""
        with self._lock:
            self._running.discard(trial)
            if state in (*FINISHED, PRUNED):
                self._ended.append((trial, state == PRUNED))

    def look(self) -> list[str]:
        """Look at all trials once; return those that were asked to end."""
        with self._lock:
            ended, self._ended = self._ended, []
            running = sorted(self._running)
        for trial, pruned in ended:
            scores, judge = self._read(trial)
            if judge is not None:
                judge.end(trial, scores, pruned=pruned)
        asked = []
        for trial in running:
            folder, size = self._folder.trial(trial), 0
            with suppress(OSError):
                size = folder.metrics_jsonl.stat().st_size
            seen, self._sizes[trial] = self._sizes.get(trial, 0), size
            if size == seen:  # to parse the file is what costs the most
                continue
            scores, judge = self._read(trial)
            epoch = judge.follow(trial, scores) if judge is not None else None
            if epoch is not None and len(scores) < self._epochs:
                reason = _REASONS[self._prune.method].format(epoch=epoch)
                asked += [trial] if ask(folder, epoch, self._epochs, reason) else []
        return asked

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Look every half second while inside, in a thread of its own."""
        over, reported = threading.Event(), False

        def watch() -> None:
            nonlocal reported
            while not over.wait(_LOOK_S):
                try:
                    self.look()
                except Exception as error:  # nothing that goes wrong here may end a sweep
                    if not reported:
                        print(f"pruning: {type(error).__name__}: {error}; trials go on", file=sys.stderr)
                    reported = True

        thread = threading.Thread(target=watch, name="pruning", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _read(self, trial: str) -> tuple[list[float], _Judge | None]:
        """Return a trial's scores by epoch, and the judge; None for files of earlier versions, without a direction."""
        epochs: tuple[EpochRecord, ...] = ()
        with suppress(CorruptRecordError, StoreError):  # being rewritten, or damaged, which the trial itself reports
            epochs = read_epochs(self._folder.trial(trial).metrics_jsonl)
        direction = epochs[0].metric_direction if epochs else None
        if self._judge is None and direction is not None:
            self._judge = _Judge(self._prune, self._epochs, direction)
        scores = [epoch.selecting.metric if epoch.selecting is not None else math.nan for epoch in epochs]
        return scores, self._judge if direction is not None else None
