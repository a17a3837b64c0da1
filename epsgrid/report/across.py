"""Several experiments side by side: a row for each, what they say together of the claims, and what does not compare.

A folder that holds no experiment, one that was not swept, or one whose records are damaged is listed with the reason
and does not stop the rest. Rows of the same task are only comparable where data, metric and the way to select are the
same: where they are not, a warning says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from epsgrid import codec
from epsgrid.errors import EpsgridError
from epsgrid.report.claims import Run, claims, run_of
from epsgrid.report.compare import whole
from epsgrid.report.rows import ClaimRow, Comparison
from epsgrid.report.text.render import stamp
from epsgrid.selection.cells import CONVENTIONAL, DEFAULT, NARROWED, REFERENCE, Difference, Spread
from epsgrid.selection.formatting import Metric
from epsgrid.selection.load import load_experiment
from epsgrid.store.paths import ExperimentFolder


@dataclass(frozen=True)
class Best:
    """The best setting of a grid or of the default ε: its label, its ε, and its test metric."""

    setting: str
    epsilon: float | None
    test: Spread | None


@dataclass(frozen=True)
class AcrossRow:
    """One experiment.

    Attributes:
        run: name of its folder.
        folder: its path.
        task, model, optimizer, selection, metric, decades_ratio, regret, gain_over_default: as in its `Comparison`.
        data: the description of the data.
        is_partial: whether they are part of the data, or made up.
        answer, reason: of its verdict.
        low, high: the powers of ten at the ends of the bounds; None without bounds.
        decades_narrowed, decades_conventional: of the grids; None where they were not swept.
        narrowed, conventional, default, reference: best settings; None where there is none.
        trials: all, each once.
        unfinished: trials without a result.
        device_seconds: of training, all trials together.
        probe_seconds, saved_trials, saved_seconds: as in the comparison's `Costs`.
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
    found: list[tuple[AcrossRow, Run]] = []
    skipped = []
    names = {path: path.absolute().name for path in folders}
    counts = Counter(names.values())
    for path, own_name in names.items():
        name = own_name if counts[own_name] == 1 else str(path)
        try:
            stored = load_experiment(ExperimentFolder(path.absolute()))
            if stored.grid is None:
                skipped.append(Skipped(str(path), "nothing was swept here yet; `epsgrid sweep` does it"))
                continue
            comparison, _ = whole(stored)
        except EpsgridError as error:
            skipped.append(Skipped(str(path), str(error).removeprefix(f"{path.absolute()}: ")))
            continue
        found.append((_row(comparison, path, name), run_of(stored, comparison, name)))
    found.sort(key=lambda pair: (pair[0].task, pair[0].model, pair[0].optimizer, pair[0].run))
    rows = tuple(row for row, _ in found)
    return Across(rows, claims([run for _, run in found]), tuple(_warnings(rows)), tuple(skipped))


def _row(comparison: Comparison, path: Path, name: str) -> AcrossRow:
    trials = {trial.id: trial for cell in comparison.cells for trial in cell.trials}.values()
    grids = {row.name: row.decades for row in comparison.grids}
    folder = ExperimentFolder(path.absolute()).report_dir
    pages = (folder / page for page in ("report.html", "report.md"))
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
        page=next((str(page) for page in pages if page.is_file()), None),
    )


def _best(name: str, comparison: Comparison) -> Best | None:
    row = comparison.best_of(name)
    if row is None or row.choice.cell is None:
        return None
    return Best(row.choice.cell.words, row.choice.cell.epsilon, row.choice.cell.test)


def _warnings(rows: Sequence[AcrossRow]) -> Iterator[str]:
    """Yield which rows do not compare."""
    partial = [row.run for row in rows if row.is_partial]
    if partial and len(partial) < len(rows):
        yield f"on part of the data, or on made-up data, and so not to be set beside the others: {_listed(partial)}"
    for task in dict.fromkeys(row.task for row in rows):
        own = [row for row in rows if row.task == task]
        for what, values in (
            ("different data", {row.run: row.data for row in own}),
            ("different metrics", {row.run: row.metric.name for row in own if row.metric is not None}),
            ("different splits that select", {row.run: row.selection for row in own}),
        ):
            runs = {value: [run for run in values if values[run] == value] for value in dict.fromkeys(values.values())}
            if len(runs) > 1:
                parts = "; ".join(f"{value} ({_listed(names)})" for value, names in runs.items())
                yield f"{task} was run with {what}, so these rows do not compare: {parts}"


def _listed(names: Sequence[str], shown: int = 4) -> str:
    hidden = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {hidden} more" if hidden > 0 else "")
