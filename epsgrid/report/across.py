"""Several experiments side by side: a row for each, what they say together of the claims, and what does not compare.

A folder that holds no experiment, one that was not swept, or one whose records are damaged is listed with the reason
and does not stop the rest. Rows of the same task are only comparable where data, metric and the way to select are the
same: where they are not, a warning says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from epsgrid import codec
from epsgrid.errors import EpsgridError
from epsgrid.grids import CONVENTIONAL, DEFAULT, NARROWED, REFERENCE
from epsgrid.report.claims import Run, claims
from epsgrid.report.compare import whole
from epsgrid.report.rows import ClaimRow, Comparison
from epsgrid.report.table import shortened
from epsgrid.report.text.render import stamp
from epsgrid.selection.best import tally_cells
from epsgrid.selection.cells import Cell, Tally
from epsgrid.selection.load import load_experiment
from epsgrid.store.paths import ExperimentFolder

_ORDER = ("task", "model", "optimizer")


@dataclass(frozen=True)
class _AcrossRow:
    """One experiment: its folder, its own page (None where none was written), and the tally of all its trials."""

    run: str
    folder: str
    comparison: Comparison
    page: str | None
    tally: Tally

    @property
    def is_partial(self) -> bool:
        """Whether the data are part of the data, or made up."""
        return stamp(self.comparison) is not None

    @property
    def unfinished(self) -> int:
        """The number of trials without a result."""
        return self.tally.trials - self.tally.done - self.tally.diverged

    def values(self) -> dict[str, Any]:
        """Return the row as flat JSON values, metrics in their stored unit; None where something is not known."""
        found, metric, bounds = self.comparison, self.comparison.metric, self.comparison.bounds
        values: dict[str, Any] = {"run": self.run, "task": found.task, "model": found.model}
        values |= {"optimizer": found.optimizer, "partial_data": str(self.is_partial).lower()}
        values |= {"selection": found.selection, "metric": metric.name if metric else None}
        values |= {"low": bounds.low.decade if bounds else None, "high": bounds.high.decade if bounds else None}
        for name in (NARROWED, CONVENTIONAL):
            grid = found.grid(name)
            values[f"decades_{name}"] = grid.decades if grid else None
        values["decades_ratio"] = found.decades_ratio
        for name in (NARROWED, CONVENTIONAL, DEFAULT, REFERENCE):
            cell = self.best(name)
            test = cell.test if cell else None
            values[f"{name}_epsilon"] = cell.epsilon if cell else None
            values[f"{name}_test"] = test.mean if test else None
            values |= {f"{name}_sd": test.sd if test else None, f"{name}_seeds": test.n if test else None}
        values["margin"] = found.answers.margin
        for question in ("default", "narrowing"):
            answer = found.answers.of(question)
            loss = answer.loss if answer.loss is not None and answer.loss.n > 1 else None
            values |= {question: answer.answer, f"{question}_loses": loss.mean if loss else None}
            values |= {f"{question}_low": loss.low if loss else None, f"{question}_high": loss.high if loss else None}
        values |= {"trials": self.tally.trials, "unfinished": self.unfinished, "device_seconds": self.tally.seconds}
        values |= {"probe_seconds": found.probe_seconds}
        return values | dict(zip(("saved_trials", "saved_seconds"), self.saved, strict=True))

    @property
    def saved(self) -> tuple[int | None, float | None]:
        """The trials and the seconds that the narrowed grid saved."""
        narrowed = self.comparison.best_of(NARROWED)
        return (narrowed.cost.saved_trials, narrowed.cost.saved_seconds) if narrowed else (None, None)

    def best(self, name: str) -> Cell | None:
        """Return the best cell of a grid or of the default ε; None where there is none."""
        row = self.comparison.best_of(name)
        return row.choice.cell if row else None


@dataclass(frozen=True)
class _Skipped:
    """A folder that has no row, and why."""

    folder: str
    why: str


@dataclass(frozen=True)
class Across:
    """Several experiments side by side.

    Attributes:
        rows: one per experiment, by task, model and optimizer.
        warnings: what does not compare, a sentence each.
        skipped: the folders without a row.
    """

    rows: tuple[_AcrossRow, ...]
    claims: tuple[ClaimRow, ...]
    warnings: tuple[str, ...]
    skipped: tuple[_Skipped, ...]

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        rows = [{"folder": row.folder, "page": row.page, **row.values()} for row in self.rows]
        claimed, skipped = ([codec.to_document(each) for each in part] for part in (self.claims, self.skipped))
        return {"rows": rows, "claims": claimed, "warnings": list(self.warnings), "skipped": skipped}


def across(folders: Sequence[Path]) -> Across:
    """Read several experiments; a folder that holds none is listed with the reason."""
    found: list[tuple[_AcrossRow, Run]] = []
    skipped = []
    names = {path: path.absolute().name for path in folders}
    counts = Counter(names.values())
    for path, own_name in names.items():
        name = own_name if counts[own_name] == 1 else str(path)
        try:
            stored = load_experiment(ExperimentFolder(path.absolute()))
            if stored.grid is None:
                skipped.append(_Skipped(str(path), "nothing was swept here yet; `epsgrid sweep` does it"))
                continue
            comparison, judged, _ = whole(stored)
        except EpsgridError as error:
            skipped.append(_Skipped(str(path), str(error).removeprefix(f"{path.absolute()}: ")))
            continue
        folder = ExperimentFolder(path.absolute()).report_dir
        pages = (folder / page for page in ("report.html", "report.md"))
        page = next((str(page) for page in pages if page.is_file()), None)
        row = _AcrossRow(name, str(path), comparison, page, tally_cells(comparison.cells))
        found.append((row, replace(judged, name=name, comparison=comparison)))
    found.sort(key=lambda pair: (*(getattr(pair[0].comparison, key) for key in _ORDER), pair[0].run))
    rows = tuple(row for row, _ in found)
    return Across(rows, claims([run for _, run in found]), tuple(_warnings(rows)), tuple(skipped))


def _warnings(rows: Sequence[_AcrossRow]) -> Iterator[str]:
    """Yield which rows do not compare."""
    partial = [row.run for row in rows if row.is_partial]
    if partial and len(partial) < len(rows):
        yield f"on part of the data, or on made-up data, so not comparable with the others: {shortened(partial, 4)}"
    for task in dict.fromkeys(row.comparison.task for row in rows):
        own = {row.run: row.comparison for row in rows if row.comparison.task == task}
        for what, values in (
            ("different data", {run: found.data_description for run, found in own.items()}),
            ("different metrics", {run: found.metric.name for run, found in own.items() if found.metric is not None}),
            ("different splits that select", {run: found.selection for run, found in own.items()}),
        ):
            runs = {value: [run for run in values if values[run] == value] for value in dict.fromkeys(values.values())}
            if len(runs) > 1:
                parts = "; ".join(f"{value} ({shortened(names, 4)})" for value, names in runs.items())
                yield f"{task} was run with {what}, so these rows do not compare: {parts}"
