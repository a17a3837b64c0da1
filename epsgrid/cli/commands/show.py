"""`epsgrid show SPEC` and `epsgrid list [FAMILY]`."""

from __future__ import annotations

import inspect
import sys
import textwrap
from typing import Annotated

import typer

from epsgrid import plugins
from epsgrid.cli.console import out, print_json
from epsgrid.cli.options import JsonOption, OverrideOption, SpecArgument
from epsgrid.errors import UnknownNameError
from epsgrid.spec.loading import load_spec
from epsgrid.spec.writing import spec_to_yaml

_FAMILIES = ("tasks", "models", "optimizers", "grids", "executors")
_MACHINE = "machine"


def show(spec: SpecArgument, override: OverrideOption = None, json: JsonOption = False) -> None:
    """Print the effective spec: every default filled in, every override applied."""
    loaded = load_spec(spec, override or ())
    if json:
        print_json({"spec": loaded.model_dump(mode="json")})
    else:
        sys.stdout.write(spec_to_yaml(loaded))


def list_plugins(
    family: Annotated[
        str | None,
        typer.Argument(
            metavar="FAMILY",
            autocompletion=lambda: [*_FAMILIES, _MACHINE],
            help=f"{', '.join(_FAMILIES)} or {_MACHINE}; without it, all but {_MACHINE}.",
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """List the names a spec may use, of tasks or optimizers for example; or what this machine trains in."""
    if family is not None and family not in (*_FAMILIES, _MACHINE):
        if f"{family}s" not in _FAMILIES:
            raise UnknownNameError(f"unknown family {family!r}{plugins.suggestion(family, (*_FAMILIES, _MACHINE))}")
        family = f"{family}s"
    if family == _MACHINE:
        _list_machine(json)
        return
    found: dict[str, dict[str, str]] = {}
    for each in [family] if family else _FAMILIES:
        documented = {name: inspect.getdoc(plugins.load(each, name)) or "" for name in plugins.names(each)}
        found[each] = {name: text.partition("\n")[0] for name, text in documented.items()}
    if json:
        print_json(found)
        return
    for kind, entries in found.items():
        print(f"{kind}:")
        width = max(map(len, entries))
        for name, summary in entries.items():
            head = f"  {name:<{width}}  "
            print(textwrap.fill(summary, out().width, initial_indent=head, subsequent_indent=" " * len(head)))


def _list_machine(json: bool) -> None:
    """Print what this machine's processors and CUDA devices can train in; the one listing that imports torch."""
    import torch

    from epsgrid.trials.device import computes_in_bfloat16, describe

    devices = [torch.device("cpu"), *(torch.device("cuda", index) for index in range(torch.cuda.device_count()))]
    rows = [(str(device), describe(device), computes_in_bfloat16(device)) for device in devices]
    if json:
        listed = [{"device": name, "description": text, "bfloat16": fast} for name, text, fast in rows]
        print_json({"torch": torch.__version__, "devices": listed})
        return
    for name, text, fast in rows:
        print(f"{name}: {text}, torch {torch.__version__}; training.precision: float32{', bfloat16' if fast else ''}")
