"""Prove on this machine and file system that a sweep may be killed at any moment and loses nothing.

The same sweep runs twice: undisturbed, and with SIGKILLs to its workers and its driver. Both must end with the same
bits.
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
from collections import Counter
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
  grid: default
  learning_rates: [1e-2]
  seeds: {seeds}
execution: {{retries: 1000, device: cpu}}
"""

_DRIVER_SHARE = 0.15
"""Share of the kills that hit the driver, whose death takes its workers with it."""
_LONGEST_WAIT_S = 0.8
_DEADLINE_S = 3600.0


@dataclass(frozen=True)
class _SelfTest:
    """How many trials and kills there were; ids of trials that differ, and of those trained to the end twice."""

    trials: int
    worker_kills: int
    driver_kills: int
    differing: tuple[str, ...]
    repeated: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether both sweeps ended alike and nothing was trained twice."""
        return not (self.differing or self.repeated)


def selftest(folder: Path, *, trials: int, kills: int, report: Callable[[str], None]) -> _SelfTest:
    """Run a sweep of trials with a seed each undisturbed and with SIGKILLs at random moments, and compare them.

    `folder` must be empty and on the file system to be tested; fewer are killed if all trials have ended before. Raises
    ExecutionError where the sweep does not run here even undisturbed, or never ended.
    """
    spec = folder / "selftest.yaml"
    spec.write_text(_SPEC.format(seeds=list(range(trials))), encoding="utf-8")
    report(f"undisturbed sweep of {trials} trials")
    process = _start(spec, folder / "whole")
    if process.wait():
        raise ExecutionError(f"the sweep ends with status {process.returncode} here even undisturbed: see {folder}")
    report(f"the same sweep with {kills} kills")
    killed = _run_with_kills(spec, folder / "killed", kills)
    whole, disturbed = ExperimentFolder(folder / "whole"), ExperimentFolder(folder / "killed")
    ids = [trial.id for trial in whole.trials()]
    return _SelfTest(
        trials=len(ids),
        worker_kills=killed["worker"],
        driver_kills=killed["driver"],
        differing=tuple(trial for trial in ids if _numbers(whole.trial(trial)) != _numbers(disturbed.trial(trial))),
        repeated=tuple(trial for trial in ids if _completions(disturbed.trial(trial)) > 1),
    )


def _run_with_kills(spec: Path, out: Path, kills: int) -> Counter[str]:
    """Give the command again and again until the sweep is complete, and kill it or its workers at random moments.

    Nothing is killed before the first trial has begun. Returns the numbers of killed workers and drivers.
    """
    deadline, killed, rng = time.monotonic() + _DEADLINE_S, Counter[str](), random.Random(0)
    process = _start(spec, out)
    while process.poll() != 0:
        if process.poll() is not None:
            process = _start(spec, out)
        if time.monotonic() > deadline:
            process.kill()
            raise ExecutionError(f"the sweep in {out} has not ended within {_DEADLINE_S / 60:.0f} minutes")
        time.sleep(rng.uniform(0.01, _LONGEST_WAIT_S))
        running = [trial for trial in ExperimentFolder(out).trials() if trial_state(trial) == "running"]
        workers = [found.pid for trial in running if (found := holder(trial.lease)) is not None]
        if killed.total() >= kills or not workers:
            continue
        is_driver = rng.random() < _DRIVER_SHARE
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process.pid if is_driver else rng.choice(workers), signal.SIGKILL)
            killed["driver" if is_driver else "worker"] += 1
        if is_driver:
            process.wait()
    return killed


def _start(spec: Path, out: Path) -> subprocess.Popen[bytes]:
    log = (spec.parent / f"{out.name}.log").open("ab")
    command = [sys.executable, "-m", "epsgrid", "sweep", str(spec), "--out", str(out), "--runs", str(spec.parent)]
    with log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def _numbers(trial: TrialFolder) -> tuple[Any, ...] | None:
    """Return everything that a trial has computed, without times and places; None where it has no result."""
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
