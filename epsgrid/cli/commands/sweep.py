"""`epsgrid sweep [SPEC]`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
    from epsgrid.executors import StopRequest
    from epsgrid.stages.batch_sweep import BatchRequest
    from epsgrid.stages.experiment import Asked
    from epsgrid.stages.running import SweepEvent, SweepPlan, SweepSummary
    from epsgrid.stages.sweep import GridChoice


class Grid(StrEnum):
    """The choices of --grid."""

    narrowed = "narrowed"
    conventional = "conventional"
    both = "both"
    default = "default"


class LrMode(StrEnum):
    """The choices of --lr-mode."""

    fixed = "fixed"
    effective = "effective"


def sweep(
    spec: OptionalSpecArgument = None,
    grid: Annotated[
        Grid | None,
        typer.Option("--grid", help="Which ε values to train.  \\[default: the spec's sweep.grid]", show_default=False),
    ] = None,
    lr_mode: Annotated[
        LrMode | None,
        typer.Option(
            "--lr-mode",
            help="fixed: train with the grid's learning rates. effective: with those that keep the step where ε is "
            "large.  \\[default: the spec's sweep.lr_mode]",
            show_default=False,
        ),
    ] = None,
    workers: WorkersOption = None,
    address: Annotated[
        str | None,
        typer.Option(
            "--address",
            metavar="HOST:PORT",
            help="Run the trials on the Ray cluster there: short for -o execution.executor=ray and its ray.address.",
        ),
    ] = None,
    out: OutOption = None,
    runs: RunsOption = RUNS,
    override: OverrideOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Print what would be trained and what it may cost; write nothing.")
    ] = False,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast/--keep-going", help="Start nothing more after the first failed trial.")
    ] = False,
    batch_sizes: Annotated[
        str | None,
        typer.Option(
            "--batch-sizes",
            metavar="LIST",
            help="Instead of a grid, train one setting at these batch sizes, as 64,256, carried by each of --rules.",
        ),
    ] = None,
    rules: Annotated[
        str | None,
        typer.Option(
            "--rules",
            metavar="LIST",
            help="With --batch-sizes: some of sqrt, sqrt-keep-epsilon, linear, none.  \\[default: sqrt,linear,none]",
        ),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            "--learning-rate",
            metavar="LR",
            help="With --batch-sizes: of the setting that is carried.  \\[default: the best of the narrowed grid]",
        ),
    ] = None,
    epsilon: Annotated[
        float | None,
        typer.Option("--epsilon", metavar="EPS", help="With --batch-sizes: likewise, the optimizer's own ε."),
    ] = None,
    half_life: Annotated[
        bool,
        typer.Option("--half-life", help="With --batch-sizes: scale decays as β^κ, which has no largest batch size."),
    ] = False,
    confirm: Annotated[
        int | None,
        typer.Option(
            "--confirm",
            metavar="N",
            min=1,
            help="Instead of a grid, train each grid's winner and the default ε on N seeds that chose nothing.",
        ),
    ] = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> ExitCode | None:
    """Train every (learning rate, ε, seed) of the grid that has no result yet.

    Run it again at any time: finished trials are not repeated, interrupted ones go on exactly where they were, failed
    ones are tried again. Several sweeps may share one folder.

    With --batch-sizes it trains one setting at several batch sizes instead, carried there by each scaling rule, at the
    same number of epochs and with the same seeds; `report` shows the gap of each rule to the base batch. With
    --confirm it trains the winners of the sweep again, on fresh seeds, and `report` shows what is left of their lead.
    """
    from epsgrid.stages import experiment
    from epsgrid.stages import sweep as stage

    flags = [f"sweep.lr_mode={lr_mode.value}"] if lr_mode else []
    asked = experiment.resolve(spec, out, [*(override or ()), *flags], runs)
    if address is not None:
        asked = stage.on_ray(asked, address)
    if confirm is not None:
        _refuse_with_confirm(grid, batch_sizes)
        return _confirm(asked, confirm, _How(workers, dry_run, fail_fast, json, quiet))
    if batch_sizes is not None:
        request = _request(batch_sizes, rules, learning_rate, epsilon, half_life=half_life, grid=grid)
        return _over_batches(asked, request, _How(workers, dry_run, fail_fast, json, quiet))
    _need_batch_sizes(rules=rules, learning_rate=learning_rate, epsilon=epsilon, half_life=half_life or None)
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
) -> ExitCode | None:
    """Sweep with its progress shown, print how it ended, and return the command's exit code."""
    from epsgrid.stages import sweep as stage

    return shown(
        asked,
        lambda notify, stop: stage.sweep(asked, choice, workers=workers, fail_fast=fail_fast, notify=notify, stop=stop),
        json=json,
        quiet=quiet,
    )


@dataclass(frozen=True)
class _How:
    """The options that say how trials are trained and shown, whichever they are."""

    workers: int | None
    dry_run: bool
    fail_fast: bool
    json: bool
    quiet: bool


def _over_batches(asked: Asked, request: BatchRequest, how: _How) -> ExitCode | None:
    """Carry a setting to several batch sizes and train it there, or show what that would be."""
    from epsgrid.stages import batch_sweep as stage

    planned = stage.plan_batches(asked, request)

    def work(notify: Callable[[SweepEvent], None], stop: StopRequest) -> SweepSummary:
        return stage.sweep_batches(
            asked, planned, workers=how.workers, fail_fast=how.fail_fast, notify=notify, stop=stop
        )

    return _planned(asked, planned.notes, lambda: stage.with_trial_states(asked, planned, how.workers), work, how)


def _confirm(asked: Asked, seeds: int, how: _How) -> ExitCode | None:
    """Train the winners on fresh seeds, or show what that would be."""
    from epsgrid.stages import confirm as stage

    planned = stage.plan_confirm(asked, seeds)

    def work(notify: Callable[[SweepEvent], None], stop: StopRequest) -> SweepSummary:
        return stage.confirm(asked, planned, workers=how.workers, fail_fast=how.fail_fast, notify=notify, stop=stop)

    return _planned(asked, planned.notes, lambda: stage.with_trial_states(asked, planned, how.workers), work, how)


def _planned(
    asked: Asked,
    notes: Sequence[str],
    states: Callable[[], SweepPlan],
    work: Callable[[Callable[[SweepEvent], None], StopRequest], SweepSummary],
    how: _How,
) -> ExitCode | None:
    """Train what is planned already, its notes told first; or show what that would be."""
    from epsgrid.cli.console import err

    if how.dry_run:
        _show_plan(states(), json=how.json)
        return None
    for sentence in notes if not how.quiet else ():
        err().print(f"Note: {sentence}", style="yellow")
    return shown(asked, work, json=how.json, quiet=how.quiet)


def _refuse_with_confirm(grid: Grid | None, batch_sizes: str | None) -> None:
    """Refuse what asks for other trials than those of the winners."""
    from epsgrid.errors import SpecError

    for name, value in (("--grid", grid), ("--batch-sizes", batch_sizes)):
        if value is not None:
            raise SpecError(f"--confirm and {name}: the one trains the winners of what was swept; ask for one of them")


def _request(
    sizes: str, rules: str | None, learning_rate: float | None, epsilon: float | None, *, half_life: bool, grid: Any
) -> BatchRequest:
    """Return what the options of --batch-sizes ask for."""
    from epsgrid.errors import SpecError
    from epsgrid.stages.batch_sizes import parse_sizes
    from epsgrid.stages.batch_sweep import BatchRequest, parse_rules

    if grid is not None:
        raise SpecError("--grid and --batch-sizes: the one trains a grid, the other one setting; ask for one of them")
    for name, value in (("--learning-rate", learning_rate), ("--epsilon", epsilon)):
        if value is not None and not 0 < value < math.inf:
            raise SpecError(f"{name}: expected a positive finite number, got {value:g}")
    return BatchRequest(
        parse_sizes(sizes), parse_rules(rules or "sqrt,linear,none"), learning_rate, epsilon, half_life=half_life
    )


def _need_batch_sizes(**options: Any) -> None:
    """Refuse options that say nothing without --batch-sizes."""
    from epsgrid.errors import SpecError

    given = [f"--{name.replace('_', '-')}" for name, value in options.items() if value is not None]
    if given:
        raise SpecError(f"{' and '.join(given)}: only used with --batch-sizes; a grid's values come from the spec")


def shown(
    asked: Asked,
    work: Callable[[Callable[[SweepEvent], None], StopRequest], SweepSummary],
    *,
    json: bool,
    quiet: bool,
) -> ExitCode | None:
    """Sweep with its progress shown, print how it ended, and return the command's exit code."""
    from epsgrid.cli.console import err, print_json
    from epsgrid.cli.progress import sweep_shown
    from epsgrid.cli.signals import Stop

    say = lambda text: err().print(text)  # noqa: E731
    with Stop(say) as stop, sweep_shown(asked.folder, quiet=quiet) as notify:
        summary = work(notify, stop)
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
        "warnings": list(planned.warnings),
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
