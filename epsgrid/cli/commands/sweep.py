"""`epsgrid sweep [SPEC]`."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer

from epsgrid.cli.console import hint, note, print_json
from epsgrid.cli.console import out as results
from epsgrid.cli.options import (
    RUNS,
    HalfLifeOption,
    JsonOption,
    OptionalSpecArgument,
    OutOption,
    OverrideOption,
    QuietOption,
    RunsOption,
    WorkersOption,
    positive,
)
from epsgrid.cli.progress import plan_lines, sweep_with_progress
from epsgrid.cli.tables import show, table
from epsgrid.errors import ExitCode, SpecError
from epsgrid.selection.answers import NOT_ASKED, NOT_FINISHED, OPEN
from epsgrid.selection.deciding import MAX_FRESH_SEEDS, QUESTIONS
from epsgrid.selection.formatting import duration, power
from epsgrid.stages import deciding, experiment, plans
from epsgrid.stages.deciding import Further, Preview
from epsgrid.stages.experiment import Asked
from epsgrid.stages.scale import parse_sizes
from epsgrid.stages.sweep import GridChoice, Planned

_ASKS = {"default": "May the default ε stay? ", "narrowing": "Did narrowing cost anything? "}
"""What an answer that decides nothing is the answer to; one that decides says so itself."""


def sweep(
    spec: OptionalSpecArgument = None,
    grid: Annotated[
        GridChoice | None, typer.Option(help="Which ε values to train.  [default: the spec's sweep.grid]")
    ] = None,
    workers: WorkersOption = None,
    address: Annotated[
        str | None,
        typer.Option(
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
            metavar="LIST",
            help="Instead of a grid, train one setting at these batch sizes, as 64,256, scaled by each of --rules.",
        ),
    ] = None,
    rules: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="With --batch-sizes: some of sqrt, sqrt-keep-epsilon, linear, none.  [default: sqrt,linear,none]",
        ),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            metavar="LR",
            callback=positive,
            help="With --batch-sizes: learning rate of the setting.  [default: the best of the narrowed grid]",
        ),
    ] = None,
    epsilon: Annotated[
        float | None,
        typer.Option(
            metavar="EPS",
            callback=positive,
            help="With --batch-sizes: ε of the setting.  [default: that of the best of the narrowed grid]",
        ),
    ] = None,
    half_life: HalfLifeOption = False,
    extend_rates: Annotated[
        bool,
        typer.Option(
            "--extend-rates",
            help="Where the best learning rate of a compared ε is at an edge, train those beyond, up to four.",
        ),
    ] = False,
    until_decided: Annotated[
        bool,
        typer.Option(
            "--until-decided", help="After the grid, train fresh seeds where they decide; end with the answer."
        ),
    ] = False,
    max_seeds: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help=f"With --until-decided: fresh seeds at most.  [default: {MAX_FRESH_SEEDS}]"
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Remove what another spec has left in the folder.")] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> ExitCode | None:
    """Train every (learning rate, ε, seed) of the grid that has no result yet.

    Run it again at any time: finished trials are not repeated, interrupted ones continue exactly where they were,
    failed ones are tried again. Several sweeps may share one folder.

    With --batch-sizes it trains one setting at several batch sizes instead, scaled by each rule, at the same number of
    epochs and with the same seeds; `report` shows which rule keeps the curve of training.

    With --until-decided it goes on after the grid, with fresh seeds of the few settings that can answer whether the
    default ε costs anything, and whether the narrowed grid does. It looks at planned moments and ends with the answer.
    """
    further = Further(extend_rates, until_decided, max_seeds)
    options = {"rules": rules, "learning_rate": learning_rate, "epsilon": epsilon, "half_life": half_life}
    _check_together(grid, batch_sizes, further, **options)
    flags = []
    if address is not None:
        if not re.fullmatch(r"(\[[\w:.]+\]|[^\s:/\[\]]+):\d{1,5}", address):
            raise SpecError(
                f"--address: expected HOST:PORT of a Ray cluster's head, such as 10.0.0.1:6379, got {address!r}"
            )
        flags = ["execution.executor=ray", f"execution.ray.address='{address}'"]
    asked = experiment.resolve(spec, out, [*(override or ()), *flags], runs)
    if force and (kept := experiment.vacate(asked, experiment.prepare_data(asked.spec), force=True, dry_run=dry_run)):
        note(f"{'would be removed' if dry_run else 'removed'} from {asked.folder.root}: {kept}")
    what: GridChoice | Planned = grid or asked.spec.sweep.grid
    if batch_sizes is not None:
        sizes, chosen = parse_sizes(batch_sizes), plans.parse_rules(rules or "sqrt,linear,none")
        what = plans.plan_batches(asked, sizes, chosen, learning_rate, epsilon, half_life=half_life)
    if dry_run:
        _show_plan(deciding.preview(asked, what, further, workers), json=json)
        return None
    for sentence in what.notes if isinstance(what, Planned) and not quiet else ():
        note(sentence)
    return train(asked, what, further, workers=workers, fail_fast=fail_fast, json=json, quiet=quiet)


def _check_together(grid: GridChoice | None, batch_sizes: str | None, further: Further, **only_batches: Any) -> None:
    """Refuse options that do not go together; `only_batches` are used with --batch-sizes."""
    of_grids = {"--grid": grid, "--extend-rates": further.extend_rates, "--until-decided": further.until_decided}
    for name, value in of_grids.items():
        if batch_sizes is not None and value:
            raise SpecError(
                f"{name} and --batch-sizes: the one trains a grid, the other one setting; ask for one of them"
            )
    if further.max_seeds is not None and not further.until_decided:
        raise SpecError("--max-seeds: only used with --until-decided")
    given = [f"--{name.replace('_', '-')}" for name, value in only_batches.items() if value not in (None, False)]
    if batch_sizes is None and given:
        raise SpecError(f"{' and '.join(given)}: only used with --batch-sizes; a grid's values come from the spec")


def train(
    asked: Asked,
    what: GridChoice | Planned,
    further: Further,
    *,
    workers: int | None,
    fail_fast: bool,
    json: bool,
    quiet: bool,
) -> ExitCode | None:
    """Sweep with its progress shown, print how it ended, and return the command's exit code."""
    summary, stopped = sweep_with_progress(asked, what, further, workers=workers, fail_fast=fail_fast, quiet=quiet)
    asked_questions = (
        [each for each in summary.answers.answers if each.question in QUESTIONS] if summary.answers else []
    )
    if json:
        failures = [{"id": each.id, "error": each.error, "log": each.log} for each in summary.failures]
        document = {
            "experiment": str(asked.folder.root),
            "complete": summary.complete,
            "states": summary.counts,
            "trained_now": summary.trained,
            "seconds": summary.seconds,
            "failures": failures,
            "answers": {each.question: {"answer": each.answer, "text": each.text} for each in asked_questions},
            "ended": summary.why,
        }
        print_json(document)
    else:
        states = ", ".join(f"{count} {state}" for state, count in summary.counts.items())
        trained = f"{summary.trained} trained now in {duration(summary.seconds)}"
        results().print(f"{len(summary.states)} trials: {states}; {trained}")
        for failure in summary.failures:
            results().print(f"failed {failure.id}: {failure.error}\n  log: {failure.log}", markup=False)
        for each in asked_questions:
            if each.answer != NOT_ASKED or each.question == "default":
                asks = _ASKS[each.question] if each.answer in (OPEN, NOT_FINISHED) else ""
                results().print(f"{asks}{each.text}", style="bold", markup=False)
        if summary.why:
            results().print(summary.why, markup=False)
        then = "epsgrid report" if summary.complete else "epsgrid sweep (the same command trains what is missing)"
        hint(f"Next: {then}")
    if summary.complete:
        return ExitCode.OK
    return stopped or ExitCode.TRIALS_FAILED


def _show_plan(preview: Preview, *, json: bool) -> None:
    planned = preview.grids
    if json:
        document = {
            "grids": {name: list(values) for name, values in planned.plan.epsilons.items()},
            "trials": len(planned.states),
            "finished": len(planned.states) - planned.to_run,
            "to_run": planned.to_run,
            "at_least": preview.at_least,
            "at_most": preview.at_most,
            "workers": planned.slots,
            "estimated_seconds": planned.estimated_seconds,
            "unknown": list(planned.unknown),
            "warnings": list(planned.warnings),
        }
        print_json(document)
        return
    for sentence in planned.unknown:
        note(sentence)
    rows = []
    for name, epsilons in planned.plan.epsilons.items():
        members = [trial for trial in planned.plan.trials if name in trial.grids]
        finished = sum(planned.states[trial.id] in planned.settled for trial in members)
        shown = f"{power(epsilons[0])} … {power(epsilons[-1])}" if epsilons else "no epsilon"
        rows.append((name, shown, *map(str, (len(epsilons), len(members), finished, len(members) - finished))))
    lines = plan_lines(planned)
    if preview.parts:
        parts = "".join(f", up to {part}" for part in preview.parts)
        whole = f"at least {preview.at_least} and at most {preview.at_most} trainings"
        lines.append(f"{whole}: {planned.to_run} of the grid{parts}" if preview.at_most else "nothing is left to train")
    show(table(("grid", "epsilon", "values", "trials", "finished", "to run"), rows, (0, 1)), *lines)
