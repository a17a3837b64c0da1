"""Prove on this machine and file system that a sweep may be killed at any moment and loses nothing.

The same sweep of short trainings runs twice: once undisturbed, once while its workers and its driver get SIGKILL at
random moments and the command is given again. Both must end with the same bits.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from epsgrid.errors import ExecutionError
from epsgrid.store.lease import holder
from epsgrid.store.paths import ExperimentFolder, TrialFolder
from epsgrid.store.records import TrialResult
from epsgrid.store.state import trial_state

_SPEC = """\
experiment: selftest
task: digits
model: {{name: mlp, hidden: [32]}}
optimizer: adam
training: {{epochs: 12, batch_size: 16}}
sweep:
  grid: conventional
  learning_rates: [1e-2]
  seeds: {seeds}
execution: {{retries: 1000, device: cpu}}
"""

_CELLS_PER_SEED = 13
_DRIVER_SHARE = 0.15
"""Share of the kills that hit the driver, whose death takes its workers with it."""
_LONGEST_WAIT_S = 0.8
_DEADLINE_S = 3600.0


@dataclass(frozen=True)
class SelfTest:
    """How the test came out.

    Attributes:
        trials: number of trials in the sweep.
        worker_kills: SIGKILLs that hit a process at work on a trial.
        driver_kills: SIGKILLs that hit the command itself.
        differing: ids of trials whose results, epochs or observations differ between the two sweeps.
        repeated: ids of trials that were trained to the end more than once.
        seconds_whole: wall time of the undisturbed sweep.
        seconds_killed: wall time of the other.
    """

    trials: int
    worker_kills: int
    driver_kills: int
    differing: tuple[str, ...]
    repeated: tuple[str, ...]
    seconds_whole: float
    seconds_killed: float

    @property
    def passed(self) -> bool:
        """Whether both sweeps ended alike and nothing was trained twice."""
        return not (self.differing or self.repeated)


def selftest(folder: Path, *, trials: int, kills: int, seed: int, say: Callable[[str], None]) -> SelfTest:
    """Run a sweep undisturbed and one with kills, and compare them.

    Args:
        folder: an empty folder on the file system to be tested.
        trials: at least so many trials; rounded up to a multiple of 13.
        kills: SIGKILLs to send at random moments; fewer if all trials have ended before.
        seed: of the random moments and victims.
        say: told the progress, a line each.

    Raises:
        ExecutionError: the sweep does not run here even undisturbed, or never ended.
    """
    seeds = list(range(-(-trials // _CELLS_PER_SEED)))
    spec = folder / "selftest.yaml"
    spec.write_text(_SPEC.format(seeds=seeds), encoding="utf-8")
    say(f"undisturbed sweep of {_CELLS_PER_SEED * len(seeds)} trials")
    start = time.perf_counter()
    process = _start(spec, folder / "whole")
    if process.wait():
        raise ExecutionError(f"the sweep ends with status {process.returncode} here even undisturbed: see {folder}")
    middle = time.perf_counter()
    say(f"the same sweep with {kills} kills")
    worker_kills, driver_kills = _Killer(spec, folder / "killed", kills, random.Random(seed), say).run()
    end = time.perf_counter()
    whole, killed = ExperimentFolder(folder / "whole"), ExperimentFolder(folder / "killed")
    ids = [trial.id for trial in whole.trials()]
    return SelfTest(
        trials=len(ids),
        worker_kills=worker_kills,
        driver_kills=driver_kills,
        differing=tuple(trial for trial in ids if _numbers(whole.trial(trial)) != _numbers(killed.trial(trial))),
        repeated=tuple(trial for trial in ids if _completions(killed.trial(trial)) > 1),
        seconds_whole=middle - start,
        seconds_killed=end - middle,
    )


class _Killer:
    """Gives the command again and again, and kills it or its workers, until the sweep is complete."""

    def __init__(self, spec: Path, out: Path, kills: int, rng: random.Random, say: Callable[[str], None]) -> None:
        self.spec, self.out, self.kills, self.rng, self.say = spec, out, kills, rng, say
        self.worker_kills = self.driver_kills = 0

    def run(self) -> tuple[int, int]:
        deadline = time.monotonic() + _DEADLINE_S
        process = _start(self.spec, self.out)
        while True:
            if process.poll() == 0:
                return self.worker_kills, self.driver_kills
            if process.poll() is not None:
                process = _start(self.spec, self.out)
            if time.monotonic() > deadline:
                _kill(process.pid)
                raise ExecutionError(f"the sweep in {self.out} has not ended within {_DEADLINE_S / 60:.0f} minutes")
            time.sleep(self.rng.uniform(0.01, _LONGEST_WAIT_S))
            if self.worker_kills + self.driver_kills < self.kills:
                self._strike(process)

    def _strike(self, process: subprocess.Popen[bytes]) -> None:
        """Kill a worker, or now and then the driver; nothing before the first trial has begun."""
        workers = self._workers()
        if not workers:
            return
        if self.rng.random() < _DRIVER_SHARE:
            self.driver_kills += _kill(process.pid)
            process.wait()
        else:
            self.worker_kills += _kill(self.rng.choice(workers))
        self.say(f"killed {self.worker_kills} workers, {self.driver_kills} drivers")

    def _workers(self) -> list[int]:
        found = [
            holder(trial.lease) for trial in ExperimentFolder(self.out).trials() if trial_state(trial) == "running"
        ]
        return [each.pid for each in found if each is not None]


def _start(spec: Path, out: Path) -> subprocess.Popen[bytes]:
    log = (spec.parent / f"{out.name}.log").open("ab")
    command = [sys.executable, "-m", "epsgrid", "sweep", str(spec), "--out", str(out), "--runs", str(spec.parent)]
    with log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def _kill(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)
        return True
    return False


def _numbers(trial: TrialFolder) -> tuple[Any, ...] | None:
    """Return all that a trial has computed, without times and places; None where it has no result."""
    if not trial.result_json.exists():
        return None
    result = TrialResult.read(trial.result_json)
    epochs = [json.loads(line) for line in trial.metrics_jsonl.read_text(encoding="utf-8").splitlines()]
    kept = [{key: value for key, value in epoch.items() if key not in ("seconds", "checksum")} for epoch in epochs]
    observed = trial.observations_jsonl.read_bytes() if trial.observations_jsonl.exists() else b""
    scores = repr((result.state, result.steps, result.selected_epoch, result.validation, result.test))
    return scores, json.dumps(kept, sort_keys=True), observed


def _completions(trial: TrialFolder) -> int:
    """Return how often a trial was trained to the end, from the log that every attempt appends to."""
    lines = trial.log.read_text(encoding="utf-8").splitlines() if trial.log.exists() else []
    return sum(line.partition(" ")[2] in ("done", "diverged") for line in lines)
