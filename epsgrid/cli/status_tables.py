"""Tables and lines of `epsgrid status`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from epsgrid.cli.tables import table
from epsgrid.selection.formatting import duration
from epsgrid.store.state import STATES

if TYPE_CHECKING:
    from rich.table import Table

    from epsgrid.spec.trial import Trial
    from epsgrid.stages.status import Status


def lines(seen: Status) -> list[str]:
    """Return the lines on top: the experiment, its trials by state, time spent and left."""
    head = f"{seen.name}  {seen.folder.root}"
    if not seen.total:
        probed = "bounds are measured" if seen.probed else "no bounds measured"
        return [head, f"nothing swept yet; {probed}"]
    counts = ", ".join(f"{count} {state}" for state, count in seen.states.items() if count)
    share = f"{seen.finished} of {seen.total} trials finished ({100 * seen.finished / seen.total:.0f} %)"
    times = f"trained for {duration(seen.trained_seconds)}" if seen.trained_seconds else "nothing trained yet"
    if seen.left_seconds:
        times += f"; the rest takes about {duration(seen.left_seconds)}, shared by as many as run at once"
    return [head, f"{share}: {counts}", times]


def grids(seen: Status) -> Table:
    """Return the table of trials by grid and state."""
    states = [state for state in STATES if seen.states[state]]
    rows = [
        (name, str(sum(counts.values())), *(str(counts[state]) for state in states))
        for name, counts in seen.grids.items()
    ]
    return table(("grid", "trials", *states), rows)


def running(seen: Status) -> Table:
    """Return the table of the trials under way."""
    rows = []
    for trial in seen.running:
        scores = trial.last.selecting if trial.last is not None else None
        metric = f"{scores.metric:.4g}" if scores is not None else ""
        rows.append((*_cell(trial.cell), f"{trial.epoch} of {trial.epochs}", metric, trial.host))
    return table(("running", "lr", "epsilon", "seed", "epoch", "score", "where"), rows)


def failures(seen: Status) -> list[str]:
    """Return two lines for each failed trial: why, and where its log is."""
    return [
        text for failure in seen.failures for text in (f"failed {failure.id}: {failure.error}", f"  log: {failure.log}")
    ]


def trials(seen: Status) -> Table:
    """Return the table of all trials."""
    rows = [(*_cell(cell), state, ", ".join(cell.grids)) for cell, state in seen.cells]
    return table(("trial", "lr", "epsilon", "seed", "state", "grids"), rows)


def _cell(cell: Trial) -> tuple[str, ...]:
    epsilon = "" if cell.epsilon is None else f"{cell.epsilon:.0e}"
    return (cell.id, f"{cell.learning_rate:g}", epsilon, str(cell.seed))
