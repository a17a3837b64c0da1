"""`epsgrid report [RUN]`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from epsgrid.cli.options import RUNS, JsonOption, OutOption, QuietOption, RunsOption


def report(
    run: Annotated[
        Path | None, typer.Argument(metavar="[RUN]", help="The experiment's folder; without it, the latest experiment.")
    ] = None,
    out: OutOption = None,
    runs: RunsOption = RUNS,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Compare the narrowed grid with the conventional one and with the default ε.

    Was the optimum inside the bounds, what did it cost, what was saved. Writes report.md, report.json, report.csv and
    figures into the experiment's report folder.
    """
    from epsgrid.cli import tables
    from epsgrid.cli.console import err, print_json
    from epsgrid.cli.console import out as results
    from epsgrid.report import render
    from epsgrid.stages import experiment
    from epsgrid.stages import report as stage

    written = stage.report(experiment.find(run or out, runs))
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
