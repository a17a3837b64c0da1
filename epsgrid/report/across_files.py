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
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from epsgrid.errors import StoreError
from epsgrid.report.across import Across
from epsgrid.report.html.page import Section, html_page
from epsgrid.report.rows import Comparison
from epsgrid.report.table import Table
from epsgrid.report.text.latex import latex_file
from epsgrid.report.text.page import bold, bullets, heading, joined, table_block
from epsgrid.report.text.render import claims_table, tally_table
from epsgrid.report.text.searches import whole_number
from epsgrid.selection.cells import CONVENTIONAL, DEFAULT, NARROWED, REFERENCE, Cell
from epsgrid.selection.formatting import NOTHING, Metric, amounts, count, duration, power, score
from epsgrid.store.atomic import readable_json, write_bytes
from epsgrid.store.paths import ExperimentFolder


def across_headline(found: Across) -> str:
    """Return how often the default ε can stay, in a sentence."""
    answers = found.answers()
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
    rows = tuple(
        (
            row.run,
            row.comparison.metric.name if row.comparison.metric else NOTHING,
            *(text for question in ("default", "narrowing") for text in _answer(row.comparison, question)),
        )
        for row in found.rows
        if row.best(REFERENCE) is None
    )
    columns = ("run", "metric", "default ε", "loses", "narrowing", "loses")
    note = "against the best of the other settings, on test, with a lower and an upper bound"
    return Table("Answers", columns, rows, note, texts=2) if rows else None


def _answer(comparison: Comparison, question: str) -> tuple[str, str]:
    answer, metric = comparison.answers.of(question), comparison.metric
    if answer.loss is None or metric is None:
        return answer.answer, NOTHING
    mean = amounts([answer.loss.mean], metric)
    if answer.loss.n < 2:
        return answer.answer, mean
    return answer.answer, f"{mean} ({amounts([answer.loss.low, answer.loss.high], metric)})"


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
    if not found.rows:
        return None
    rows, saved_trials, saved_seconds = [], [0], [0.0]
    for row in found.rows:
        narrowed, probe = row.comparison.best_of(NARROWED), row.comparison.probe_seconds
        saved = narrowed.cost if narrowed else None
        rows.append(
            (
                *(row.run, str(row.tally.trials), str(row.unfinished), duration(row.tally.seconds)),
                NOTHING if probe is None else duration(probe),
                whole_number(saved.saved_trials if saved else None),
                duration(saved.saved_seconds) if saved and saved.saved_seconds is not None else NOTHING,
            )
        )
        if saved is not None and saved.saved_seconds is not None and saved.saved_trials is not None:
            saved_trials.append(saved.saved_trials)
            saved_seconds.append(saved.saved_seconds)
    if len(rows) > 1:
        rows.append(
            (
                "all",
                str(sum(row.tally.trials for row in found.rows)),
                str(sum(row.unfinished for row in found.rows)),
                duration(sum(row.tally.seconds for row in found.rows)),
                duration(sum(row.comparison.probe_seconds or 0.0 for row in found.rows)),
                whole_number(sum(saved_trials)),
                duration(sum(saved_seconds)),
            )
        )
    columns = ("run", "trials", "without a result", "training time", "probe", "trials saved", "time saved")
    note = "saved: conventional − narrowed − probe; all: of the runs where it is known"
    return Table("Cost", columns, tuple(rows), note)


_VERSION = 2
_TITLE, _PAGES = "Experiments side by side", "Reports of the experiments"
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
    contents = {
        "index.html": _html(found, pages, stamp),
        "index.md": _markdown(found, pages, stamp),
        "index.json": readable_json({"version": _VERSION, **found.to_json()}) + "\n",
        "index.csv": _across_csv(found),
        "index.tex": latex_file(list(across_tables(found)[:2]), _TITLE, [stamp or ""]),
    }
    for name, content in contents.items():
        write_bytes(folder / name, content.encode())
    return WrittenAcross(found, tuple(folder / name for name in contents))


def _html(found: Across, pages: Mapping[str, str], stamp: str | None) -> str:
    """Return the page.

    Args:
        found: what it says.
        pages: address of each run's own page, as seen from the folder.
        stamp: warning about part of the data; None without.
    """
    headline = across_headline(found)
    sections = [
        Section(table.title, (table,), is_open=len(table.rows) <= len(found.rows) + 1) for table in across_tables(found)
    ]
    if pages:
        sections.append(Section(_PAGES, links=tuple((run, quote(page)) for run, page in pages.items())))
    facts = [("How many", count(len(found.rows), "experiment"))]
    ratios = [ratio for row in found.rows if (ratio := row.comparison.decades_ratio) is not None]
    if ratios:
        facts.append(("Narrower, at worst", f"{min(ratios):.3g} times"))
    return html_page(
        title=_TITLE,
        headline=f"{headline[:1].upper()}{headline[1:]}",
        answer=None,
        stamp=stamp,
        facts=facts,
        sections=sections,
        notes=found.warnings,
    )


def _markdown(found: Across, pages: Mapping[str, str], stamp: str | None) -> str:
    """Return the page in Markdown; the arguments are those of `_html`."""
    blocks = [
        heading(_TITLE),
        f"> **{stamp}**" if stamp else "",
        bold(across_headline(found)),
        bullets("Read this first", found.warnings),
        *map(table_block, across_tables(found)),
        "\n".join([f"## {_PAGES}", "", *(f"- [{run}]({page})" for run, page in pages.items())]) if pages else "",
    ]
    return joined(blocks)


def _across_csv(found: Across) -> str:
    """Return one row per experiment as CSV, "" without any; metrics in their stored unit, empty where not known."""
    rows = [row.values() for row in found.rows]
    buffer = io.StringIO()
    if rows:
        writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return buffer.getvalue()
