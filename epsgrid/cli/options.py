"""Arguments that several subcommands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RUNS = Path("runs")

SpecArgument = Annotated[Path, typer.Argument(metavar="SPEC", help="YAML spec of the experiment.")]
OptionalSpecArgument = Annotated[
    Path | None,
    typer.Argument(metavar="SPEC", help="YAML spec; without it, that stored in --out or in the latest experiment."),
]
RunArgument = Annotated[
    Path | None,
    typer.Argument(metavar="RUN", help="The experiment's folder or name; without it, the latest experiment."),
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
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only results and errors.")]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers", "-w", min=1, envvar="EPSGRID_WORKERS", help="Trials at once.  [default: one per core or GPU slot]"
    ),
]
