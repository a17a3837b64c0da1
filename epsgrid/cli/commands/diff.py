"""`epsgrid diff RUN_A RUN_B`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from epsgrid.cli.options import RUNS, JsonOption, RunsOption


def diff(
    a: Annotated[Path, typer.Argument(metavar="RUN_A", help="An experiment's folder or name.")],
    b: Annotated[Path, typer.Argument(metavar="RUN_B", help="Another's.")],
    runs: RunsOption = RUNS,
    json: JsonOption = False,
) -> None:
    """Explain what differs between two experiments.

    Spec, field by field; data, versions and hardware; bounds and the layers that moved most; the best settings, with
    the difference over common seeds; costs. Both may be unfinished.
    """
    from epsgrid.cli.console import err, out, print_json
    from epsgrid.cli.tables import report_table
    from epsgrid.codec import to_document
    from epsgrid.report.text import diff as render_diff
    from epsgrid.stages import diff as stage
    from epsgrid.stages.inspect import find_run

    found = stage.diff(find_run(a, runs), find_run(b, runs))
    if json:
        print_json({"version": 1, "differing": list(found.differing), **to_document(found)})
        return
    for note in found.notes:
        err().print(f"Note: {note}", style="yellow")
    out().print(f"A: {found.a}")
    out().print(f"B: {found.b}\n")
    for table in render_diff.tables(found):
        for part in report_table(table):
            out().print(part)
    out().print(render_diff.headline(found), style="bold")
