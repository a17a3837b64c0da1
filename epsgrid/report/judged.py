"""What a claim is judged from, and what comes of it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Literal

from epsgrid.report.load import StoredExperiment
from epsgrid.report.rows import Comparison


@dataclass(frozen=True)
class Finding:
    """An answer to a claim, and the numbers it rests on, or why there is none."""

    answer: Literal["reproduced", "not reproduced", "undecided"]
    numbers: str


@dataclass(frozen=True)
class Run:
    """An experiment as the claims see it.

    Attributes:
        name: to tell it by.
        comparison: what it says, its observed trials included.
        setting: the same for experiments that differ in nothing but the optimizer.
        is_reference: whether its optimizer has no ε.
    """

    name: str
    comparison: Comparison
    setting: str
    is_reference: bool


def undecided(why: str) -> Finding:
    """Return that a claim cannot be judged, and why."""
    return Finding("undecided", why)


def run_of(stored: StoredExperiment, comparison: Comparison, name: str | None = None) -> Run:
    """Return an experiment as the claims see it."""
    has_epsilon = stored.grid is None or not stored.grid.cells or any(c.epsilon is not None for c in stored.grid.cells)
    return Run(name or comparison.experiment, comparison, _setting(stored), is_reference=not has_epsilon)


def _setting(stored: StoredExperiment) -> str:
    """Return a text that two experiments share where they differ in nothing but the optimizer."""
    known = (result.identity for result in stored.results.values() if "task" in result.identity)
    asked = next(known, None) or {**stored.experiment.spec, "data": stored.experiment.data_checksum}
    common = [asked.get(part) for part in ("task", "model", "training", "data")]
    return hashlib.sha256(json.dumps(common, sort_keys=True).encode()).hexdigest()
