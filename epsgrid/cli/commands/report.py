"""`epsgrid report [RUN]...`."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import RenderableType
from rich.table import Table as Grid
from rich.text import Text

from epsgrid.cli.console import hint, note, print_json
from epsgrid.cli.console import out as results
from epsgrid.cli.options import RUNS, JsonOption, OutOption, QuietOption, RunsOption, a_run
from epsgrid.cli.tables import report_table, show
from epsgrid.errors import SpecError
from epsgrid.report.across import across_headline, across_tables
from epsgrid.report.files import write_report
from epsgrid.report.rows import Comparison
from epsgrid.report.table import Table
from epsgrid.report.text import render
from epsgrid.selection.answers import CHANGE, KEEP
from epsgrid.selection.load import load_experiment
from epsgrid.stages import report as stage
from epsgrid.stages.experiment import find_run

_LINES = 24
_STYLES = {KEEP: "bold green", CHANGE: "bold red"}


def report(
    run: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="RUN",
            callback=lambda paths: paths if not paths or len(paths) > 1 else [a_run(paths[0])],
            help="The experiment's folder or name; without it, the latest experiment. Several, as in runs/*: a page"
            " over them, in --out or beside them in report/.",
        ),
    ] = None,
    out: OutOption = None,
    runs: RunsOption = RUNS,
    paper: Annotated[
        bool, typer.Option("--paper", help="Also write the figures as PDF and PNG, for a paper; takes longer.")
    ] = False,
    full: Annotated[bool, typer.Option("--full", help="Print all tables, too.")] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Answer what the sweep can tell: may the default ε stay, which ε are as good, did narrowing cost anything.

    Writes report.html, one page that holds everything, and report.md, report.json, report.csv, report.tex and the
    figures into the experiment's report folder.

    Of several experiments: a row for each, what they say together about the paper's claims, and what does not compare,
    in index.html, index.md, index.json, index.csv and index.tex.
    """
    if run and not stage.is_one(run):
        if paper:
            raise SpecError("--paper is for the report of one experiment; name one folder")
        across = stage.report_across(run, out)
        if json:
            print_json(across.found.to_json())
            return
        for sentence in across.found.warnings:
            note(sentence)
        _show_tables(across_tables(across.found))
        results().print(across_headline(across.found), style="bold", markup=False)
        files = across.files
    else:
        written = write_report(load_experiment(find_run(run[0] if run else out, runs)), paper=paper)
        if json:
            print_json(written.comparison.to_json())
            return
        if full:
            _show_tables(render.tables(written.comparison))
        show(*answer_lines(written.comparison, full=full))
        files = written.files
    page, *others = files
    if not quiet and full:
        hint(f"Beside it: {', '.join(path.name for path in others)}")
    show(f"Report: {page}")


def _show_tables(tables: Sequence[Table]) -> None:
    for table in reversed(tables):  # the most important one comes last, above the prompt
        show(*report_table(table))


def answer_lines(comparison: Comparison, *, full: bool = False) -> list[RenderableType]:
    """Return the answers, the default ε first; without `full` no more lines than a small screen has."""
    notes = [*filter(None, [render.stamp(comparison)]), *comparison.notes]
    rows = [*render.summary(comparison), *(("Note", text) for text in notes)]
    answer = comparison.answers.of("default")
    lines: list[RenderableType] = [Text(render.subject(comparison), style="dim")]
    lines += [Text(answer.text, style=_STYLES.get(answer.answer, "bold yellow")), Text()]
    width = max((len(title) for title, _ in rows), default=0) + 2
    room = _LINES - 4 - _height(answer.text, 0)
    for place, (title, text) in enumerate(rows):
        room -= _height(text, width)
        if room < (0 if place == len(rows) - 1 else 1) and not full:
            lines.append(Text(f"{len(rows) - place} more with --full and on the page.", style="dim"))
            break
        grid = Grid.grid(padding=0)
        grid.add_column(width=width)
        grid.add_column()
        grid.add_row(Text(title, style="bold"), Text(text))
        lines.append(grid)
    return lines


def _height(text: str, indent: int) -> int:
    """Return how many lines a text takes beside an indent."""
    return len(textwrap.wrap(text, max(min(results().width, 80) - indent, 20))) or 1
