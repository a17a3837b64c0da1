"""`epsgrid probe SPEC`."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from json import dumps as json_text
from typing import Annotated, Any

import typer

from epsgrid.cli.console import hint, note, print_json
from epsgrid.cli.magnitudes import hidden_lines, probe_parts, probe_summary, shown_rows
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
from epsgrid.cli.progress import progress_shown
from epsgrid.cli.tables import report_table, show
from epsgrid.codec import to_document
from epsgrid.errors import SpecError
from epsgrid.numerics.predicting import Prediction
from epsgrid.report.batches import noise_rows, read_batches
from epsgrid.report.compare import estimates
from epsgrid.report.table import Table
from epsgrid.report.text.batches import noise_tables
from epsgrid.report.text.predictions import laws_table, predicted_kinds
from epsgrid.report.trust import kind_rows, reliability_row
from epsgrid.spec import BATCH_SIZE
from epsgrid.stages import experiment
from epsgrid.stages import probe as stage
from epsgrid.stages.experiment import Asked
from epsgrid.stages.probe import Varied
from epsgrid.stages.scale import parse_sizes
from epsgrid.store.records import ProbeRecord


def _some_batches(text: str | None) -> str | None:
    """Return the value of --batches, which is a number or a word."""
    if text is None or text == "settled" or (text.isdecimal() and int(text) > 0):
        return text
    raise SpecError(f"--batches: expected a number of batches, 1 or more, or settled, got {text!r}")


def probe(
    spec: SpecArgument,
    out: OutOption = None,
    runs: RunsOption = RUNS,
    override: OverrideOption = None,
    epochs: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Epochs to look at.  [spec: probe.epochs, 1]")
    ] = None,
    batches: Annotated[
        str | None,
        typer.Option(
            metavar="N|settled",
            callback=_some_batches,
            help="Look at N batches only, or until the bounds have settled.  [spec: probe.batches, all]",
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Probe with N seeds, to see how far the bounds depend on them.  [spec: probe.seeds, 1]",
        ),
    ] = None,
    compare_weights: Annotated[
        float | None,
        typer.Option(
            metavar="LR",
            help="Probe once more with weights that move at this rate, and say whether the bounds are the same.",
        ),
    ] = None,
    batch_sizes: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="Also measure at these batch sizes, as 32,128,512, and say whether bounds may be scaled between them;"
            " short for --vary training.batch_size=32,128,512.  [spec: probe.batch_sizes, none]",
        ),
    ] = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=LIST",
            help="Measure at these values of a number of the spec instead, as model.width=32,64,128,256. Several keys"
            " go in step: their first values together, and so on.  [spec: probe.vary, none]",
        ),
    ] = None,
    predict: Annotated[
        list[float] | None,
        typer.Option(
            metavar="N",
            help="Predict the bounds at this value of the key of --vary; given once for each key, in their order.",
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Measure again even if stored bounds fit this spec; remove what another spec left in the folder.",
        ),
    ] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Also list layers, bounds under other choices, and ε without a sweep.")
    ] = False,
    all_layers: AllLayersOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure the gradient magnitudes of the first epoch and estimate the bounds of ε.

    The optimizer runs over one epoch with the weights frozen, as published; the order statistics at 2 % and 98 % of √v̂
    in each layer give the bounds. The result is stored as bounds.json, which `sweep` reads and `report` cites. Options
    that change how it is measured override the spec and -o, which sets the rest: -o probe.update_weights=true.
    """
    given = {
        "epochs": epochs,
        "batches": batches,
        "seeds": seeds,
        "compare_weights": compare_weights,
        "batch_sizes": [] if vary else None if batch_sizes is None else list(parse_sizes(batch_sizes)),
        "vary": _varied(vary) if vary else "{}" if batch_sizes else None,
    }
    if vary and batch_sizes:
        raise SpecError(f"--batch-sizes is short for --vary {BATCH_SIZE}=...; give one of them")
    shortcuts = [f"probe.{name}={value}" for name, value in given.items() if value is not None]
    asked = experiment.resolve(spec, out, [*(override or ()), *shortcuts], runs)
    if force and (kept := experiment.vacate(asked, experiment.prepare_data(asked.spec), force=True)):
        note(f"removed from {asked.folder.root}: {kept}")
    varied = asked.spec.probe.varied
    if varied and not predict and [*varied] != [BATCH_SIZE]:
        example = " ".join(f"--predict {4 * values[-1]:g}" for values in varied.values())
        raise SpecError(f"--vary {next(iter(varied))}: say for which value to predict the bounds, as in {example}")
    if predict and not varied:
        raise SpecError("--predict: say from which sizes, as in --vary model.width=32,64,128,256")
    title = f"probe {asked.spec.experiment}" + (f" at several {', '.join(varied)}" if varied else "")
    with progress_shown(quiet=quiet) as (_, update):
        on_step = partial(update, title)
        if varied:
            found = stage.vary_probe(asked, predict, sys.argv, force=force, on_step=on_step)
        else:
            record, measured_now = stage.probe(asked, sys.argv, force=force, on_step=on_step)
    full = full or all_layers
    if varied and predict:
        record, prediction = stage.predict_at(asked, found, predict, sys.argv)
        _show_prediction(asked, found, record, prediction, full=full, all_layers=all_layers, json=json)
    elif varied:
        _show_batches(asked, found, full=full, all_layers=all_layers, json=json)
    elif json:
        print_json({**_document(asked, record), "measured_now": measured_now})
    else:
        _show(asked, record, full=full, all_layers=all_layers)
        if not measured_now:
            hint("Already measured; --force measures again.")
        hint("Next: epsgrid sweep")


def _varied(texts: Sequence[str]) -> str:
    """Return what --vary names as a value of `probe.vary`; what is no list of numbers is a SpecError."""
    found = {}
    for text in texts:
        key, _, values = text.partition("=")
        try:
            numbers = [float(value) for value in values.split(",")]
        except ValueError:
            numbers = []
        if not key or not numbers or not all(0 < number < math.inf for number in numbers):
            raise SpecError(f"--vary {text}: expected a key and numbers above 0, as in model.width=32,64,128,256")
        found[key.strip()] = numbers
    return json_text(found)


def _show(asked: Asked, record: ProbeRecord, *, full: bool, all_layers: bool) -> None:
    """Print the summary of a probe, and its tables where they are asked for."""
    show(*probe_summary(record, asked.spec.sweep))
    if full:
        show(*probe_parts(record, record.bounds().chosen(asked.spec.sweep.bounds_choice), all_layers=all_layers))


def _show_table(table: Table, *, all_layers: bool) -> None:
    """Print a table that has a row for each layer."""
    kept = shown_rows([row[0] for row in table.rows], (), all_layers=all_layers)
    show(*report_table(replace(table, rows=tuple(table.rows[row] for row in kept))))
    show(*hidden_lines(len(kept), len(table.rows)))


def _document(asked: Asked, record: ProbeRecord) -> dict[str, Any]:
    bounds = record.bounds().chosen(asked.spec.sweep.bounds_choice)
    reliability = reliability_row(bounds)
    keys = ("name", "formula", "epsilon", "decade")
    return {
        "experiment": str(asked.folder.root),
        "placement": {"description": record.placement.description, "conversion": record.placement.conversion},
        "steps": record.steps,
        "batch_size": record.batch_size,
        "seconds": record.cost_seconds,
        "data": record.data_description,
        "bounds": record.bounds_json,
        "chosen": asked.spec.sweep.bounds_choice,
        "reliability": None if reliability is None else reliability.to_json(),
        "kinds": [to_document(row) for row in kind_rows(bounds, record.placement)],
        "estimates": [{key: getattr(row, key) for key in keys} for row in estimates(bounds, record.placement)],
    }


def _show_prediction(
    asked: Asked,
    found: Varied,
    record: ProbeRecord,
    prediction: Prediction,
    *,
    full: bool,
    all_layers: bool,
    json: bool,
) -> None:
    """Print what is predicted, the answer first, or all of it as JSON."""
    default = asked.spec.sweep.default_epsilon
    measured = found.measured + found.base_is_new
    reused = len(found.record.points) * len(found.record.seeds) - measured
    if json:
        extra = {
            "predicted_at": record.predicted_at,
            "points": [found.record.written(point) for point in found.record.points],
            "seeds": list(found.record.seeds),
            "laws": [to_document(law) for law in prediction.laws],
            "groups": [to_document(group) for group in prediction.bounds.epsilon_groups(default)],
            "measured_now": measured,
            "already_measured": reused,
        }
        print_json({**_document(asked, record), **extra})
        return
    show(*probe_summary(record, asked.spec.sweep, prediction), "")
    show(*report_table(predicted_kinds(prediction, default)))
    if full:
        laws = laws_table(prediction.laws, prediction.bounds.tail_fraction, prediction.at, prediction.sizes[-1])
        _show_table(laws, all_layers=all_layers)
    hint(f"{measured} probes measured, {reused} already there (--force measures again)")
    hint("Next: epsgrid export groups --predicted (or bounds --predicted --to optuna)")


def _show_batches(asked: Asked, found: Varied, *, full: bool, all_layers: bool, json: bool) -> None:
    """Print the bounds of the spec and how they change with the batch size, or all of it as JSON."""
    folder = asked.folder
    measured = read_batches(folder)
    assert measured is not None and found.base is not None
    rows = noise_rows(measured)
    if json:
        counts = {"measured_now": found.measured, "already_measured": found.reused}
        batches = {**to_document(rows), **counts}
        print_json({**_document(asked, found.base), "measured_now": found.base_is_new, "batches": batches})
        return
    _show(asked, found.base, full=full, all_layers=all_layers)
    show("")
    for table in noise_tables(rows):
        _show_table(table, all_layers=all_layers)
    hint(
        f"{found.measured} probes measured, {found.reused} already there (--force measures again):"
        f" {folder.batch_bounds_json}"
    )
    hint("Next: epsgrid report (shows them), or epsgrid sweep --batch-sizes (trains there)")
