"""`epsgrid export bounds [RUN] --to TOOL`."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from epsgrid.cli.options import RUNS, OutOption, QuietOption, RunsOption

HELP = "Hand measured bounds over to other tools."


class Kind(StrEnum):
    """What the space is made of."""

    LOG_UNIFORM = "log-uniform"
    GRID = "grid"


def export_bounds(
    to: Annotated[str, typer.Option("--to", metavar="TOOL", help="optuna, ray, wandb, hydra or json.")],
    run: Annotated[
        Path | None,
        typer.Argument(metavar="[RUN]", help="The experiment's folder or name; without it, the latest experiment."),
    ] = None,
    space: Annotated[Kind, typer.Option("--space", help="The range between the bounds, or its decades.")] = (
        Kind.LOG_UNIFORM
    ),
    framework: Annotated[
        str | None,
        typer.Option(
            "--framework",
            metavar="NAME",
            help="Whose ε: keras, optax, fairseq, or an optimizer that `epsgrid convert` knows.  \\[default: torch]",
            show_default=False,
        ),
    ] = None,
    epsilon_name: Annotated[
        str, typer.Option("--epsilon-name", metavar="NAME", help="What your training calls ε, as in optimizer.eps.")
    ] = "eps",
    lr_name: Annotated[
        str, typer.Option("--lr-name", metavar="NAME", help="What it calls the learning rate, as in optimizer.lr.")
    ] = "lr",
    file: Annotated[
        Path | None,
        typer.Option("-o", "--file", metavar="FILE", help="Write it there, not on stdout.", show_default=False),
    ] = None,
    out: OutOption = None,
    runs: RunsOption = RUNS,
    quiet: QuietOption = False,
) -> None:
    """Write the measured bounds of ε as the search space of another tool.

    ε between the bounds, in the optimizer's own ε or in that of another framework, and the learning rates of the spec;
    where the numbers come from stands on top.
    """
    from epsgrid.cli.console import err
    from epsgrid.stages import export as stage
    from epsgrid.stages.inspect import find_run
    from epsgrid.store.atomic import write_text

    made = stage.export_bounds(
        find_run(run or out, runs),
        to,
        space.value,
        framework=framework,
        epsilon_name=epsilon_name,
        learning_rate_name=lr_name,
    )
    if file is None:
        sys.stdout.write(made.text)
    else:
        write_text(file, made.text)
        print(file)
    trust = made.space.measured["reliability"]
    if trust is not None and trust["verdict"] != "high":
        err().print(f"Note: confidence in these bounds is {trust['verdict']}: {trust['reasons'][0]}", style="yellow")
    if not quiet:
        err().print(f"Next: {made.usage}", style="dim")
