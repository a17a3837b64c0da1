"""`epsgrid selftest`."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from epsgrid.cli.console import err, hint, out, print_json
from epsgrid.cli.options import JsonOption, QuietOption
from epsgrid.errors import ExitCode
from epsgrid.selection.formatting import duration
from epsgrid.stages import selftest as stage


def selftest(
    kill: Annotated[
        bool, typer.Option("--kill", help="Kill workers and driver at random moments; without it nothing is killed.")
    ] = False,
    folder: Annotated[
        Path, typer.Option("--dir", metavar="DIR", help="A folder on the file system to be tested.")
    ] = Path(),
    trials: Annotated[int, typer.Option(min=1, help="Number of trials.")] = 13,
    kills: Annotated[int, typer.Option(min=1, help="SIGKILLs to send, with --kill.")] = 10,
    seed: Annotated[int, typer.Option(help="Seed of the moments and victims.")] = 0,
    keep: Annotated[bool, typer.Option("--keep", help="Keep both sweeps' folders, also if all went well.")] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> ExitCode | None:
    """Prove that a sweep on this machine and file system loses nothing and repeats nothing, whatever kills it.

    A sweep of short trainings on bundled digits runs twice, the second time under SIGKILLs; both must end with the same
    bits. Takes about a minute.
    """
    folder.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="epsgrid-selftest-", dir=folder))
    report = (lambda text: None) if quiet else hint
    found = stage.selftest(work, trials=trials, kills=kills if kill else 0, seed=seed, report=report)
    if json:
        print_json({"passed": found.passed, "folder": str(work), **vars(found)})
    else:
        out().print(
            f"{found.trials} trials; {found.worker_kills} workers and {found.driver_kills} drivers killed;"
            f" {duration(found.seconds_whole)} undisturbed, {duration(found.seconds_killed)} with kills"
        )
        if found.differing:
            out().print(f"NOT the same bits: {', '.join(found.differing)}", style="bold red")
        if found.repeated:
            out().print(f"trained to the end more than once: {', '.join(found.repeated)}", style="bold red")
        if found.passed:
            out().print("passed: both sweeps ended with the same bits, and no trial was trained to the end twice")
    if found.passed and not keep:
        shutil.rmtree(work)
    else:
        err().print(f"Kept: {work}", markup=False)
    return None if found.passed else ExitCode.UNEXPECTED
