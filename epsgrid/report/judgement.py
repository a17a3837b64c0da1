"""The runs that the paper's claims are judged by, and the form of a judgement."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Literal

from epsgrid.report.rows import Comparison
from epsgrid.selection.load import StoredExperiment


@dataclass(frozen=True)
class Judgement:
    """An answer to a claim, and the numbers it rests on, or why there is none."""

    answer: Literal["reproduced", "not reproduced", "undecided"]
    numbers: str


@dataclass(frozen=True)
class Run:
    """An experiment among those that claims are judged by.

    Attributes:
        name: of the run, different for each.
        comparison: its comparison, observed trials included.
        setting: a hash that experiments share where they differ in nothing but the optimizer.
        is_reference: whether its optimizer has no ε.
    """

    name: str
    comparison: Comparison
    setting: str
    is_reference: bool


def undecided(why: str) -> Judgement:
    """Return that a claim cannot be judged, and why."""
    return Judgement("undecided", why)


def run_of(stored: StoredExperiment, comparison: Comparison, name: str | None = None) -> Run:
    """Return an experiment as a run, named as the experiment unless another name is given."""
    has_epsilon = stored.grid is None or not stored.grid.cells or any(c.epsilon is not None for c in stored.grid.cells)
    known = (result.identity for result in stored.results.values() if "task" in result.identity)
    asked = next(known, None) or {**stored.experiment.spec, "data": stored.experiment.data_checksum}
    common = json.dumps([asked.get(part) for part in ("task", "model", "training", "data")], sort_keys=True)
    setting = hashlib.sha256(common.encode()).hexdigest()
    return Run(name or comparison.experiment, comparison, setting, is_reference=not has_epsilon)
