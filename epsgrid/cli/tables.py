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
    from epsgrid.numerics.bounds import EpsilonBounds
    from epsgrid.numerics.magnitudes import Bound, LayerStatistics
    from epsgrid.report.render import Table as ReportTable
    from epsgrid.stages.sweep import SweepPlan, SweepSummary, TrialEnded
    from epsgrid.store.records import EpochRecord, ProbeRecord, Scores

_NAMES_SHOWN = 3


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str | None = None, left: int = 1) -> Table:
    """Return a table whose first `left` columns are text and the others numbers."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    terminal = out().is_terminal
    made = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD if terminal else None,
        pad_edge=False,
        show_edge=False,
        header_style="bold",
    )
    for index, column in enumerate(columns):
        made.add_column(column, justify="left" if index < left else "right", overflow="fold")
    for row in rows:
        made.add_row(*(Text(cell) for cell in row))
    return made


def layers(bounds: EpsilonBounds) -> Table:
    """Return the table of a probe: one row per layer, the layers that set a bound marked."""
    rows = [(*_layer_row(layer), _mark(layer.name, bounds)) for layer in bounds.layers]
    low, high = f"{bounds.tail_fraction:.3g}", f"{1 - bounds.tail_fraction:.3g}"
    columns = ("layer", "shape", "entries", "non-zero", f"√v̂ at {low}", "median", f"at {high}", "sets")
    return table(columns, rows, left=2)


def _layer_row(layer: LayerStatistics) -> tuple[str, ...]:
    shape = "×".join(map(str, layer.shape)) or "scalar"
    head = (layer.name, shape, f"{layer.entries:,}", f"{layer.nonzero:,}")
    if layer.low is None or layer.high is None:
        return (*head, str(layer.status), "", "")
    median = layer.histogram.quantile(0.5) if layer.histogram is not None else None
    return (*head, f"{layer.low:.3g}", f"{median:.3g}" if median is not None else "", f"{layer.high:.3g}")


def _mark(name: str, bounds: EpsilonBounds) -> str:
    ends = [end for end, bound in (("low", bounds.low), ("high", bounds.high)) if name in bound.layers]
    return ", ".join(ends)


def bounds_lines(record: ProbeRecord, bounds: EpsilonBounds) -> list[str]:
    """Return the lines under a probe's table: the bounds, who sets them, what was left out, what it cost."""
    lines = [
        "",
        f"ε bounds: {bounds.low.decade:.0e} … {bounds.high.decade:.0e}  ({len(bounds.decades)} decades)",
        f"  low   {_bound_line(bounds.low)}",
        f"  high  {_bound_line(bounds.high)}",
        f"ε enters {record.placement.description}; {record.placement.conversion}",
    ]
    if bounds.skipped:
        lines.append("left out: " + "; ".join(f"{layer.name} ({layer.status})" for layer in bounds.skipped))
    data = f"{record.steps} batches of {record.batch_size}; {record.data_description}"
    return [*lines, f"{data}; {duration(record.cost_seconds)}"]


def _bound_line(bound: Bound) -> str:
    names = ", ".join(bound.layers[:_NAMES_SHOWN])
    if len(bound.layers) > _NAMES_SHOWN:
        names += f" and {len(bound.layers) - _NAMES_SHOWN} more"
    entries = f"{bound.entries:,} non-zero {'entry' if bound.entries == 1 else 'entries'}"
    return f"ε = {bound.epsilon:.3g} from √v̂ = {bound.magnitude:.3g}, set by {names} ({entries})"


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
    """Return a table of the report, its note below it and an empty line."""
    from rich.text import Text

    parts: list[RenderableType] = [table(made.columns, made.rows, title=made.title)]
    if made.note:
        parts.append(Text(made.note, style="dim"))
    return [*parts, Text()]
