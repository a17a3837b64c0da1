"""`epsgrid retry WHICH...` and `epsgrid forget WHICH...`."""

from __future__ import annotations

from typing import Annotated

import typer

from epsgrid.cli.commands.sweep import train
from epsgrid.cli.console import hint, print_json
from epsgrid.cli.options import RUNS, JsonOption, OutOption, QuietOption, RunsOption, WorkersOption
from epsgrid.cli.tables import show
from epsgrid.errors import ExitCode
from epsgrid.stages import experiment, plans
from epsgrid.stages.deciding import Further
from epsgrid.stages.experiment import find_run

_WhichArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="WHICH",
        help="failed, diverged, pruned, interrupted, or ids of trials; the beginning of an id will do.",
    ),
]


def retry(
    which: _WhichArgument,
    workers: WorkersOption = None,
    out: OutOption = None,
    runs: RunsOption = RUNS,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> ExitCode | None:
    """Train chosen trials of the latest experiment again, and no others.

    Trials that failed, were interrupted or pruned continue from their checkpoint, pruned ones to their end. Trials that
    have a result, diverged or done, are moved to the experiment's folder archive/, and start over.
    """
    asked = experiment.resolve(None, out, (), runs)
    ids = plans.chosen(asked.folder, which)
    if not ids and not json:
        hint(f"Nothing to do: no trial is {' or '.join(which)}.")
        return None
    planned = plans.plan_again(asked, ids)
    for place in plans.start_over(asked.folder, ids):
        hint(f"archived: {place}")
    return train(asked, planned, Further(), workers=workers, fail_fast=False, json=json, quiet=quiet)


def forget(which: _WhichArgument, out: OutOption = None, runs: RunsOption = RUNS, json: JsonOption = False) -> None:
    """Archive chosen trials of the latest experiment, so that the next sweep trains them again.

    Their folders move to the experiment's folder archive/ and can be moved back; nothing is deleted.
    """
    folder = find_run(out, runs)
    places = plans.archive(folder, plans.chosen(folder, which))
    if json:
        print_json({"experiment": str(folder.root), "archived": [str(place) for place in places]})
        return
    show(*(f"archived: {place}" for place in places))
    hint("Next: epsgrid sweep (trains them again)" if places else "Nothing to do: nothing is stored of these trials.")
