"""`epsgrid status [RUN]`."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import RenderableType
from rich.text import Text

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
        print_json(_document(folder, seen, trials=trials))
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
    lines, total = [f"{seen.name}  {folder.root}"], len(seen.cells)
    if total:
        counts = ", ".join(f"{count} {state}" for state, count in seen.states.items() if count)
        share = f"({100 * seen.finished / total:.0f} %)"
        lines.append(f"{seen.finished} of {total} trials finished {share}: {counts}")
        times = f"trained for {duration(sum(seen.seconds))}" if seen.seconds else "nothing trained yet"
        if seen.left_seconds:
            times += f"; the rest takes about {duration(seen.left_seconds)}, shared by as many as run at once"
        lines.append(times)
    else:
        lines.append(f"nothing swept yet; {'bounds are measured' if seen.probed else 'no bounds measured'}")
    parts: list[RenderableType] = [*map(Text, lines)]
    if seen.grids:
        states = [state for state in STATES if seen.states[state]]
        rows = [
            (name, str(sum(counts.values())), *(str(counts[state]) for state in states))
            for name, counts in seen.grids.items()
        ]
        parts += [Text(), table(("grid", "trials", *states), rows)]
    if seen.running:
        rows = []
        for trial in seen.running:
            scores = trial.done[-1].selecting if trial.done else None
            score = f"{scores.metric:.4g}" if scores is not None else ""
            rows.append((*setting_cells(trial.cell), f"{len(trial.done)} of {trial.epochs}", score, trial.host))
        parts += [Text(), table(("running", "lr", "epsilon", "seed", "epoch", "score", "where"), rows)]
    if seen.failures:
        parts.append(Text())
        parts += [Text(f"failed {each.id}: {each.error}\n  log: {each.log}") for each in seen.failures]
    if trials:
        rows = [(*setting_cells(cell), state, ", ".join(cell.grids)) for cell, state in seen.cells]
        parts += [Text(), table(("trial", "lr", "epsilon", "seed", "state", "grids"), rows)]
    return parts


def _document(folder: ExperimentFolder, seen: Status, *, trials: bool) -> dict[str, Any]:
    running = [
        {"id": one.cell.id, "host": one.host, "epoch": len(one.done), "epochs": one.epochs} for one in seen.running
    ]
    document = {
        "experiment": str(folder.root),
        "name": seen.name,
        "probed": seen.probed,
        "trials": len(seen.cells),
        "finished": seen.finished,
        "states": seen.states,
        "grids": seen.grids,
        "running": running,
        "failures": [{"id": failure.id, "error": failure.error, "log": failure.log} for failure in seen.failures],
        "trained_seconds": sum(seen.seconds),
        "left_seconds": seen.left_seconds,
    }
    if trials:
        keys = ("id", "learning_rate", "epsilon", "seed", "grids")
        document["all"] = [{**{key: getattr(cell, key) for key in keys}, "state": state} for cell, state in seen.cells]
    return document
