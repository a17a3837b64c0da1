"""`epsgrid inspect [RUN] [TRIAL]`, and `epsgrid inspect FILE ...` of checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import RenderableType

from epsgrid.cli.checkpoints import inspect_files, is_checkpoint
from epsgrid.cli.console import hint, note, print_json
from epsgrid.cli.magnitudes import probe_layers, snapshot_layers
from epsgrid.cli.options import RUNS, AllLayersOption, JsonOption, OutOption, QuietOption, RunsOption, a_run
from epsgrid.cli.tables import show
from epsgrid.codec import to_document
from epsgrid.errors import ExitCode
from epsgrid.numerics.damping import Damping, pooled
from epsgrid.numerics.series import Series
from epsgrid.report.figures.over_time import dampings_of, drift, with_histograms
from epsgrid.selection.formatting import percent, power, setting
from epsgrid.spec.trial import model_label
from epsgrid.stages import inspect as stage
from epsgrid.stages.experiment import find_run
from epsgrid.stages.inspect import Inspected

_TRIALS_SHOWN = 8


def inspect(
    ctx: typer.Context,
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN TRIAL | FILE",
            help="An experiment's folder or name (default: the latest), and a trial's id or its beginning (default: the"
            " probe); or checkpoints: files or folders that have an optimizer's state.",
        ),
    ] = None,
    out: OutOption = None,
    runs: RunsOption = RUNS,
    step: Annotated[
        int | None, typer.Option(metavar="N", help="Show the histograms nearest to this step.  [default: the last]")
    ] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Of a checkpoint: its optimizer, where the file does not show it."),
    ] = None,
    epsilon: Annotated[
        float | None, typer.Option(metavar="X", min=0, help="Of a checkpoint: ε, in place of that in the file.")
    ] = None,
    betas: Annotated[
        str | None, typer.Option(metavar="A,B", help="Of a checkpoint: β₁ and β₂, in place of those in the file.")
    ] = None,
    all_layers: AllLayersOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> ExitCode:
    """Show the stored gradient magnitudes of a probe, of a trial over its training, or of checkpoints.

    Magnitudes and histogram of each layer at one step, at a trial's ε the share of entries that still adapt, and how
    far the bounds of epoch 1 have moved. Of a checkpoint, from whatever training: bounds, and what adapts at its ε; of
    several, how both moved over the steps. --out DIR then writes a page with figures there.
    """
    named = what or []
    if any(is_checkpoint(Path(each)) for each in named):
        source = ctx.get_parameter_source("out")  # EPSGRID_OUT names an experiment's folder
        asked = {"optimizer": optimizer, "epsilon": epsilon, "betas": None if betas is None else _pair(betas)}
        folder = out if source is not None and source.name == "COMMANDLINE" else None
        return inspect_files(list(map(Path, named)), asked, page_folder=folder, json=json, all_layers=all_layers)
    if len(named) > 2:
        raise typer.BadParameter(f"expected RUN and TRIAL, or checkpoints; none of {', '.join(named)} is a file")
    if optimizer or epsilon is not None or betas:
        raise typer.BadParameter("--optimizer, --epsilon and --betas are of checkpoints; name a FILE")
    run, trial = a_run(Path(named[0]) if named else None), (named[1] if len(named) > 1 else None)
    seen = stage.inspect(find_run(run or out, runs), trial)
    if json:
        print_json(_document(seen))
        return ExitCode.OK
    show(*_parts(seen, step, all_layers=all_layers))
    if seen.series is None or not seen.series.snapshots:
        note(
            "only the histograms at the probe's end are stored; `epsgrid probe SPEC --force` keeps them over its steps"
        )
    if not quiet and seen.trial is None and seen.observed:
        hint(f"Next: epsgrid inspect {seen.folder.root} {seen.observed[0].id}")
    return ExitCode.OK


def _pair(text: str) -> tuple[float, float]:
    """Return the two numbers of --betas."""
    try:
        first, second = map(float, text.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"--betas expects two numbers such as 0.9,0.999, got {text!r}") from error
    return first, second


def _parts(seen: Inspected, step: int | None, *, all_layers: bool) -> list[RenderableType]:
    """Return the lines and the table to show."""
    spec, series, trial, bounds = seen.experiment.spec, seen.series, seen.trial, seen.bounds
    shown: list[RenderableType] = [
        f"{seen.experiment.name}  {seen.folder.root}",
        f"{spec['optimizer']['name']} on {spec['task']['name']}, {model_label(spec)}",
    ]
    left = "" if trial is None or trial.grids else ", of a grid that was swept before"
    shown.append("the probe" if trial is None else f"trial {trial.id}: {setting(trial)}, {seen.state}{left}")
    if bounds is not None and trial is None and step is None:
        shown += ["", *probe_layers(bounds, all_layers=all_layers)]
    if series is not None and series.snapshots:
        moved = drift(series, bounds)
        shown += ["", f"{len(series.snapshots)} snapshots, step {series.steps[0]:,} to {series.steps[-1]:,}"]
        if bounds is None or trial is not None or step is not None:
            setters = (*moved[-1].low_layers, *moved[-1].high_layers) if moved else ()
            held = with_histograms(series) or series.snapshots
            chosen = held[-1] if step is None else min(held, key=lambda snapshot: abs(snapshot.step - step))
            epoch = "" if chosen.epoch is None else f", epoch {round(chosen.epoch, 2):g}"
            shown += [f"at step {chosen.step:,}{epoch}:", ""]
            shown += snapshot_layers(series, chosen, setters, all_layers=all_layers)
            dampings = dampings_of(series, chosen, seen.placement)
            if (total := pooled(dampings.values())) is not None:
                least = min(dampings, key=lambda name: dampings[name].mean)
                steps = f"damping: steps are {percent(total.mean)} of those at ε → 0"
                shown += ["", f"{steps}, least in {least}: {percent(dampings[least].mean)}"]
        if moved:
            ends = [f"{power(row.low)} … {power(row.high)} at step {row.step:,}" for row in (moved[0], moved[-1])]
            probed = f"; probed: {power(bounds.low.magnitude)} … {power(bounds.high.magnitude)}" if bounds else ""
            shown += ["", f"bounds of √v̂ by the published rule: {', '.join(ends)}{probed}"]
    if trial is None and seen.observed:
        shown += ["", "trials with snapshots:"]
        shown += [f"  {cell.id}  {setting(cell)}" for cell in seen.observed[:_TRIALS_SHOWN]]
        if (hidden := len(seen.observed) - _TRIALS_SHOWN) > 0:
            shown.append(f"  and {hidden} more")
    return shown


def _document(seen: Inspected) -> dict[str, Any]:
    series, bounds = seen.series, seen.bounds
    snapshots = series.snapshots if series else ()
    dampings = [dampings_of(series, each, seen.placement) for each in snapshots] if series else []
    return {
        "experiment": str(seen.folder.root),
        "optimizer": seen.experiment.spec["optimizer"]["name"],
        "trial": None if seen.trial is None else {**to_document(seen.trial), "state": seen.state},
        "bounds": None if bounds is None else {"low": to_document(bounds.low), "high": to_document(bounds.high)},
        "snapshots": [{"step": each.step, "epoch": each.epoch, "threshold": each.threshold} for each in snapshots],
        "fractions": list(series.fractions) if series else [],
        "layers": [_layer(seen, series, name, dampings) for name in series.names] if series else [],
        "bounds_over_time": [to_document(row) for row in drift(series, bounds)] if series else [],
        "observed_trials": [cell.id for cell in seen.observed],
    }


def _layer(seen: Inspected, series: Series, name: str, dampings: Sequence[dict[str, Damping]]) -> dict[str, Any]:
    """Return one layer: percentiles and damping at each snapshot, null where it has none; adaptable share by step."""
    index = series.names.index(name)
    held = [snapshot.layers[index] for snapshot in series.snapshots]
    return {
        "name": name,
        "kind": series.kinds[index],
        "entries": series.entries[index],
        "zeros": [None if one is None else one.zeros for one in held],
        "nonfinite": [None if one is None else one.nonfinite for one in held],
        "percentiles": [list(one.quantiles) if one is not None and one.quantiles else None for one in held],
        "adaptable": series.adaptable(name) if seen.trial else [],
        "damping": [each[name].mean if name in each else None for each in dampings],
    }
