"""`epsgrid inspect [RUN] [TRIAL]`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from epsgrid.cli.options import RUNS, AllLayersOption, JsonOption, OutOption, QuietOption, RunsOption

if TYPE_CHECKING:
    from epsgrid.numerics.series import Series, Snapshot
    from epsgrid.stages.inspect import Inspected


def inspect(
    run: Annotated[
        Path | None,
        typer.Argument(metavar="[RUN]", help="The experiment's folder or name; without it, the latest experiment."),
    ] = None,
    trial: Annotated[
        str | None,
        typer.Argument(metavar="[TRIAL]", help="A trial's id or its beginning; without it, the probe."),
    ] = None,
    out: OutOption = None,
    runs: RunsOption = RUNS,
    layer: Annotated[
        str | None, typer.Option("--layer", metavar="NAME", help="Show one layer in detail.", show_default=False)
    ] = None,
    step: Annotated[
        list[int] | None,
        typer.Option("--step", metavar="N", help="Show the histograms nearest to this step; may be repeated."),
    ] = None,
    figures: Annotated[
        Path | None,
        typer.Option("--figures", metavar="DIR", help="Write figures there, as SVG and PNG.", show_default=False),
    ] = None,
    all_layers: AllLayersOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Show what is stored of gradient magnitudes: a probe's, or a trial's over its training.

    Histograms of each layer at some steps, percentiles over time, how the bounds of epoch 1 hold later, and at a
    trial's ε the share of entries that still adapt.
    """
    from epsgrid.cli.console import err, print_json
    from epsgrid.stages import inspect as stage

    seen = stage.inspect(stage.find_run(run or out, runs), trial)
    if layer is not None:
        stage.check_layer(seen, layer)
    written = stage.write_figures(seen, figures, layer) if figures is not None else ()
    if json:
        print_json(_document(seen, layer, written))
        return
    _print(seen, layer, step or (), all_layers=all_layers)
    for path in written:
        err().print(f"Figure: {path}", style="dim")
    if not quiet:
        err().print(f"Next: {_next(seen)}", style="dim")


def _print(seen: Inspected, layer: str | None, steps: Any, *, all_layers: bool) -> None:
    from epsgrid.cli import inspect_tables as tables
    from epsgrid.cli import magnitude_tables
    from epsgrid.cli.console import err, out
    from epsgrid.stages.inspect import PROBE_AT_ITS_END

    for line in tables.head(seen):
        out().print(line)
    out().print()
    if seen.series is None or not seen.series.snapshots:
        assert seen.bounds is not None
        parts = magnitude_tables.layers(seen.bounds, all_layers=all_layers)
        err().print(f"Note: {PROBE_AT_ITS_END}", style="yellow")
    elif layer is not None:
        parts = tables.layer(seen, layer, steps)
    else:
        parts = tables.layers(seen, steps, all_layers=all_layers)
        parts += [*tables.percentiles(seen), *tables.bounds_over_time(seen), *tables.kinds(seen)]
    for part in parts:
        out().print(part)
    if seen.trial is None:
        for line in tables.observed_lines(seen):
            out().print(line)


def _next(seen: Inspected) -> str:
    if seen.trial is None and seen.observed:
        return f"epsgrid inspect {seen.folder.root} {seen.observed[0].id}"
    return "epsgrid inspect --layer NAME, or --figures DIR"


def _document(seen: Inspected, layer: str | None, written: tuple[Path, ...]) -> dict[str, Any]:
    from epsgrid.codec import to_document
    from epsgrid.report.figures.over_time import drift

    series, bounds = seen.series, seen.bounds
    ends = None if bounds is None else {"low": bounds.low.to_json(), "high": bounds.high.to_json()}
    return {
        "version": 1,
        "experiment": str(seen.folder.root),
        "optimizer": seen.optimizer,
        "trial": None if seen.trial is None else {**to_document(seen.trial.cell), "state": seen.trial.state},
        "bounds": ends,
        "snapshots": [_snapshot(each) for each in series.snapshots] if series else [],
        "fractions": list(series.fractions) if series else [],
        "layers": [_layer(seen, series, name) for name in series.names if layer in (None, name)] if series else [],
        "adaptable": _adaptable(seen),
        "bounds_over_time": [to_document(row) for row in drift(series, bounds)] if series else [],
        "observed_trials": [cell.id for cell in seen.observed],
        "figures": [str(path) for path in written],
    }


def _snapshot(snapshot: Snapshot) -> dict[str, Any]:
    return {"step": snapshot.step, "epoch": snapshot.epoch, "threshold": snapshot.threshold}


def _layer(seen: Inspected, series: Series, name: str) -> dict[str, Any]:
    """Return one layer: percentiles at each snapshot, null where it has none; its adaptable share by step."""
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


def _adaptable(seen: Inspected) -> dict[str, Any] | None:
    """Return the share of all entries that adapt, and that of each kind, at each step where it is known."""
    from epsgrid.cli.inspect_tables import adaptable
    from epsgrid.report.figures.adaptable import adaptable_by_kind

    numbers = adaptable(seen)
    if numbers is None or seen.series is None:
        return None
    times = {"unit": numbers.unit, "times": list(numbers.times), "total": list(numbers.total)}
    return {**times, "kinds": {kind: list(course) for kind, course in adaptable_by_kind(seen.series).items()}}
