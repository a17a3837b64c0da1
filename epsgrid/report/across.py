"""Several experiments side by side: a row for each, what they say together of the claims, and what does not compare.

A folder that holds no experiment, one that was not swept, or one whose records are damaged is told and does not stop
the rest. Rows of the same task are only comparable where data, metric and the way to select are the same: where they
are not, a warning says so.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from epsgrid import codec
from epsgrid.errors import EpsgridError
from epsgrid.report.cells import Spread
from epsgrid.report.claims import ClaimRow, claims
from epsgrid.report.judged import Run, run_of
from epsgrid.report.load import load_experiment
from epsgrid.report.rows import CONVENTIONAL, DEFAULT, NARROWED, REFERENCE, Comparison
from epsgrid.report.text.render import stamp
from epsgrid.report.verdict import Difference
from epsgrid.report.whole import whole
from epsgrid.report.words import Metric
from epsgrid.store.paths import ExperimentFolder

PAGES = ("report.html", "report.md")


@dataclass(frozen=True)
class Best:
    """The best setting of a grid or of the default ε: in words, and its test metric; None where none can be chosen."""

    setting: str
    epsilon: float | None
    test: Spread | None


@dataclass(frozen=True)
class AcrossRow:
    """One experiment.

    Attributes:
        run: name of its folder.
        folder: where it lies.
        task: name of the task.
        model: name of the model.
        optimizer: name of the optimizer.
        data: what the data are, in one line.
        is_partial: whether they are part of the data, or made up.
        selection: the split that selects.
        metric: what it is judged by; None while no trial has a result.
        answer: is the optimum inside: "yes", "no" or "cannot tell".
        reason: why.
        low: lower end of the bounds, the power of ten; None without bounds.
        high: upper end, likewise.
        decades_narrowed: of the narrowed grid; None where it was not swept.
        decades_conventional: likewise.
        decades_ratio: conventional over narrowed; None unless both were swept.
        narrowed: best setting; None where there is none.
        conventional: likewise.
        default: likewise.
        reference: likewise, of an optimizer without ε.
        regret: conventional − narrowed on test.
        gain_over_default: narrowed − default on test.
        trials: all, each once.
        unfinished: of these, without a result.
        device_seconds: of training, all trials together.
        probe_seconds: of the probe; None where there is none.
        saved_trials: by narrowing; None unless both grids were swept.
        saved_seconds: likewise, the probe counted; None where it is not known.
        page: its own page; None where none was written.
    """

    run: str
    folder: str
    task: str
    model: str
    optimizer: str
    data: str
    is_partial: bool
    selection: str
    metric: Metric | None
    answer: str
    reason: str
    low: float | None
    high: float | None
    decades_narrowed: int | None
    decades_conventional: int | None
    decades_ratio: float | None
    narrowed: Best | None
    conventional: Best | None
    default: Best | None
    reference: Best | None
    regret: Difference
    gain_over_default: Difference
    trials: int
    unfinished: int
    device_seconds: float
    probe_seconds: float | None
    saved_trials: int | None
    saved_seconds: float | None
    page: str | None


@dataclass(frozen=True)
class Skipped:
    """A folder that has no row, and why."""

    folder: str
    why: str


@dataclass(frozen=True)
class Across:
    """Several experiments side by side.

    Attributes:
        rows: one per experiment, by task, model and optimizer.
        claims: what they say together about the paper's claims.
        warnings: what does not compare, a sentence each.
        skipped: the folders without a row.
    """

    rows: tuple[AcrossRow, ...]
    claims: tuple[ClaimRow, ...]
    warnings: tuple[str, ...]
    skipped: tuple[Skipped, ...]

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        return codec.to_document(self)

    def answers(self) -> Counter[str]:
        """Return how often each answer was given, by the experiments of an optimizer with ε."""
        return Counter(row.answer for row in self.rows if row.reference is None)


def across(folders: Sequence[Path]) -> Across:
    """Read several experiments.

    Args:
        folders: of the experiments; any of them may be none.
    """
    rows, runs, skipped, names = [], [], [], _names(folders)
    for path in dict.fromkeys(folders):
        try:
            found = _read(path, names[path])
        except EpsgridError as error:
            skipped.append(Skipped(str(path), str(error).removeprefix(f"{path.absolute()}: ")))
            continue
        if isinstance(found, str):
            skipped.append(Skipped(str(path), found))
            continue
        rows.append(found[0])
        runs.append(found[1])
    ordered = sorted(zip(rows, runs, strict=True), key=lambda pair: (*_place(pair[0]), pair[0].run))
    return Across(
        rows=tuple(row for row, _ in ordered),
        claims=claims([run for _, run in ordered]),
        warnings=tuple(_warnings([row for row, _ in ordered])),
        skipped=tuple(skipped),
    )


def _place(row: AcrossRow) -> tuple[str, str, str]:
    return row.task, row.model, row.optimizer


def _names(folders: Iterable[Path]) -> dict[Path, str]:
    """Return a name for each folder: its own, or its path where two share theirs."""
    paths = list(dict.fromkeys(folders))
    counts = Counter(path.absolute().name for path in paths)
    return {path: path.absolute().name if counts[path.absolute().name] == 1 else str(path) for path in paths}


def _read(path: Path, name: str) -> tuple[AcrossRow, Run] | str:
    """Return an experiment's row and what claims need of it, or why it has none."""
    stored = load_experiment(ExperimentFolder(path.absolute()))
    if stored.grid is None:
        return "nothing was swept here yet; `epsgrid sweep` does it"
    comparison, _ = whole(stored)
    return _row(comparison, path, name), run_of(stored, comparison, name)


def _row(comparison: Comparison, path: Path, name: str) -> AcrossRow:
    trials = {trial.id: trial for cell in comparison.cells for trial in cell.trials}.values()
    grids = {row.name: row.decades for row in comparison.grids}
    return AcrossRow(
        run=name,
        folder=str(path),
        task=comparison.task,
        model=comparison.model,
        optimizer=comparison.optimizer,
        data=comparison.data_description,
        is_partial=stamp(comparison) is not None,
        selection=comparison.selection,
        metric=comparison.metric,
        answer=comparison.verdict.answer,
        reason=comparison.verdict.reason,
        low=comparison.bounds.low.decade if comparison.bounds else None,
        high=comparison.bounds.high.decade if comparison.bounds else None,
        decades_narrowed=grids.get(NARROWED),
        decades_conventional=grids.get(CONVENTIONAL),
        decades_ratio=comparison.decades_ratio,
        narrowed=_best(NARROWED, comparison),
        conventional=_best(CONVENTIONAL, comparison),
        default=_best(DEFAULT, comparison),
        reference=_best(REFERENCE, comparison),
        regret=comparison.regret,
        gain_over_default=comparison.gain_over_default,
        trials=len(trials),
        unfinished=sum(trial.state not in ("done", "diverged") for trial in trials),
        device_seconds=sum(trial.seconds or 0.0 for trial in trials),
        probe_seconds=comparison.costs.probe_seconds,
        saved_trials=comparison.costs.saved_trials,
        saved_seconds=comparison.costs.saved_seconds,
        page=_page(path),
    )


def _best(name: str, comparison: Comparison) -> Best | None:
    row = comparison.best_of(name)
    if row is None or row.choice.cell is None:
        return None
    return Best(row.choice.cell.words, row.choice.cell.epsilon, row.choice.cell.test)


def _page(path: Path) -> str | None:
    folder = ExperimentFolder(path.absolute()).report_dir
    return next((str(folder / name) for name in PAGES if (folder / name).is_file()), None)


def _warnings(rows: Sequence[AcrossRow]) -> Iterable[str]:
    """Say which rows do not compare."""
    partial = [row.run for row in rows if row.is_partial]
    if partial and len(partial) < len(rows):
        yield f"on part of the data, or on made-up data, and so not to be set beside the others: {_listed(partial)}"
    for task in dict.fromkeys(row.task for row in rows):
        own = [row for row in rows if row.task == task]
        yield from _mixed(task, "different data", own, lambda row: row.data)
        judged = [row for row in own if row.metric is not None]
        yield from _mixed(task, "different metrics", judged, lambda row: row.metric.name if row.metric else "")
        yield from _mixed(task, "different splits that select", own, lambda row: row.selection)


def _mixed(task: str, what: str, rows: Sequence[AcrossRow], key: Callable[[AcrossRow], str]) -> Iterable[str]:
    values = list(dict.fromkeys(map(key, rows)))
    if len(values) > 1:
        parts = [f"{value} ({_listed([row.run for row in rows if key(row) == value])})" for value in values]
        yield f"{task} was run with {what}, so these rows do not compare: {'; '.join(parts)}"


def _listed(names: Sequence[str], shown: int = 4) -> str:
    hidden = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {hidden} more" if hidden > 0 else "")


def relative(page: str, folder: Path) -> str:
    """Return the address of a page, seen from a folder."""
    return Path(os.path.relpath(page, folder.absolute())).as_posix()
