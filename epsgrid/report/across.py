"""Several experiments side by side: a page for people, the same as text, and rows for programs.

index.html    the page
index.md      the same in plain text
index.json    everything, versioned
index.csv     one row per experiment
index.tex     the tables that a paper would show

A folder that cannot be compared is listed with the reason and does not stop the rest. Where data, metric or the way to
select differ between rows of the same task, a warning says so.
"""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from epsgrid import codec
from epsgrid.errors import EpsgridError, StoreError
from epsgrid.grids import CONVENTIONAL, DEFAULT, NARROWED, REFERENCE
from epsgrid.report.claims import Run, claims
from epsgrid.report.compare import whole
from epsgrid.report.html.page import Section, html_page
from epsgrid.report.lessons import RuleTally, constant_table, optima_table, references_table, rule_tallies, rules_table
from epsgrid.report.rows import ClaimRow, Comparison
from epsgrid.report.table import Table, shortened
from epsgrid.report.text.latex import latex_file
from epsgrid.report.text.page import bold, bullets, heading, joined, table_block
from epsgrid.report.text.render import claims_table, stamp, tally_table
from epsgrid.selection.answers import CHANGE, COSTS, KEEP, NO_COST, OPEN, Answers
from epsgrid.selection.best import tally_cells
from epsgrid.selection.cells import Cell, Tally
from epsgrid.selection.formatting import NOTHING, Metric, amounts, count, duration, power, score
from epsgrid.selection.load import load_experiment
from epsgrid.store.atomic import readable_json, write_text
from epsgrid.store.paths import ExperimentFolder

_VERSION = 2
_ORDER = ("task", "model", "optimizer")
_TITLE, _PAGES = "Experiments side by side", "Reports of the experiments"
_ABOUT = {
    "What rules of thumb lose": "how the bounds, the default ε and point estimates fare over all runs",
    "Where the best ε lies": "beside the gradient magnitudes; how sharply scores and steps fall, how far bounds move",
    "ε relative to the median gradient magnitude": "is the best ε a constant times the median √v̂?",
    "Without ε": "momentum SGD and others that have none, on the same data",
    "Experiments": "bounds, and the test metric at the best settings",
    "Cost": "trainings, training time, and what the narrowed grids save",
    "Claims at a glance": "in how many runs each claim of the paper was reproduced",
    "Claims of the paper": "what each run, and all together, say about them",
    "Left out": "folders without a row, and why",
}
"""What is inside each table but those of the answers, which stand open."""
_IN_TEX = ("Answers by task", "Answers", "What rules of thumb lose")
_PARTIAL = "PART OF THE DATA OR MADE-UP DATA in some rows: their scores do not compare with published ones."


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
    def has_epsilon(self) -> bool:
        """Whether its optimizer has an ε, about which the questions are."""
        return self.best(REFERENCE) is None

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
            values |= {f"{name}_epsilon": cell.epsilon if cell else None, f"{name}_test": test.mean if test else None}
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
        runs: the same as claims are judged by, in the same order.
        rules: what rules of thumb lose over all runs.
        warnings: what does not compare, a sentence each.
    """

    rows: tuple[_AcrossRow, ...]
    runs: tuple[Run, ...]
    claims: tuple[ClaimRow, ...]
    rules: tuple[RuleTally, ...]
    warnings: tuple[str, ...]
    skipped: tuple[_Skipped, ...]

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        rows = [{"folder": row.folder, "page": row.page, **row.values()} for row in self.rows]
        parts = {"claims": self.claims, "rules": self.rules, "skipped": self.skipped}
        documents = {name: [codec.to_document(each) for each in part] for name, part in parts.items()}
        return {"rows": rows, **documents, "warnings": list(self.warnings)}


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
    rows, runs = tuple(row for row, _ in found), tuple(run for _, run in found)
    return Across(rows, runs, claims(runs), rule_tallies(runs), tuple(_warnings(rows)), tuple(skipped))


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


def across_headline(found: Across) -> str:
    """Return how often the default ε can stay, in a sentence."""
    answers = Counter(row.comparison.answers.of("default").answer for row in found.rows if row.has_epsilon)
    if not found.rows:
        return "There is no experiment to show."
    if not answers:
        return f"{count(len(found.rows), 'experiment')}, none of an optimizer with ε."
    texts = ", ".join(f"{answer} in {number}" for answer, number in answers.most_common())
    return f"May the default ε stay? {texts[:1].upper()}{texts[1:]} of {count(sum(answers.values()), 'experiment')}."


def across_tables(found: Across) -> tuple[Table, ...]:
    """Return the tables that have something to show, in reading order."""
    skipped = tuple((skipped.folder, skipped.why) for skipped in found.skipped)
    made = (
        _counts_table(found),
        _answers_table(found),
        rules_table(found.rules),
        optima_table(found.runs),
        constant_table(found.runs),
        references_table(found.runs),
        _runs_table(found),
        _costs_table(found),
        tally_table(found.claims),
        claims_table(found.claims),
        Table("Left out", ("folder", "why"), skipped, texts=2) if skipped else None,
    )
    return tuple(table for table in made if table is not None)


def _counts_table(found: Across) -> Table | None:
    """Return how often each answer was given on each task with each model, where that is shorter than all answers."""
    given: dict[tuple[str, str], list[Answers]] = {}
    for row in found.rows:
        if row.has_epsilon:
            given.setdefault((row.comparison.task, row.comparison.model), []).append(row.comparison.answers)
    if not 1 < len(given) < sum(map(len, given.values())):
        return None
    asked = [("default", each) for each in (KEEP, CHANGE, OPEN)] + [
        ("narrowing", each) for each in (NO_COST, COSTS, OPEN)
    ]
    rows = [
        (
            *names,
            str(len(own)),
            *(str(sum(each.of(question).answer == answer for each in own)) for question, answer in asked),
        )
        for names, own in given.items()
    ]
    columns = ("task", "model", "experiments", *(f"{question}: {answer}" for question, answer in asked))
    return Table("Answers by task", columns, tuple(rows), texts=2)


def _answers_table(found: Across) -> Table | None:
    rows = []
    for row in found.rows:
        answers, metric = row.comparison.answers, row.comparison.metric
        if not row.has_epsilon:
            continue
        margin = NOTHING if metric is None or answers.margin is None else amounts([answers.margin], metric)
        texts = [text for question in ("default", "narrowing") for text in _answer(row.comparison, question)]
        loss = answers.of("default").loss
        rows.append((row.run, *texts, margin, str(loss.n if loss else answers.seeds)))
    columns = ("run", "default ε", "loses", "narrowing", "loses", "margin", "seeds")
    note = "loses: against the best of the other settings, on test, with a lower and an upper bound"
    return Table("Answers", columns, tuple(rows), note) if rows else None


def _answer(comparison: Comparison, question: str) -> tuple[str, str]:
    """Return an answer in a word, and the loss that it rests on, with its bounds where it has any."""
    answer, metric = comparison.answers.of(question), comparison.metric
    if answer.loss is None or metric is None:
        return answer.answer, NOTHING
    mean = amounts([answer.loss.mean], metric)
    ends = "" if answer.loss.n < 2 else f" ({amounts([answer.loss.low, answer.loss.high], metric)})"
    return answer.answer, mean + ends


def _runs_table(found: Across) -> Table | None:
    rows = []
    for row in found.rows:
        own, metric = row.comparison, row.comparison.metric
        cells = (row.best(NARROWED) or row.best(REFERENCE), row.best(CONVENTIONAL), row.best(DEFAULT))
        rows.append(
            (
                *(row.run, own.task + (" (part)" if row.is_partial else ""), own.model, own.optimizer),
                f"{power(own.bounds.low.decade)} to {power(own.bounds.high.decade)}" if own.bounds else NOTHING,
                NOTHING if own.decades_ratio is None else f"{own.decades_ratio:.3g} ×",
                *(NOTHING if metric is None else _best(cell, metric) for cell in cells),
            )
        )
    names = ("run", "task", "model", "optimizer")
    columns = (*names, "bounds of ε", "narrower", "narrowed", "conventional", "default ε")
    note = "test metric, mean ± standard deviation, at the best setting; narrower: decades, conventional over narrowed"
    return Table("Experiments", columns, tuple(rows), note, texts=len(names)) if rows else None


def _best(cell: Cell | None, metric: Metric) -> str:
    if cell is None or cell.test is None:
        return NOTHING
    where = "" if cell.epsilon is None else f" at {power(cell.epsilon)}"
    return f"{score(cell.test.mean, cell.test.sd, metric)}{where}"


def _signed(value: int) -> str:
    return str(value).replace("-", "−")


def _costs_table(found: Across) -> Table | None:
    """Return what each run cost and saved; with several runs, also of all of them together."""
    if not found.rows:
        return None
    spent: dict[str, list[Any]] = {}
    for row in found.rows:
        fresh = row.comparison.fresh
        trained = (row.tally.trials, fresh.trials, row.unfinished, row.tally.seconds + fresh.seconds)
        spent[row.run] = [*trained, row.comparison.probe_seconds, *row.saved]
    if len(found.rows) > 1:
        spent["all"] = [sum(own or 0 for own in column) for column in zip(*spent.values(), strict=True)]
    formats: tuple[Callable[[Any], str], ...] = (str, str, str, duration, duration, _signed, duration)
    texts = tuple(
        (run, *(NOTHING if own is None else write(own) for write, own in zip(formats, row, strict=True)))
        for run, row in spent.items()
    )
    counts = ("trainings", "on fresh seeds", "without a result", "training time")
    columns = ("run", *counts, "probe", "trainings saved", "time saved")
    note = (
        "trainings: of the grids; on fresh seeds: of contenders, to decide; training time: summed over all of them; "
        "saved: conventional − narrowed − probe; all: where it is known"
    )
    return Table("Cost", columns, texts, note)


@dataclass(frozen=True)
class WrittenAcross:
    """A report over several experiments: what it says, and its files, the page for people first."""

    found: Across
    files: tuple[Path, ...]


def write_across(found: Across, folder: Path) -> WrittenAcross:
    """Write the report over several experiments into a folder.

    Raises:
        StoreError: the folder is an experiment's own, or cannot be written.
    """
    if ExperimentFolder(folder).experiment_json.exists():
        raise StoreError(f"{folder} is the folder of an experiment; name another for the page with --out DIR")
    warning = _PARTIAL if any(row.is_partial for row in found.rows) else None
    pages = {row.run: Path(os.path.relpath(row.page, folder.absolute())).as_posix() for row in found.rows if row.page}
    headline, tables = across_headline(found), across_tables(found)
    sections = [Section(table.title, about=_ABOUT.get(table.title, ""), tables=(table,)) for table in tables]
    if pages:
        opened = sum(not section.about for section in sections)
        sections.insert(opened, Section(_PAGES, links=tuple((run, quote(page)) for run, page in pages.items())))
    markdown = [
        heading(_TITLE),
        f"> **{warning}**" if warning else "",
        bold(headline),
        bullets("Read this first", found.warnings),
        *map(table_block, tables),
        "\n".join([f"## {_PAGES}", "", *(f"- [{run}]({page})" for run, page in pages.items())]) if pages else "",
    ]
    contents = {
        "index.html": html_page(_TITLE, headline, sections, stamp=warning, notes=found.warnings),
        "index.md": joined(markdown),
        "index.json": readable_json({"version": _VERSION, **found.to_json()}) + "\n",
        "index.csv": _across_csv(found),
        "index.tex": latex_file([table for table in tables if table.title in _IN_TEX], _TITLE, [warning or ""]),
    }
    for name, content in contents.items():
        write_text(folder / name, content)
    return WrittenAcross(found, tuple(folder / name for name in contents))


def _across_csv(found: Across) -> str:
    """Return one row per experiment as CSV, "" without any; metrics in their stored unit, empty where not known."""
    rows = [row.values() for row in found.rows]
    buffer = io.StringIO()
    if rows:
        writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return buffer.getvalue()
