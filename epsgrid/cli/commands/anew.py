"""`epsgrid retry WHICH...` and `epsgrid forget WHICH...`."""

from __future__ import annotations

from typing import Annotated

import typer

from epsgrid.cli.options import RUNS, JsonOption, OutOption, QuietOption, RunsOption, WorkersOption
from epsgrid.errors import ExitCode

WhichArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="WHICH...",
        help="failed, diverged, pruned, interrupted, or ids of trials; the beginning of an id will do.",
    ),
]


def retry(
    which: WhichArgument,
    workers: WorkersOption = None,
    out: OutOption = None,
    runs: RunsOption = RUNS,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> ExitCode | None:
    """Train chosen trials of the latest experiment again, and no others.

    Trials that failed, were interrupted or pruned go on from their checkpoint, pruned ones to their end. Trials that
    have a result, diverged or done, are set aside whole, in the experiment's folder archive/, and start over.
    """
    from epsgrid.cli.commands.sweep import shown
    from epsgrid.cli.console import err
    from epsgrid.stages import anew, experiment

    asked = experiment.resolve(None, out, (), runs)
    ids = anew.chosen(asked.folder, which)
    if not ids and not json:
        err().print(f"Nothing to do: no trial is {' or '.join(which)}.")
        return None
    for place in anew.start_over(asked.folder, ids):
        err().print(f"set aside: {place}", style="dim")
    again = lambda notify, stop: anew.train_again(asked, ids, workers=workers, notify=notify, stop=stop)  # noqa: E731
    return shown(asked, again, json=json, quiet=quiet)


def forget(
    which: WhichArgument,
    out: OutOption = None,
    runs: RunsOption = RUNS,
    json: JsonOption = False,
) -> None:
    """Set chosen trials of the latest experiment aside, so that the next sweep trains them anew.

    What was stored of them moves to the experiment's folder archive/ and can be moved back; nothing is deleted.
    """
    from epsgrid.cli.console import err, print_json
    from epsgrid.cli.console import out as results
    from epsgrid.stages import anew
    from epsgrid.store.latest import find

    folder = find(out, runs)
    places = anew.set_all_aside(folder, anew.chosen(folder, which))
    if json:
        print_json({"version": 1, "experiment": str(folder.root), "aside": [str(place) for place in places]})
        return
    for place in places:
        results().print(f"set aside: {place}")
    if not places:
        err().print("Nothing to do: nothing is stored of these trials.")
    else:
        err().print("Next: epsgrid sweep (trains them anew)", style="dim")
