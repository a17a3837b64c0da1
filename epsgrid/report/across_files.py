"""Write the folder of several experiments: one page for people, the same as text, and rows for programs.

index.html    the page
index.md      the same in plain text
index.json    everything, versioned
index.csv     one row per experiment
index.tex     the tables that a paper would show
"""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from epsgrid.errors import StoreError
from epsgrid.grids import CONVENTIONAL, DEFAULT, NARROWED, REFERENCE
from epsgrid.report.across import Across
from epsgrid.report.html.page import Section, html_page
from epsgrid.report.rows import Comparison
from epsgrid.report.table import Table
from epsgrid.report.text.latex import latex_file
from epsgrid.report.text.page import bold, bullets, heading, joined, table_block
from epsgrid.report.text.render import claims_table, tally_table
from epsgrid.report.text.searches import whole_number
from epsgrid.selection.cells import Cell
from epsgrid.selection.formatting import NOTHING, Metric, amounts, count, duration, power, score
from epsgrid.store.atomic import readable_json, write_bytes
from epsgrid.store.paths import ExperimentFolder


def across_headline(found: Across) -> str:
    """Return how often the default ε can stay, in a sentence."""
    answers = Counter(row.comparison.answers.of("default").answer for row in found.rows if row.best(REFERENCE) is None)
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
        _answers_table(found),
        _runs_table(found),
        _costs_table(found),
        tally_table(found.claims),
        claims_table(found.claims),
        Table("Left out", ("folder", "why"), skipped, texts=2) if skipped else None,
    )
    return tuple(table for table in made if table is not None)


def _answers_table(found: Across) -> Table | None:
    rows = []
    for row in found.rows:
        answers, metric = row.comparison.answers, row.comparison.metric
        if row.best(REFERENCE) is not None:
            continue
        margin = NOTHING if metric is None or answers.margin is None else amounts([answers.margin], metric)
        texts = [text for question in ("default", "narrowing") for text in _answer(row.comparison, question)]
        rows.append((row.run, *texts, margin, str(answers.seeds)))
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


def _costs_table(found: Across) -> Table | None:
    """Return what each run cost and saved; with several runs, also of all of them together."""
    if not found.rows:
        return None
    spent: dict[str, list[Any]] = {}
    for row in found.rows:
        trained = (row.tally.trials, row.unfinished, row.tally.seconds)
        spent[row.run] = [*trained, row.comparison.probe_seconds, *row.saved]
    if len(found.rows) > 1:
        spent["all"] = [sum(own or 0 for own in column) for column in zip(*spent.values(), strict=True)]
    formats = (whole_number, whole_number, duration, duration, whole_number, duration)
    texts = tuple(
        (run, *(NOTHING if own is None else write(own) for write, own in zip(formats, row, strict=True)))
        for run, row in spent.items()
    )
    columns = ("run", "trainings", "without a result", "training time", "probe", "trainings saved", "time saved")
    note = "training time: summed over all trainings; saved: conventional − narrowed − probe; all: where it is known"
    return Table("Cost", columns, texts, note)


_VERSION = 2
_TITLE, _PAGES = "Experiments side by side", "Reports of the experiments"
_ABOUT = {
    "Experiments": "bounds, and the test metric at the best settings",
    "Cost": "trainings, training time, and what the narrowed grids save",
    "Claims at a glance": "in how many runs each claim of the paper was reproduced",
    "Claims of the paper": "what each run, and all together, say about them",
    "Left out": "folders without a row, and why",
}
"""What is inside each table but the first, which stands open."""
_PARTIAL = "PART OF THE DATA OR MADE-UP DATA in some rows: their scores do not compare with published ones."


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
    stamp = _PARTIAL if any(row.is_partial for row in found.rows) else None
    pages = {row.run: Path(os.path.relpath(row.page, folder.absolute())).as_posix() for row in found.rows if row.page}
    headline, tables = across_headline(found), across_tables(found)
    sections = [
        Section(table.title, about=_ABOUT[table.title] if place else "", tables=(table,))
        for place, table in enumerate(tables)
    ]
    if pages:
        sections.insert(1, Section(_PAGES, links=tuple((run, quote(page)) for run, page in pages.items())))
    markdown = [
        heading(_TITLE),
        f"> **{stamp}**" if stamp else "",
        bold(headline),
        bullets("Read this first", found.warnings),
        *map(table_block, tables),
        "\n".join([f"## {_PAGES}", "", *(f"- [{run}]({page})" for run, page in pages.items())]) if pages else "",
    ]
    contents = {
        "index.html": html_page(_TITLE, headline, sections, stamp=stamp, notes=found.warnings),
        "index.md": joined(markdown),
        "index.json": readable_json({"version": _VERSION, **found.to_json()}) + "\n",
        "index.csv": _across_csv(found),
        "index.tex": latex_file(tables[:2], _TITLE, [stamp or ""]),
    }
    for name, content in contents.items():
        write_bytes(folder / name, content.encode())
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
