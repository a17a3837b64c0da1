"""`epsgrid list [FAMILY]`."""

from __future__ import annotations

import inspect
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


def list_plugins(
    family: Annotated[Family | None, typer.Argument(help="List only these.", show_default=False)] = None,
    json: JsonOption = False,
) -> None:
    """List the names a spec may use: tasks, models, optimizers, grids, executors."""
    from epsgrid import plugins
    from epsgrid.cli.console import print_json

    families = [family] if family else list(Family)
    found = {each.value: {name: _summary(each.value, name) for name in plugins.names(each.value)} for each in families}
    if json:
        print_json({"version": 1, **found})
        return
    for kind, entries in found.items():
        print(f"{kind}:")
        width = max((len(name) for name in entries), default=0)
        for name, summary in entries.items():
            print(f"  {name:<{width}}  {summary}")


def _summary(family: str, name: str) -> str:
    from epsgrid import plugins

    text = inspect.getdoc(plugins.load(family, name)) or ""
    return text.partition("\n")[0]
