"""Arguments that several subcommands share."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from epsgrid.errors import SpecError
from epsgrid.numerics.precision import power
from epsgrid.spec.loading import load_spec

RUNS = Path("runs")


def a_spec(path: Path | None) -> Path | None:
    """Return the path of a spec; an experiment's folder or name is answered with the command that takes it."""
    if path is None or path.is_file():
        return path
    for folder in (path, RUNS / path):
        if (folder / "experiment.json").exists():
            raise SpecError(
                f"{path} is an experiment, and a YAML spec is expected here; `epsgrid sweep --out {folder}` goes on"
                " with the spec that is stored there"
            )
    if path.is_dir():
        raise SpecError(f"{path} is a folder, and a YAML spec is expected here")
    return path


def a_run(path: Path | None) -> Path | None:
    """Return the folder or name of an experiment; a spec is answered with the name of its experiment."""
    if path is not None and path.is_file():
        hint = f": {load_spec(path).experiment}" if path.suffix in (".yaml", ".yml") else ""
        hint = f": {path.parent}" if (path.parent / "experiment.json").exists() else hint
        raise SpecError(f"{path} is a file, and an experiment's folder or name is expected here{hint}")
    return path


def positive(option: typer.CallbackParam, value: float | None) -> float | None:
    """Return the value of an option; what is no positive finite number is a SpecError."""
    if value is not None and not 0 < value < math.inf:
        raise SpecError(f"{option.opts[0]}: expected a positive finite number, got {power(value)}")
    return value


SpecArgument = Annotated[Path, typer.Argument(metavar="SPEC", callback=a_spec, help="YAML spec of the experiment.")]
OptionalSpecArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="SPEC",
        callback=a_spec,
        help="YAML spec; without it, that stored in --out or in the latest experiment.",
    ),
]
RunArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="RUN", callback=a_run, help="The experiment's folder or name; without it, the latest experiment."
    ),
]
OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out", metavar="DIR", envvar="EPSGRID_OUT", help="The experiment's folder.  [default: RUNS/EXPERIMENT]"
    ),
]
RunsOption = Annotated[
    Path,
    typer.Option("--runs", metavar="DIR", envvar="EPSGRID_RUNS", help="Where experiments live; remembers the latest."),
]
OverrideOption = Annotated[
    list[str] | None,
    typer.Option(
        "-o", "--override", metavar="KEY=VALUE", help="Change a field of the spec, as in -o optimizer.betas=[0.9,0.98]."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")]
AllLayersOption = Annotated[
    bool, typer.Option("--all-layers", help="List every layer; a terminal shows 40 of many otherwise.")
]
HalfLifeOption = Annotated[
    bool, typer.Option("--half-life", help="At other batch sizes scale decays as β^κ, which has no largest size.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only results and errors.")]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers",
        "-w",
        metavar="N",
        min=1,
        envvar="EPSGRID_WORKERS",
        help="Trials at once.  [default: one per core or GPU slot]",
    ),
]
