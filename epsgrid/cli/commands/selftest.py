"""`epsgrid selftest`."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from epsgrid.cli.console import hint, print_json
from epsgrid.cli.options import JsonOption, QuietOption
from epsgrid.errors import ExitCode
from epsgrid.stages import selftest as stage


def selftest(
    folder: Annotated[
        Path, typer.Option("--dir", metavar="DIR", help="A folder on the file system to be tested.")
    ] = Path(),
    trials: Annotated[int, typer.Option(metavar="N", min=1, help="Number of trials.")] = 13,
    kills: Annotated[int, typer.Option(metavar="N", min=0, help="SIGKILLs to send to workers and driver.")] = 10,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> ExitCode | None:
    """Prove that a sweep on this machine and file system loses nothing and repeats nothing, whatever kills it.

    A sweep of short trainings on bundled digits runs twice, the second time under SIGKILLs at random moments; both must
    end with the same bits. Takes about a minute. The folders of both are kept where they do not.
    """
    folder.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="epsgrid-selftest-", dir=folder))
    found = stage.selftest(work, trials=trials, kills=kills, report=(lambda text: None) if quiet else hint)
    if json:
        print_json({"passed": found.passed, "folder": str(work), **vars(found)})
    else:
        print(f"{found.trials} trials; {found.worker_kills} workers and {found.driver_kills} drivers killed")
        if found.differing:
            print(f"NOT the same bits: {', '.join(found.differing)}")
        if found.repeated:
            print(f"trained to the end more than once: {', '.join(found.repeated)}")
        if found.passed:
            print("passed: both sweeps ended with the same bits, and no trial was trained to the end twice")
    if found.passed:
        shutil.rmtree(work)
        return None
    hint(f"Kept: {work}")
    return ExitCode.UNEXPECTED
