"""`epsgrid inspect [RUN] [TRIAL]`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from epsgrid.cli import inspect_tables as tables
from epsgrid.cli.console import hint, note, print_json
from epsgrid.cli.options import RUNS, AllLayersOption, JsonOption, OutOption, QuietOption, RunArgument, RunsOption
from epsgrid.cli.tables import show
from epsgrid.codec import to_document
from epsgrid.numerics.series import Series
from epsgrid.report.figures.over_time import drift
from epsgrid.stages import inspect as stage
from epsgrid.stages.experiment import find_run
from epsgrid.stages.inspect import PROBE_AT_ITS_END, Inspected


def inspect(
    run: RunArgument = None,
    trial: Annotated[
        str | None, typer.Argument(metavar="[TRIAL]", help="A trial's id or its beginning; without it, the probe.")
    ] = None,
    out: OutOption = None,
    runs: RunsOption = RUNS,
    layer: Annotated[str | None, typer.Option(metavar="NAME", help="Show one layer in detail.")] = None,
    step: Annotated[
        list[int] | None, typer.Option(metavar="N", help="Show the histograms nearest to this step; may be repeated.")
    ] = None,
    figures: Annotated[Path | None, typer.Option(metavar="DIR", help="Write figures there, as SVG and PNG.")] = None,
    all_layers: AllLayersOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Show the stored gradient magnitudes of a probe, or of a trial over its training.

    Histograms of each layer at some steps, percentiles over time, how the bounds of epoch 1 hold later, and at a
    trial's ε the share of entries that still adapt.
    """
    seen = stage.inspect(find_run(run or out, runs), trial)
    if layer is not None:
        stage.check_layer(seen, layer)
    written = stage.write_figures(seen, figures, layer) if figures is not None else ()
    if json:
        print_json(_document(seen, layer, written))
        return
    show(*tables.parts(seen, layer, step or [], all_layers=all_layers))
    if seen.series is None or not seen.series.snapshots:
        note(PROBE_AT_ITS_END)
    for path in written:
        hint(f"Figure: {path}")
    if not quiet and seen.trial is None and seen.observed:
        hint(f"Next: epsgrid inspect {seen.folder.root} {seen.observed[0].id}")
    elif not quiet:
        hint("Next: epsgrid inspect --layer NAME, or --figures DIR")


def _document(seen: Inspected, layer: str | None, written: tuple[Path, ...]) -> dict[str, Any]:
    series, bounds = seen.series, seen.bounds
    shares = None
    if series is not None and (numbers := tables.adaptable(seen)) is not None:
        kinds = {kind: list(curve) for kind, curve in numbers.kinds.items()}
        shares = {"unit": numbers.unit, "times": list(numbers.times), "total": list(numbers.total), "kinds": kinds}
    snapshots = series.snapshots if series else ()
    return {
        "experiment": str(seen.folder.root),
        "optimizer": seen.optimizer,
        "trial": None if seen.trial is None else {**to_document(seen.trial), "state": seen.state},
        "bounds": None if bounds is None else {"low": to_document(bounds.low), "high": to_document(bounds.high)},
        "snapshots": [{"step": each.step, "epoch": each.epoch, "threshold": each.threshold} for each in snapshots],
        "fractions": list(series.fractions) if series else [],
        "layers": [_layer(seen, series, name) for name in series.names if layer in (None, name)] if series else [],
        "adaptable": shares,
        "bounds_over_time": [to_document(row) for row in drift(series, bounds)] if series else [],
        "observed_trials": [cell.id for cell in seen.observed],
        "figures": [str(path) for path in written],
    }


def _layer(seen: Inspected, series: Series, name: str) -> dict[str, Any]:
    """Return one layer: its percentiles at each snapshot, null where it has none; its adaptable share by step."""
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
    }
