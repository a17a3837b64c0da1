"""`epsgrid show SPEC`, `epsgrid init [TASK]`, `epsgrid schema` and `epsgrid list [FAMILY]`."""

from __future__ import annotations

import inspect
import json as json_text
import re
import sys
import textwrap
from pathlib import Path
from typing import Annotated

import typer

from epsgrid import plugins
from epsgrid.cli.console import hint, out, print_json
from epsgrid.cli.options import JsonOption, OverrideOption, a_spec
from epsgrid.errors import SpecError, UnknownNameError
from epsgrid.spec.loading import load_spec
from epsgrid.spec.schema import first_spec, reference, spec_schema
from epsgrid.spec.writing import spec_to_yaml

_FAMILIES = ("tasks", "models", "optimizers", "grids", "executors")
_MACHINE = "machine"
_SCHEMA = "epsgrid.schema.json"


def show(
    spec: Annotated[
        Path | None, typer.Argument(metavar="SPEC", callback=a_spec, help="YAML spec of the experiment.")
    ] = None,
    override: OverrideOption = None,
    as_reference: Annotated[
        bool, typer.Option("--reference", help="Print what every key of a spec means, in Markdown; needs no SPEC.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Print the effective spec: every default filled in, every override applied."""
    if as_reference:
        sys.stdout.write(reference())
        return
    if spec is None:
        raise SpecError("a YAML spec is expected, as in `epsgrid show spec.yaml`; `epsgrid init` writes one")
    loaded = load_spec(spec, override or ())
    if json:
        print_json({"spec": loaded.model_dump(mode="json")})
    else:
        sys.stdout.write(spec_to_yaml(loaded))


def init(
    task: Annotated[
        str,
        typer.Argument(
            metavar="TASK",
            autocompletion=lambda: plugins.names("tasks"),
            help="A task, see `epsgrid list tasks`; or your own, as package.module:NAME.",
        ),
    ] = "digits",
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="Where to write.  [default: TASK.yaml]")] = None,
) -> None:
    """Write a spec to start from, with a comment at every key.

    A file that is there already is not overwritten.
    """
    file = file or Path(f"{task.rpartition(':')[2]}.yaml")
    text = first_spec(task, re.sub(r"^[^A-Za-z0-9]+|[^A-Za-z0-9._-]", "", file.stem) or "experiment")
    try:
        with file.open("x", encoding="utf-8") as written:
            written.write(text)
    except FileExistsError:
        raise SpecError(f"{file} exists; name another file: `epsgrid init {task} FILE`") from None
    print(file)
    stages = ("sweep", "report") if plugins.load("tasks", task).Options.trains_itself else ("probe", "sweep", "report")
    commands = "\n".join(f"  epsgrid {stage}{'' if place else f' {file}'}" for place, stage in enumerate(stages))
    hint(
        f"Next: edit it, then\n{commands}\n"
        "For completion in an editor that has a YAML language server:\n"
        f"  epsgrid schema > {_SCHEMA}   and, as the first line of the spec:\n"
        f"  # yaml-language-server: $schema={_SCHEMA}"
    )


def schema() -> None:
    """Print the JSON schema of a spec, by which editors complete and check it."""
    json_text.dump(spec_schema(), sys.stdout, indent=1)
    sys.stdout.write("\n")


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
