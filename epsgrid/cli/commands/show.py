"""`epsgrid show SPEC` and `epsgrid list [FAMILY]`."""

from __future__ import annotations

import inspect
import math
import sys
from typing import Annotated, Literal

import typer

from epsgrid import optimizers, plugins
from epsgrid.cli.console import print_json
from epsgrid.cli.options import JsonOption, OverrideOption, SpecArgument
from epsgrid.cli.tables import show as show_parts
from epsgrid.cli.tables import table
from epsgrid.spec.loading import load_spec
from epsgrid.spec.writing import spec_to_yaml

_FAMILIES = ("tasks", "models", "optimizers", "grids", "executors")


def show(spec: SpecArgument, override: OverrideOption = None, json: JsonOption = False) -> None:
    """Print the effective spec: every default filled in, every override applied."""
    loaded = load_spec(spec, override or ())
    if json:
        print_json({"spec": loaded.model_dump(mode="json")})
    else:
        sys.stdout.write(spec_to_yaml(loaded))


def list_plugins(
    family: Annotated[
        Literal["tasks", "models", "optimizers", "grids", "executors", "machine"] | None,
        typer.Argument(help="List only these."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """List the names a spec may use: tasks, models, optimizers, grids, executors; or what this machine trains on.

    Of optimizers alone it also lists where each adds its ε, the magnitude that ε is compared with there, and the ε for
    a bound b.
    """
    if family == "machine":
        _list_machine(json)
        return
    found: dict[str, dict[str, str]] = {}
    for each in [family] if family else _FAMILIES:
        plugged = {name: inspect.getdoc(plugins.load(each, name)) or "" for name in plugins.names(each)}
        found[each] = {name: doc.partition("\n")[0] for name, doc in plugged.items()}
    placements: dict[str, dict[str, str] | None] = {}
    for name in found["optimizers"] if family == "optimizers" else ():
        plugin = optimizers.load(name)
        placements[name] = None
        if plugin.HAS_EPSILON:
            place = plugin.placement(plugin.Options(name=name), math.inf)
            placements[name] = {
                "compared_with": place.compared_with,
                "epsilon": place.formula,
                "denominator": place.symbol,
                "where": place.where,
            }
    if json:
        print_json({**found, **({"placements": placements} if placements else {})})
    elif placements:
        columns = ("optimizer", "compared with", "ε for a bound b", "denominator", "where ε enters")
        rows = [(name, *(place.values() if place else ("", "", "", "no ε"))) for name, place in placements.items()]
        show_parts(table(columns, rows, range(len(columns))))
    else:
        for kind, entries in found.items():
            print(f"{kind}:")
            width = max((len(name) for name in entries), default=0)
            for name, summary in entries.items():
                print(f"  {name:<{width}}  {summary}")


def _list_machine(json: bool) -> None:
    """Print what this machine's processors and CUDA devices can train in; the one listing that imports torch."""
    import torch

    from epsgrid.trials.device import computes_in_bfloat16, describe

    devices = [torch.device("cpu"), *(torch.device("cuda", index) for index in range(torch.cuda.device_count()))]
    rows = [(str(device), describe(device), computes_in_bfloat16(device)) for device in devices]
    if json:
        listed = [{"device": name, "description": words, "bfloat16": fast} for name, words, fast in rows]
        print_json({"torch": torch.__version__, "devices": listed})
        return
    columns = ("device", f"seen by torch {torch.__version__}", "training.precision")
    shown = [(name, words, "float32, bfloat16" if fast else "float32") for name, words, fast in rows]
    show_parts(table(columns, shown, range(len(columns))))
