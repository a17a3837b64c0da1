"""`epsgrid status [RUN]`."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import RenderableType

from epsgrid.cli.console import hint, print_json
from epsgrid.cli.options import RUNS, JsonOption, OutOption, RunArgument, RunsOption
from epsgrid.cli.tables import setting_cells, show, table
from epsgrid.selection.formatting import duration
from epsgrid.stages import status as stage
from epsgrid.stages.experiment import find_run
from epsgrid.stages.status import Status
from epsgrid.store.paths import ExperimentFolder
from epsgrid.store.state import STATES


def status(
    run: RunArgument = None,
    out: OutOption = None,
    runs: RunsOption = RUNS,
    trials: Annotated[bool, typer.Option("--trials", help="List every trial with its id and state.")] = False,
    json: JsonOption = False,
) -> None:
    """Show the state of a sweep: trials by state and grid, running, failed, time left.

    It only reads the folder, so that it may be called anywhere and at any time, also while sweeps work on it.
    """
    folder = find_run(run or out, runs)
    seen = stage.status(folder)
    if json:
        print_json(_document(folder, seen))
        return
    show(*_parts(folder, seen, trials=trials))
    then = "epsgrid report" + (", or epsgrid retry pruned" if seen.states["pruned"] else "")
    if not seen.cells:
        then = "epsgrid sweep" if seen.probed else "epsgrid probe SPEC"
    elif seen.states["failed"]:
        then = "epsgrid retry failed"
    elif seen.missing:
        then = "epsgrid sweep (trains what is missing)"
    hint(f"Next: {then}")


def _parts(folder: ExperimentFolder, seen: Status, *, trials: bool) -> list[RenderableType]:
    """Return the lines and tables to show."""
    total = len(seen.cells)
    parts: list[RenderableType] = [f"{seen.name}  {folder.root}"]
    if total:
        counts = ", ".join(f"{count} {state}" for state, count in seen.states.items() if count)
        parts.append(f"{seen.finished} of {total} trials finished ({100 * seen.finished / total:.0f} %): {counts}")
        left = f"; the rest takes about {duration(seen.left_seconds)} one by one" if seen.left_seconds else ""
        parts.append(f"trained for {duration(sum(seen.seconds))}{left}" if seen.seconds else "nothing trained yet")
    else:
        parts.append(f"nothing swept yet; {'bounds are measured' if seen.probed else 'no bounds measured'}")
    if seen.grids:
        states = [state for state in STATES if seen.states[state]]
        rows = [(name, *(str(counts[state]) for state in states)) for name, counts in seen.grids.items()]
        parts += ["", table(("grid", *states), rows)]
    if seen.running:
        rows = [(*setting_cells(one.cell), f"{one.epoch} of {one.epochs}", one.host) for one in seen.running]
        parts += ["", table(("running", "lr", "epsilon", "seed", "epoch", "where"), rows)]
    parts += [f"warning: {each}" for each in seen.changes]
    parts += [f"failed {each.id}: {each.error}\n  log: {each.log}" for each in seen.failures]
    if trials:
        rows = [(*setting_cells(cell), state, ", ".join(cell.grids)) for cell, state in seen.cells]
        parts += ["", table(("trial", "lr", "epsilon", "seed", "state", "grids"), rows)]
    return parts


def _document(folder: ExperimentFolder, seen: Status) -> dict[str, Any]:
    keys = ("id", "learning_rate", "epsilon", "seed", "grids")
    return {
        "experiment": str(folder.root),
        "name": seen.name,
        "probed": seen.probed,
        "trials": len(seen.cells),
        "finished": seen.finished,
        "states": seen.states,
        "grids": seen.grids,
        "running": [
            {"id": one.cell.id, "host": one.host, "epoch": one.epoch, "epochs": one.epochs} for one in seen.running
        ],
        "failures": [{"id": failure.id, "error": failure.error, "log": failure.log} for failure in seen.failures],
        "changes": seen.changes,
        "trained_seconds": sum(seen.seconds),
        "left_seconds": seen.left_seconds,
        "all": [{**{key: getattr(cell, key) for key in keys}, "state": state} for cell, state in seen.cells],
    }
