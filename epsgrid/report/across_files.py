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
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from epsgrid.errors import StoreError
from epsgrid.report.across import Across, AcrossRow, Best, relative
from epsgrid.report.html.page import Section, html_page
from epsgrid.report.text.across import across_headline, across_tables
from epsgrid.report.text.latex import latex_file
from epsgrid.report.text.page import bold, bullets, heading, joined, table_block
from epsgrid.report.words import count
from epsgrid.store.atomic import readable_json, write_bytes
from epsgrid.store.paths import ExperimentFolder

VERSION = 1
TITLE = "Experiments side by side"
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
    contents = {
        "index.html": _html(found, folder),
        "index.md": _markdown(found, folder),
        "index.json": readable_json({"version": VERSION, **found.to_json()}) + "\n",
        "index.csv": across_csv(found),
        "index.tex": latex_file(list(across_tables(found)[:2]), TITLE, [_stamp(found) or ""]),
    }
    for name, content in contents.items():
        write_bytes(folder / name, content.encode())
    return WrittenAcross(found, tuple(folder / name for name in contents))


def _stamp(found: Across) -> str | None:
    return _PARTIAL if any(row.is_partial for row in found.rows) else None


def _html(found: Across, folder: Path) -> str:
    tables, headline = across_tables(found), across_headline(found)
    per_experiment = len(found.rows) + 1
    sections = [Section(table.title, (table,), is_open=len(table.rows) <= per_experiment) for table in tables]
    facts = [("How many", count(len(found.rows), "experiment"))]
    ratios = [row.decades_ratio for row in found.rows if row.decades_ratio is not None]
    if ratios:
        facts.append(("Narrower, at worst", f"{min(ratios):.3g} times"))
    return html_page(
        title=TITLE,
        headline=f"{headline[:1].upper()}{headline[1:]}",
        answer=None,
        stamp=_stamp(found),
        facts=facts,
        sections=[*sections, *_pages(found, folder)],
        notes=found.warnings,
    )


def _markdown(found: Across, folder: Path) -> str:
    links = [f"- [{row.run}]({relative(row.page, folder)})" for row in found.rows if row.page is not None]
    blocks = [
        heading(TITLE),
        f"> **{stamp}**" if (stamp := _stamp(found)) else "",
        bold(across_headline(found)),
        bullets("Read this first", found.warnings),
        *map(table_block, across_tables(found)),
        "\n".join(["## Reports of the experiments", "", *links]) if links else "",
    ]
    return joined(blocks)


def _pages(found: Across, folder: Path) -> tuple[Section, ...]:
    links = tuple((row.run, quote(relative(row.page, folder))) for row in found.rows if row.page is not None)
    return (Section("Reports of the experiments", links=links),) if links else ()


def across_csv(found: Across) -> str:
    """Return one row per experiment as CSV; metrics in their stored unit, empty where not known."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(_CSV_COLUMNS), lineterminator="\n")
    writer.writeheader()
    writer.writerows(dict(zip(_CSV_COLUMNS, _values(row), strict=True)) for row in found.rows)
    return buffer.getvalue()


_CSV_COLUMNS = (
    "run",
    "task",
    "model",
    "optimizer",
    "partial_data",
    "selection",
    "metric",
    "answer",
    "low",
    "high",
    "decades_narrowed",
    "decades_conventional",
    "decades_ratio",
    *(
        f"{name}_{what}"
        for name in ("narrowed", "conventional", "default")
        for what in ("epsilon", "test", "sd", "seeds")
    ),
    "reference_test",
    *(f"{name}{end}" for name in ("regret", "gain_over_default") for end in ("", "_low", "_high")),
    "trials",
    "unfinished",
    "device_seconds",
    "probe_seconds",
    "saved_trials",
    "saved_seconds",
)


def _values(row: AcrossRow) -> list[Any]:
    bests = [value for best in (row.narrowed, row.conventional, row.default) for value in _best(best)]
    gaps = [value for gap in (row.regret, row.gain_over_default) for value in (gap.mean, gap.low, gap.high)]
    return [
        row.run,
        row.task,
        row.model,
        row.optimizer,
        str(row.is_partial).lower(),
        row.selection,
        row.metric.name if row.metric else None,
        row.answer,
        row.low,
        row.high,
        row.decades_narrowed,
        row.decades_conventional,
        row.decades_ratio,
        *bests,
        _best(row.reference)[1],
        *gaps,
        row.trials,
        row.unfinished,
        row.device_seconds,
        row.probe_seconds,
        row.saved_trials,
        row.saved_seconds,
    ]


def _best(best: Best | None) -> tuple[Any, ...]:
    if best is None:
        return (None, None, None, None)
    test = best.test
    return (best.epsilon, *((test.mean, test.sd, test.n) if test else (None, None, None)))
