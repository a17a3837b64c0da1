"""`epsgrid status [RUN]`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from epsgrid.cli.options import RUNS, JsonOption, OutOption, RunsOption

if TYPE_CHECKING:
    from rich.console import RenderableType

    from epsgrid.stages.status import Status


def status(
    run: Annotated[
        Path | None, typer.Argument(metavar="[RUN]", help="The experiment's folder; without it, the latest experiment.")
    ] = None,
    out: OutOption = None,
    runs: RunsOption = RUNS,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Look again and again, until no trial is running; Ctrl-C ends it.")
    ] = False,
    interval: Annotated[
        float, typer.Option("--interval", min=0.1, metavar="SECONDS", help="Time between two looks with --watch.")
    ] = 5.0,
    trials: Annotated[bool, typer.Option("--trials", help="List every trial with its id and state.")] = False,
    json: JsonOption = False,
) -> None:
    """Tell how a sweep stands: trials by state and grid, what is running where, what failed, time left.

    Reads the folder only, so it may be asked anywhere and at any time, also while sweeps are at work on it.
    """
    from epsgrid.cli.console import print_json
    from epsgrid.stages import status as stage
    from epsgrid.store.latest import find

    folder = find(run or out, runs)
    if json:
        print_json(_document(stage.status(folder), trials=trials))
    elif watch:
        _watch(lambda: stage.status(folder), interval, trials=trials)
    else:
        _print(stage.status(folder), trials=trials)


def _watch(look: Any, interval: float, *, trials: bool) -> None:
    """Show the status in place in a terminal, one after another elsewhere, until nothing runs."""
    from epsgrid.cli.console import out

    seen = look()
    if not out().is_terminal:
        _print(seen, trials=trials)
        while seen.running:
            time.sleep(interval)
            seen = look()
            out().print()
            _print(seen, trials=trials)
        return
    from rich.console import Group
    from rich.live import Live

    with Live(Group(*_parts(seen, trials=trials)), console=out(), auto_refresh=False) as live:
        while seen.running:
            time.sleep(interval)
            seen = look()
            live.update(Group(*_parts(seen, trials=trials)), refresh=True)


def _print(seen: Status, *, trials: bool) -> None:
    from epsgrid.cli.console import err, out

    for part in _parts(seen, trials=trials):
        out().print(part)
    err().print(f"Next: {_next(seen)}", style="dim")


def _parts(seen: Status, *, trials: bool) -> list[RenderableType]:
    from rich.text import Text

    from epsgrid.cli import status_tables

    parts: list[RenderableType] = [Text(line) for line in status_tables.lines(seen)]
    if seen.grids:
        parts += [Text(), status_tables.grids(seen)]
    if seen.running:
        parts += [Text(), status_tables.running(seen)]
    if seen.failures:
        parts += [Text(), *(Text(line) for line in status_tables.failures(seen))]
    if trials:
        parts += [Text(), status_tables.trials(seen)]
    return parts


def _next(seen: Status) -> str:
    if not seen.total:
        return "epsgrid sweep" if seen.probed else "epsgrid probe SPEC"
    if seen.states["failed"]:
        return "epsgrid retry failed"
    if seen.missing:
        return "epsgrid sweep (trains what is missing)"
    return "epsgrid report" + (", or epsgrid retry pruned" if seen.states["pruned"] else "")


def _document(seen: Status, *, trials: bool) -> dict[str, Any]:
    document: dict[str, Any] = {
        "version": 1,
        "experiment": str(seen.folder.root),
        "name": seen.name,
        "probed": seen.probed,
        "trials": seen.total,
        "finished": seen.finished,
        "states": dict(seen.states),
        "grids": {name: dict(states) for name, states in seen.grids.items()},
        "running": [
            {"id": trial.cell.id, "host": trial.host, "epoch": trial.epoch, "epochs": trial.epochs}
            for trial in seen.running
        ],
        "failures": [{"id": failure.id, "error": failure.error, "log": failure.log} for failure in seen.failures],
        "trained_seconds": seen.trained_seconds,
        "left_seconds": seen.left_seconds,
    }
    if trials:
        document["all"] = [
            {
                "id": cell.id,
                "state": state,
                "learning_rate": cell.learning_rate,
                "epsilon": cell.epsilon,
                "seed": cell.seed,
                "grids": list(cell.grids),
            }
            for cell, state in seen.cells
        ]
    return document
