"""`epsgrid sweep [SPEC]`."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from epsgrid.cli.options import (
    RUNS,
    JsonOption,
    OptionalSpecArgument,
    OutOption,
    OverrideOption,
    QuietOption,
    RunsOption,
    WorkersOption,
)
from epsgrid.errors import ExitCode

if TYPE_CHECKING:
    from epsgrid.stages.experiment import Asked
    from epsgrid.stages.sweep import GridChoice, SweepPlan, SweepSummary


class Grid(StrEnum):
    """The choices of --grid."""

    narrowed = "narrowed"
    conventional = "conventional"
    both = "both"
    default = "default"


def sweep(
    spec: OptionalSpecArgument = None,
    grid: Annotated[
        Grid | None,
        typer.Option("--grid", help="Which ε values to train.  \\[default: the spec's sweep.grid]", show_default=False),
    ] = None,
    workers: WorkersOption = None,
    out: OutOption = None,
    runs: RunsOption = RUNS,
    override: OverrideOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Print what would be trained and what it may cost; write nothing.")
    ] = False,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast/--keep-going", help="Start nothing more after the first failed trial.")
    ] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> ExitCode | None:
    """Train every (learning rate, ε, seed) of the grid that has no result yet.

    Run it again at any time: finished trials are not repeated, interrupted ones go on exactly where they were, failed
    ones are tried again. Several sweeps may share one folder.
    """
    from epsgrid.stages import experiment
    from epsgrid.stages import sweep as stage

    asked = experiment.resolve(spec, out, override or (), runs)
    choice: GridChoice = grid.value if grid else asked.spec.sweep.grid
    if dry_run:
        _show_plan(stage.plan_sweep(asked, choice, workers), json=json)
        return None
    return train(asked, choice, workers=workers, fail_fast=fail_fast, json=json, quiet=quiet)


def train(
    asked: Asked,
    choice: GridChoice,
    *,
    workers: int | None,
    fail_fast: bool,
    json: bool,
    quiet: bool,
    only: Collection[str] | None = None,
) -> ExitCode | None:
    """Sweep with its progress shown, print how it ended, and return the command's exit code."""
    from epsgrid.cli.console import err, print_json
    from epsgrid.cli.progress import sweep_shown
    from epsgrid.cli.signals import Stop
    from epsgrid.stages import sweep as stage

    say = lambda text: err().print(text)  # noqa: E731
    with Stop(say) as stop, sweep_shown(asked.folder, quiet=quiet) as notify:
        summary = stage.sweep(asked, choice, workers=workers, fail_fast=fail_fast, notify=notify, stop=stop, only=only)
    if json:
        print_json(_summary_document(summary))
    else:
        _print_summary(summary)
    return stop.exit_code if not summary.complete and stop.exit_code else _exit_code(summary)


def _exit_code(summary: SweepSummary) -> ExitCode:
    return ExitCode.OK if summary.complete else ExitCode.TRIALS_FAILED


def _show_plan(planned: SweepPlan, *, json: bool) -> None:
    from epsgrid.cli import tables
    from epsgrid.cli.console import err, out, print_json

    if json:
        print_json(_plan_document(planned))
        return
    for sentence in planned.unknown:
        err().print(f"Note: {sentence}", style="yellow")
    out().print(tables.plan(planned))
    for line in tables.plan_lines(planned):
        out().print(line)


def _plan_document(planned: SweepPlan) -> dict[str, Any]:
    return {
        "version": 1,
        "grids": {name: list(values) for name, values in planned.plan.epsilons.items()},
        "trials": len(planned.states),
        "finished": len(planned.states) - planned.to_run,
        "to_run": planned.to_run,
        "workers": planned.slots,
        "estimated_seconds": planned.estimated_seconds,
        "unknown": list(planned.unknown),
    }


def _summary_document(summary: SweepSummary) -> dict[str, Any]:
    return {
        "version": 1,
        "experiment": str(summary.folder.root),
        "complete": summary.complete,
        "states": summary.counts,
        "trained_now": summary.trained,
        "seconds": summary.seconds,
        "failures": [{"id": failure.id, "error": failure.error, "log": failure.log} for failure in summary.failures],
    }


def _print_summary(summary: SweepSummary) -> None:
    from epsgrid.cli import tables
    from epsgrid.cli.console import err, out

    for line in tables.summary_lines(summary):
        out().print(line)
    hint = "epsgrid report" if summary.complete else "epsgrid sweep (the same command trains what is missing)"
    err().print(f"Next: {hint}", style="dim")
