"""`epsgrid report [RUN]...`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from epsgrid.cli.options import RUNS, JsonOption, OutOption, QuietOption, RunsOption


def report(
    run: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[RUN]...",
            help="The experiment's folder; without it, the latest experiment. Several, as in runs/*: a page over them, "
            "in --out or beside them in report/.",
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
    from epsgrid.cli import tables
    from epsgrid.cli.console import err, print_json
    from epsgrid.cli.console import out as results
    from epsgrid.report.text import render
    from epsgrid.stages import report as stage
    from epsgrid.store.latest import find

    if run and not stage.is_one(run):
        _report_across(run, out, paper=paper, json=json, quiet=quiet)
        return
    folder = find(run[0] if run else out, runs)
    written = stage.report(folder, paper=paper)
    if json:
        print_json({"version": 1, **written.comparison.to_json()})
        return
    if stamp := render.stamp(written.comparison):
        results().print(stamp, style="bold red")
    for note in written.comparison.notes:
        err().print(f"Note: {note}", style="yellow")
    for table in reversed(render.tables(written.comparison)):  # what matters most stands last, above the prompt
        for part in tables.report_table(table):
            results().print(part)
    results().print(render.headline(written.comparison), style="bold")
    page, *others = written.files
    if not quiet:
        err().print(f"Beside it: {', '.join(path.name for path in others)}", style="dim")
    results().print(f"Report: {page}")


def _report_across(runs: list[Path], out: Path | None, *, paper: bool, json: bool, quiet: bool) -> None:
    """Write and print the page over several experiments."""
    from epsgrid.cli import tables
    from epsgrid.cli.console import err, print_json
    from epsgrid.cli.console import out as results
    from epsgrid.errors import SpecError
    from epsgrid.report.text.across import across_headline, across_tables
    from epsgrid.stages import report as stage

    if paper:
        raise SpecError("--paper is for the report of one experiment; name one folder")
    written = stage.report_across(runs, out)
    if json:
        print_json({"version": 1, **written.found.to_json()})
        return
    for warning in written.found.warnings:
        err().print(f"Note: {warning}", style="yellow")
    for table in reversed(across_tables(written.found)):
        for part in tables.report_table(table):
            results().print(part)
    results().print(across_headline(written.found), style="bold")
    page, *others = written.files
    if not quiet:
        err().print(f"Beside it: {', '.join(path.name for path in others)}", style="dim")
    results().print(f"Report: {page}")
