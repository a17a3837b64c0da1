"""Tables and lines that the subcommands print; boxes in a terminal, plain columns elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from epsgrid.cli.console import out
from epsgrid.report.words import duration
from epsgrid.store.state import FINISHED

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from epsgrid.grids._plan import PlannedTrial
    from epsgrid.report.table import Table as ReportTable
    from epsgrid.stages.sweep import SweepPlan, SweepSummary, TrialEnded
    from epsgrid.store.records import EpochRecord, Scores

_TITLE_STYLES = {
    "Reliability: firm": "bold green",
    "Reliability: soft": "bold yellow",
    "Reliability: not to be trusted": "bold red",
}


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1, last: int = 0) -> Table:
    """Return a table whose first `left` and last `last` columns are text and the others numbers."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    terminal = out().is_terminal
    made = Table(
        box=box.SIMPLE_HEAD if terminal else None,
        pad_edge=False,
        show_edge=False,
        header_style="bold",
    )
    for index, column in enumerate(columns):
        is_text = index < left or index >= len(columns) - last
        made.add_column(Text(column), justify="left" if is_text else "right", overflow="fold")
    for row in rows:
        made.add_row(*(Text(cell) for cell in row))
    return made


def plan(planned: SweepPlan) -> Table:
    """Return the table of a dry run: one row per grid."""
    rows = []
    for name, epsilons in planned.plan.epsilons.items():
        members = [trial for trial in planned.plan.trials if name in trial.grids]
        finished = sum(planned.states[trial.id] in FINISHED for trial in members)
        shown = f"{epsilons[0]:.0e} … {epsilons[-1]:.0e}" if epsilons else "no epsilon"
        rows.append((name, shown, str(len(epsilons)), str(len(members)), str(finished), str(len(members) - finished)))
    return table(("grid", "epsilon", "values", "trials", "finished", "to run"), rows, left=2)


def plan_lines(planned: SweepPlan) -> list[str]:
    """Return the lines that say what a sweep will do."""
    total, to_run = len(planned.states), planned.to_run
    workers = f"{planned.slots} worker{'s' * (planned.slots > 1)}"
    line = f"{total} trials: {total - to_run} finished, {to_run} to run on {workers}"
    interrupted, failed = planned.count("interrupted"), planned.count("failed")
    if interrupted:
        line += f"; {interrupted} of them go on from a checkpoint"
    if failed:
        line += f"; {failed} of them failed before and are tried again"
    if planned.estimated_seconds:
        line += f"; about {duration(planned.estimated_seconds)}"
    return [line]


def trial_label(trial: PlannedTrial) -> str:
    """Return how a trial is called in a line: id and settings."""
    epsilon = "" if trial.epsilon is None else f" epsilon {trial.epsilon:.0e}"
    return f"{trial.id} lr {trial.learning_rate:g}{epsilon} seed {trial.seed}"


def ended_lines(event: TrialEnded) -> list[str]:
    """Return the lines that tell how a trial ended; of a failed one also where its log is."""
    label = f"{event.state} {trial_label(event.trial)}"
    if event.result is not None:
        split = "validation" if event.result.validation is not None else "test"
        scores = scores_text(event.result.selecting, event.result.metric_name, event.result.metric_unit)
        why = f": {event.result.reason}" if event.result.reason else f": {split} {scores}"
        return [f"{label}{why} in {duration(event.result.seconds)}"]
    if event.failure is not None:
        return [f"{label}: {event.failure.error}", f"  log: {event.failure.log}"]
    return [label]


def scores_text(scores: Scores | None, name: str, unit: str) -> str:
    """Return a metric as text, in percent where it is a fraction."""
    if scores is None:
        return "no score"
    return f"{name} {100 * scores.metric:.2f} %" if unit == "%" else f"{name} {scores.metric:.4g}"


def running_row(trial: PlannedTrial, last: EpochRecord | None, seconds: float) -> tuple[str, ...]:
    """Return a row of the live table."""
    metric = f"{last.selecting.metric:.4g}" if last is not None and last.selecting is not None else ""
    epoch = str(last.epoch) if last is not None else ""
    epsilon = "" if trial.epsilon is None else f"{trial.epsilon:.0e}"
    return (trial.id, f"{trial.learning_rate:g}", epsilon, str(trial.seed), epoch, metric, duration(seconds))


def summary_lines(summary: SweepSummary) -> list[str]:
    """Return the lines that end a sweep: states of all trials, and every failure once more."""
    states = ", ".join(f"{count} {state}" for state, count in summary.counts.items())
    lines = [f"{len(summary.states)} trials: {states}; {summary.trained} trained now in {duration(summary.seconds)}"]
    for failure in summary.failures:
        lines += [f"failed {failure.id}: {failure.error}", f"  log: {failure.log}"]
    return lines


def report_table(made: ReportTable) -> list[RenderableType]:
    """Return a table of the report: title, points, rows, the note below them and an empty line."""
    from rich.text import Text

    parts: list[RenderableType] = [Text(made.title, style=_TITLE_STYLES.get(made.title, "bold"))]
    parts += [Text(f"  • {point}") for point in made.points]
    if made.rows:
        parts.append(table(made.columns, made.rows, left=made.texts))
    if made.note:
        parts.append(Text(made.note, style="dim"))
    return [*parts, Text()]
