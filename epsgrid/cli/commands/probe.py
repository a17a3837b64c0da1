"""`epsgrid probe SPEC`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from epsgrid.cli.options import (
    RUNS,
    AllLayersOption,
    JsonOption,
    OutOption,
    OverrideOption,
    QuietOption,
    RunsOption,
    SpecArgument,
)

if TYPE_CHECKING:
    from epsgrid.report.batch_exponents import ExponentRows, MeasuredBatches
    from epsgrid.stages.batch_probe import BatchProbeReport
    from epsgrid.stages.experiment import Asked
    from epsgrid.stages.probe import ProbeReport


def probe(
    spec: SpecArgument,
    out: OutOption = None,
    runs: RunsOption = RUNS,
    override: OverrideOption = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", metavar="N", help="Epochs to look at.  \\[spec: probe.epochs, 1]")
    ] = None,
    batches: Annotated[
        str | None,
        typer.Option(
            "--batches",
            metavar="N|settled",
            help="Look at so many batches only, or until the bounds have settled.  \\[spec: probe.batches, all]",
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            "--seeds",
            metavar="N",
            help="Probe with so many seeds, to see how far the bounds depend on them.  \\[spec: probe.seeds, 1]",
        ),
    ] = None,
    update_weights: Annotated[
        bool, typer.Option("--update-weights", help="Let the weights move, at --learning-rate.  \\[spec: frozen]")
    ] = False,
    learning_rate: Annotated[
        float | None,
        typer.Option("--learning-rate", metavar="LR", help="Rate at which weights move with --update-weights."),
    ] = None,
    compare_weights: Annotated[
        float | None,
        typer.Option(
            "--compare-weights",
            metavar="LR",
            help="Probe once more with weights that move at this rate, and say whether the bounds are the same.",
        ),
    ] = None,
    every: Annotated[
        int | None,
        typer.Option("--every", metavar="N", help="Keep the histograms of every so many steps.  \\[spec: probe.every]"),
    ] = None,
    beta2: Annotated[
        str | None,
        typer.Option("--beta2", metavar="LIST", help="Also give the bounds that other β₂ would have, as 0.9,0.99."),
    ] = None,
    batch_sizes: Annotated[
        str | None,
        typer.Option(
            "--batch-sizes",
            metavar="LIST",
            help="Also measure at these batch sizes, as 32,128,512, and say whether bounds may be carried between them."
            "  \\[spec: probe.batch_sizes, none]",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Measure again even if stored bounds fit this spec.")] = False,
    all_layers: AllLayersOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure the gradient magnitudes of the first epoch and estimate the bounds of ε.

    The optimizer runs over one epoch with the weights frozen, as published; the order statistics at 2 % and 98 % of √v̂
    in each layer give the bounds. The result is stored as bounds.json, which `sweep` reads and `report` cites. Options
    that change how it is measured win over the spec and over -o.
    """
    from epsgrid.cli.console import print_json
    from epsgrid.cli.progress import steps_shown
    from epsgrid.stages import experiment
    from epsgrid.stages import probe as stage
    from epsgrid.stages.batch_sizes import parse_sizes

    shortcuts = overrides(
        epochs=epochs,
        batches=batches,
        seeds=seeds,
        update_weights=update_weights or None,
        learning_rate=learning_rate,
        compare_weights=compare_weights,
        every=every,
        beta2=None if beta2 is None else f"[{beta2}]",
        batch_sizes=None if batch_sizes is None else str(list(parse_sizes(batch_sizes))),
    )
    asked = experiment.resolve(spec, out, [*(override or ()), *shortcuts], runs)
    if asked.spec.probe.batch_sizes:
        _at_batch_sizes(asked, force=force, all_layers=all_layers, json=json, quiet=quiet)
        return
    with steps_shown(f"probe {asked.spec.experiment}", quiet=quiet) as on_step:
        found = stage.probe(asked, sys.argv, force=force, on_step=on_step)
    if json:
        print_json(_document(found))
    else:
        _print(found, all_layers=all_layers)


def _at_batch_sizes(asked: Asked, *, force: bool, all_layers: bool, json: bool, quiet: bool) -> None:
    """Probe at several batch sizes, and print the bounds of the spec and how they move."""
    from epsgrid.cli.console import print_json
    from epsgrid.cli.progress import steps_shown
    from epsgrid.report.batch_exponents import exponent_rows, read_batches
    from epsgrid.stages.batch_probe import batch_probe

    spec = asked.spec
    with steps_shown(f"probe {spec.experiment} at {len(spec.probe.batch_sizes)} batch sizes", quiet=quiet) as on_step:
        found = batch_probe(asked, sys.argv, force=force, on_step=on_step)
    measured = read_batches(found.folder, spec.optimizer.name, clipped=spec.training.clip_norm is not None)
    assert measured is not None
    rows = exponent_rows(measured)
    if json:
        print_json(_batch_document(found, rows, measured))
    else:
        _print_batches(found, rows, all_layers=all_layers)


def overrides(**options: str | float | bool | None) -> list[str]:
    """Return the overrides of the spec that options stand for; those that were not given stand for none.

    >>> overrides(epochs=2, update_weights=True, seeds=None)
    ['probe.epochs=2', 'probe.update_weights=true']
    """
    given = {name: value for name, value in options.items() if value is not None}
    texts = {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in given.items()}
    return [f"probe.{name}={text}" for name, text in texts.items()]


def _document(found: ProbeReport) -> dict[str, Any]:
    from epsgrid.codec import to_document
    from epsgrid.report.compare import estimate_rows
    from epsgrid.report.trust import kind_rows, reliability_row

    record, bounds = found.record, found.record.bounds()
    reliability = reliability_row(bounds)
    keys = ("name", "formula", "epsilon", "decade")
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
        "reliability": None if reliability is None else to_document(reliability),
        "kinds": [to_document(row) for row in kind_rows(bounds, record.placement)],
        "estimates": [{key: getattr(row, key) for key in keys} for row in estimate_rows(bounds, record.placement)],
    }


def _batch_document(found: BatchProbeReport, rows: ExponentRows, measured: MeasuredBatches) -> dict[str, Any]:
    from epsgrid.codec import to_document
    from epsgrid.report.figures.batch_magnitudes import magnitude_numbers

    batches = to_document(rows) | {
        "measured_now": found.measured,
        "already_measured": found.reused,
        "magnitudes": to_document(magnitude_numbers(measured)),
    }
    return {**_document(found.base), "batches": batches}


def _print_batches(found: BatchProbeReport, rows: ExponentRows, *, all_layers: bool) -> None:
    from dataclasses import replace

    from epsgrid.cli import magnitude_tables
    from epsgrid.cli.console import err, out
    from epsgrid.cli.tables import report_table
    from epsgrid.report.text.batches import exponent_tables

    _print_bounds(found.base, all_layers=all_layers)
    out().print()
    for table in exponent_tables(rows):
        names = [row[0] for row in table.rows]
        kept = magnitude_tables.shown_rows(names, (), all_layers=all_layers)
        for part in report_table(replace(table, rows=tuple(table.rows[row] for row in kept))):
            out().print(part)
        for line in magnitude_tables.hidden_line(len(kept), len(names)):
            out().print(line)
    err().print(
        f"{found.measured} probes measured, {found.reused} already there (--force measures again):"
        f" {found.folder.batch_bounds_json}",
        style="dim",
    )
    err().print("Next: epsgrid report (draws them), or epsgrid sweep --batch-sizes (trains there)", style="dim")


def _print(found: ProbeReport, *, all_layers: bool) -> None:
    from epsgrid.cli.console import err

    _print_bounds(found, all_layers=all_layers)
    state = "measured" if found.measured_now else "already measured (--force measures again)"
    err().print(f"Bounds {state}: {found.folder.bounds_json}", style="dim")
    err().print("Next: epsgrid sweep", style="dim")


def _print_bounds(found: ProbeReport, *, all_layers: bool) -> None:
    from epsgrid.cli import magnitude_tables
    from epsgrid.cli.console import out

    bounds = found.record.bounds()
    for part in magnitude_tables.layers(bounds, all_layers=all_layers):
        out().print(part)
    for line in magnitude_tables.bounds_lines(found.record, bounds):
        out().print(line)
    for part in magnitude_tables.trust_parts(found.record, bounds):
        out().print(part)
