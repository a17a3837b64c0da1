"""`epsgrid report [RUN]...`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from epsgrid.cli.console import hint, note, print_json
from epsgrid.cli.console import out as results
from epsgrid.cli.options import RUNS, JsonOption, OutOption, QuietOption, RunsOption
from epsgrid.cli.tables import report_table, show
from epsgrid.errors import SpecError
from epsgrid.report.across import Across
from epsgrid.report.across_files import across_headline, across_tables
from epsgrid.report.rows import Comparison
from epsgrid.report.text import render
from epsgrid.stages import report as stage
from epsgrid.stages.experiment import find_run


def report(
    run: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[RUN]...",
            help="The experiment's folder or name; without it, the latest experiment. Several, as in runs/*: a page"
            " over them, in --out or beside them in report/.",
        ),
    ] = None,
    out: OutOption = None,
    runs: RunsOption = RUNS,
    paper: Annotated[
        bool, typer.Option("--paper", help="Also write the figures as PDF and PNG, for a paper; takes longer.")
    ] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Compare the narrowed grid with the conventional one and with the default ε.

    Was the optimum inside the bounds, what did it cost, what was saved. Writes report.html, one page that holds
    everything, and report.md, report.json, report.csv, report.tex and the figures into the experiment's report folder.

    Of several experiments: a row for each, what they say together about the paper's claims, and what does not compare,
    in index.html, index.md, index.json, index.csv and index.tex.
    """
    found: Across | Comparison
    if run and not stage.is_one(run):
        if paper:
            raise SpecError("--paper is for the report of one experiment; name one folder")
        across = stage.report_across(run, out)
        found, files, stamp, notes = across.found, across.files, None, across.found.warnings
        tables, headline = across_tables(across.found), across_headline(across.found)
    else:
        written = stage.report(find_run(run[0] if run else out, runs), paper=paper)
        comparison = written.comparison
        found, files = comparison, written.files
        stamp, notes = render.stamp(comparison), comparison.notes
        tables, headline = render.tables(comparison), render.headline(comparison)
    if json:
        print_json(found.to_json())
        return
    if stamp:
        results().print(stamp, style="bold red", markup=False)
    for sentence in notes:
        note(sentence)
    for table in reversed(tables):  # the most important one comes last, above the prompt
        show(*report_table(table))
    results().print(headline, style="bold", markup=False)
    page, *others = files
    if not quiet:
        hint(f"Beside it: {', '.join(path.name for path in others)}")
    show(f"Report: {page}")
