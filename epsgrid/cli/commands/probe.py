"""`epsgrid probe SPEC`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from epsgrid.cli.options import RUNS, JsonOption, OutOption, OverrideOption, QuietOption, RunsOption, SpecArgument

if TYPE_CHECKING:
    from epsgrid.stages.probe import ProbeReport


def probe(
    spec: SpecArgument,
    out: OutOption = None,
    runs: RunsOption = RUNS,
    override: OverrideOption = None,
    force: Annotated[bool, typer.Option("--force", help="Measure again even if stored bounds fit this spec.")] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure the gradient magnitudes of the first epoch and estimate the bounds of ε.

    The optimizer runs over one epoch with the weights frozen, as published; the order statistics at 2 % and 98 % of √v̂
    in each layer give the bounds. The result is stored as bounds.json, which `sweep` reads and `report` cites.
    """
    from epsgrid.cli.console import print_json
    from epsgrid.cli.progress import steps_shown
    from epsgrid.stages import experiment
    from epsgrid.stages import probe as stage

    asked = experiment.resolve(spec, out, override or (), runs)
    with steps_shown(f"probe {asked.spec.experiment}", quiet=quiet) as on_step:
        found = stage.probe(asked, sys.argv, force=force, on_step=on_step)
    if json:
        print_json(_document(found))
    else:
        _print(found)


def _document(found: ProbeReport) -> dict[str, Any]:
    record = found.record
    return {
        "version": 1,
        "experiment": str(found.folder.root),
        "measured_now": found.measured_now,
        "placement": {"description": record.placement.description, "conversion": record.placement.conversion},
        "steps": record.steps,
        "batch_size": record.batch_size,
        "seconds": record.cost_seconds,
        "data": record.data_description,
        "bounds": record.bounds_json,
    }


def _print(found: ProbeReport) -> None:
    from epsgrid.cli import tables
    from epsgrid.cli.console import err, out

    bounds = found.record.bounds()
    out().print(tables.layers(bounds))
    for line in tables.bounds_lines(found.record, bounds):
        out().print(line)
    state = "measured" if found.measured_now else "already measured (--force measures again)"
    err().print(f"Bounds {state}: {found.folder.bounds_json}", style="dim")
    err().print("Next: epsgrid sweep", style="dim")
