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
from typing import Any
from urllib.parse import quote

from epsgrid.errors import StoreError
from epsgrid.report.across import Across, AcrossRow, Best
from epsgrid.report.html.page import Section, html_page
from epsgrid.report.table import Table
from epsgrid.report.text.latex import latex_file
from epsgrid.report.text.page import bold, bullets, heading, joined, table_block
from epsgrid.report.text.render import claims_table, tally_table
from epsgrid.report.text.searches import difference_texts, whole_number
from epsgrid.selection.cells import Difference
from epsgrid.selection.formatting import NOTHING, Metric, count, duration, power, score
from epsgrid.store.atomic import readable_json, write_bytes
from epsgrid.store.paths import ExperimentFolder


def across_headline(found: Across) -> str:
    """Return how often the optimum was inside, in a sentence."""
    answers = found.answers()
    if not found.rows:
        return "There is no experiment to show."
    if not answers:
        return f"{count(len(found.rows), 'experiment')}, none of an optimizer with ε."
    texts = ", ".join(f"{answer} in {answers[answer]}" for answer in ("yes", "no", "cannot tell") if answers[answer])
    return f"optimum inside: {texts} of {count(sum(answers.values()), 'experiment')}."


def across_tables(found: Across) -> tuple[Table, ...]:
    """Return the tables that have something to show, in reading order."""
    skipped = tuple((skipped.folder, skipped.why) for skipped in found.skipped)
    made = (
        _ranges_table(found),
        _best_table(found),
        _costs_table(found),
        tally_table(found.claims),
        claims_table(found.claims),
        Table("Left out", ("folder", "why"), skipped, texts=2) if skipped else None,
    )
    return tuple(table for table in made if table is not None)


def _ranges_table(found: Across) -> Table | None:
    if not found.rows:
        return None
    rows = tuple(
        (
            row.run,
            row.task + (" (part)" if row.is_partial else ""),
            row.model,
            row.optimizer,
            NOTHING if row.reference is not None else row.answer,
            NOTHING if row.low is None else f"{power(row.low)} to {power(row.high)}",
            whole_number(row.decades_narrowed),
            whole_number(row.decades_conventional),
            NOTHING if row.decades_ratio is None else f"{row.decades_ratio:.3g} ×",
        )
        for row in found.rows
    )
    names = ("run", "task", "model", "optimizer", "optimum inside")
    columns = (*names, "bounds of ε", "decades", "conventional", "narrower")
    note = "decades: of the narrowed grid; narrower: conventional over narrowed"
    return Table("Experiments", columns, rows, note, texts=len(names))


def _best_table(found: Across) -> Table | None:
    rows = tuple(
        (
            *(row.run, row.metric.name),
            *(_best(best, row.metric) for best in (row.narrowed or row.reference, row.conventional, row.default)),
            *(_gap(gap, row.metric) for gap in (row.regret, row.gain_over_default)),
        )
        for row in found.rows
        if row.metric is not None
    )
    columns = ("run", "metric", "narrowed", "conventional", "default ε", "regret of narrowing", "gain over default ε")
    note = (
        "test metric, mean ± standard deviation, at the best ε; differences with their 95 % intervals, paired by seed"
    )
    return Table("Best settings", columns, rows, note, texts=2) if rows else None


def _best(best: Best | None, metric: Metric) -> str:
    if best is None or best.test is None:
        return NOTHING
    where = "" if best.epsilon is None else f" at {power(best.epsilon)}"
    return f"{score(best.test.mean, best.test.sd, metric)}{where}"


def _gap(gap: Difference, metric: Metric) -> str:
    if gap.mean is None:
        return NOTHING
    mean, ends = difference_texts(gap, metric)
    return f"{mean}, same setting" if gap.same_cell else mean if ends == NOTHING else f"{mean} ({ends})"


def _costs_table(found: Across) -> Table | None:
    if not found.rows:
        return None
    rows = [
        (
            row.run,
            str(row.trials),
            str(row.unfinished),
            duration(row.device_seconds),
            NOTHING if row.probe_seconds is None else duration(row.probe_seconds),
            whole_number(row.saved_trials),
            NOTHING if row.saved_seconds is None else duration(row.saved_seconds),
        )
        for row in found.rows
    ]
    known = [row for row in found.rows if row.saved_seconds is not None]
    if len(rows) > 1:
        rows.append(
            (
                "all",
                str(sum(row.trials for row in found.rows)),
                str(sum(row.unfinished for row in found.rows)),
                duration(sum(row.device_seconds for row in found.rows)),
                duration(sum(row.probe_seconds or 0.0 for row in found.rows)),
                whole_number(sum(row.saved_trials or 0 for row in known)),
                duration(sum(row.saved_seconds or 0.0 for row in known)),
            )
        )
    columns = ("run", "trials", "without a result", "training time", "probe", "trials saved", "time saved")
    note = "saved: conventional − narrowed − probe; all: of the runs where it is known"
    return Table("Cost", columns, tuple(rows), note)


_VERSION = 1
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
        "index.csv": across_csv(found),
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
    ratios = [row.decades_ratio for row in found.rows if row.decades_ratio is not None]
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


def across_csv(found: Across) -> str:
    """Return one row per experiment as CSV, "" without any; metrics in their stored unit, empty where not known."""
    rows = [_csv_row(row) for row in found.rows]
    buffer = io.StringIO()
    if rows:
        writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return buffer.getvalue()


def _csv_row(row: AcrossRow) -> dict[str, Any]:
    values: dict[str, Any] = {name: getattr(row, name) for name in ("run", "task", "model", "optimizer")}
    values["partial_data"] = str(row.is_partial).lower()
    values["selection"] = row.selection
    values["metric"] = row.metric.name if row.metric else None
    values |= {name: getattr(row, name) for name in ("answer", "low", "high")}
    values |= {f"decades_{name}": getattr(row, f"decades_{name}") for name in ("narrowed", "conventional", "ratio")}
    for name, best in (("narrowed", row.narrowed), ("conventional", row.conventional), ("default", row.default)):
        test = best.test if best else None
        values[f"{name}_epsilon"] = best.epsilon if best else None
        values |= {f"{name}_test": None, f"{name}_sd": None, f"{name}_seeds": None}
        if test is not None:
            values |= {f"{name}_test": test.mean, f"{name}_sd": test.sd, f"{name}_seeds": test.n}
    values["reference_test"] = row.reference.test.mean if row.reference and row.reference.test else None
    for name, gap in (("regret", row.regret), ("gain_over_default", row.gain_over_default)):
        values |= {name: gap.mean, f"{name}_low": gap.low, f"{name}_high": gap.high}
    spent = ("trials", "unfinished", "device_seconds", "probe_seconds", "saved_trials", "saved_seconds")
    return values | {name: getattr(row, name) for name in spent}
