"""`epsgrid list [FAMILY]`."""

from __future__ import annotations

import inspect
import math
from enum import StrEnum
from typing import Annotated

import typer

from epsgrid.cli.options import JsonOption


class Family(StrEnum):
    """What can be listed."""

    tasks = "tasks"
    models = "models"
    optimizers = "optimizers"
    grids = "grids"
    executors = "executors"
    machine = "machine"


def list_plugins(
    family: Annotated[Family | None, typer.Argument(help="List only these.", show_default=False)] = None,
    json: JsonOption = False,
) -> None:
    """List the names a spec may use: tasks, models, optimizers, grids, executors; or what this machine trains on.

    Of optimizers asked for alone it tells where each puts its ε, what ε is compared with there, and the ε that a bound
    b becomes.
    """
    from epsgrid import plugins
    from epsgrid.cli.console import print_json

    if family is Family.machine:
        _list_machine(json)
        return
    families = [family] if family else [each for each in Family if each is not Family.machine]
    found = {each.value: {name: _summary(each.value, name) for name in plugins.names(each.value)} for each in families}
    placements = _placements() if family is Family.optimizers else {}
    if json:
        print_json({"version": 1, **found, **({"placements": placements} if placements else {})})
        return
    if placements:
        _print_placements(placements)
        return
    for kind, entries in found.items():
        print(f"{kind}:")
        width = max((len(name) for name in entries), default=0)
        for name, summary in entries.items():
            print(f"  {name:<{width}}  {summary}")


def _list_machine(json: bool) -> None:
    """Print what this machine's processors and CUDA devices can train in; the one listing that imports torch."""
    import torch

    from epsgrid.cli.columns import columns
    from epsgrid.cli.console import print_json
    from epsgrid.trials.device import computes_in_bfloat16, describe

    devices = [torch.device("cpu"), *(torch.device("cuda", index) for index in range(torch.cuda.device_count()))]
    rows = [(str(device), describe(device), computes_in_bfloat16(device)) for device in devices]
    if json:
        listed = [{"device": name, "description": words, "bfloat16": fast} for name, words, fast in rows]
        print_json({"version": 1, "torch": torch.__version__, "devices": listed})
        return
    precisions = [("device", f"seen by torch {torch.__version__}", "training.precision")]
    precisions += [(name, words, "float32, bfloat16" if fast else "float32") for name, words, fast in rows]
    for line in columns(precisions):
        print(line)


def _placements() -> dict[str, dict[str, str] | None]:
    """Return where every optimizer puts its ε, in words; None for one that has none."""
    from epsgrid import optimizers, plugins

    found: dict[str, dict[str, str] | None] = {}
    for name in plugins.names("optimizers"):
        plugin = optimizers.load(name)
        if not plugin.HAS_EPSILON:
            found[name] = None
            continue
        placement = plugin.placement(plugin.Options(name=name), math.inf)
        found[name] = {
            "where": placement.where,
            "denominator": placement.symbol,
            "compared_with": placement.compared_with,
            "epsilon": placement.formula,
        }
    return found


def _print_placements(placements: dict[str, dict[str, str] | None]) -> None:
    from epsgrid.cli.columns import columns

    rows = [("optimizer", "compared with", "ε for a bound b", "denominator", "where ε enters")]
    for name, place in placements.items():
        cells = (place["compared_with"], place["epsilon"], place["denominator"], place["where"]) if place else None
        rows.append((name, *(cells or ("", "", "", "no ε"))))
    for line in columns(rows):
        print(line)


def _summary(family: str, name: str) -> str:
    from epsgrid import plugins

    text = inspect.getdoc(plugins.load(family, name)) or ""
    return text.partition("\n")[0]
