"""Tables and lines that the subcommands print; boxes in a terminal, plain columns elsewhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from epsgrid.cli.console import out
from epsgrid.report.words import duration

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from epsgrid.grids._plan import PlannedTrial
    from epsgrid.report.table import Table as ReportTable
    from epsgrid.stages.running import SweepPlan, SweepSummary, TrialEnded
    from epsgrid.store.records import EpochRecord, Scores, TrialResult

_TITLE_STYLES = {
    "Reliability: high": "bold green",
    "Reliability: medium": "bold yellow",
    "Reliability: low": "bold red",
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
        finished = sum(planned.states[trial.id] in planned.settled for trial in members)
        shown = f"{epsilons[0]:.0e} … {epsilons[-1]:.0e}" if epsilons else "no epsilon"
        rows.append((name, shown, str(len(epsilons)), str(len(members)), str(finished), str(len(members) - finished)))
    return table(("grid", "epsilon", "values", "trials", "finished", "to run"), rows, left=2)


def plan_lines(planned: SweepPlan) -> list[str]:
    """Return the lines that say what a sweep will do."""
    total, to_run = len(planned.states), planned.to_run
    workers = f"{planned.slots} worker{'s' * (planned.slots > 1)}"
    pruned = planned.count("pruned") if "pruned" in planned.settled else 0
    line = f"{total} trials: {total - to_run - pruned} finished, {to_run} to run on {workers}"
    interrupted, failed = planned.count("interrupted"), planned.count("failed")
    if pruned:
        line += f"; {pruned} were pruned and are left so"
    elif planned.count("pruned"):
        line += f"; {planned.count('pruned')} of them were pruned and are trained to their end"
    if interrupted:
        line += f"; {interrupted} of them go on from a checkpoint"
    if failed:
        line += f"; {failed} of them failed before and are tried again"
    if planned.estimated_seconds:
        line += f"; about {duration(planned.estimated_seconds)}"
    return [line, *planned.extending, *(f"warning: {text}" for text in planned.warnings)]


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
    if event.pruning is not None:
        return [f"{label} after epoch {event.pruning.epochs_trained} of {event.pruning.epochs}: {event.pruning.why}"]
    if event.failure is not None:
        return [f"{label}: {event.failure.error}", f"  log: {event.failure.log}"]
    return [label]


def scores_text(scores: Scores | None, name: str, unit: str) -> str:
    """Return a metric as text, in percent where it is a fraction."""
    if scores is None:
        return "no score"
    return f"{name} {100 * scores.metric:.2f} %" if unit == "%" else f"{name} {scores.metric:.4g}"


RUNNING_COLUMNS = ("trial", "lr", "epsilon", "seed", "epoch", "score", "curve", "time", "left")


def running_row(trial: PlannedTrial, epochs: Sequence[EpochRecord], curve: str, seconds: float) -> tuple[str, ...]:
    """Return a row of the live table, of `RUNNING_COLUMNS`.

    Args:
        trial: which.
        epochs: those it has trained.
        curve: their scores as a line of text.
        seconds: since it was started or went on.
    """
    of = trial.identity["training"]["epochs"]
    last = epochs[-1].selecting if epochs else None
    metric = f"{last.metric:.4g}" if last is not None else ""
    left = sum(epoch.seconds for epoch in epochs) / len(epochs) * (of - len(epochs)) if epochs else None
    return (
        trial.id,
        f"{trial.learning_rate:g}",
        "" if trial.epsilon is None else f"{trial.epsilon:.0e}",
        str(trial.seed),
        f"{len(epochs)}/{of}",
        metric,
        curve,
        duration(seconds),
        "" if left is None else duration(left),
    )


BEST_COLUMNS = ("best so far", "lr", "score", "trials")


def best_rows(results: Sequence[tuple[PlannedTrial, TrialResult]]) -> list[tuple[str, ...]]:
    """Return, for each ε that has a score, the best single trial so far; rising in ε, of `BEST_COLUMNS`.

    Args:
        results: trials that are done or diverged; a diverged one counts as a trial and is never best.
    """
    by_epsilon: dict[float, list[tuple[PlannedTrial, TrialResult]]] = {}
    for trial, result in results:
        by_epsilon.setdefault(trial.epsilon or 0.0, []).append((trial, result))
    return [_best_row(epsilon, by_epsilon[epsilon]) for epsilon in sorted(by_epsilon)]


def _best_row(epsilon: float, results: Sequence[tuple[PlannedTrial, TrialResult]]) -> tuple[str, ...]:
    name = f"epsilon {epsilon:.0e}" if epsilon else "no epsilon"
    scored = [(trial, result, scores.metric) for trial, result in results if (scores := _finite(result)) is not None]
    if not scored:
        return (name, "", "diverged", str(len(results)))
    sign = 1 if scored[0][1].metric_direction == "max" else -1
    trial, result, _ = max(scored, key=lambda entry: sign * entry[2])
    score = scores_text(result.selecting, result.metric_name, result.metric_unit)
    return (name, f"{trial.grid_rate:g}", score, str(len(results)))


def _finite(result: TrialResult) -> Scores | None:
    scores = result.selecting if result.state == "done" else None
    return scores if scores is not None and math.isfinite(scores.metric) else None


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
