"""`epsgrid export bounds [RUN] --to TOOL` and `epsgrid export groups [RUN]`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from epsgrid.cli.console import hint, note
from epsgrid.cli.options import RUNS, OutOption, QuietOption, RunArgument, RunsOption, positive
from epsgrid.exporters._space import Kind
from epsgrid.numerics.bounds import BoundsChoice
from epsgrid.numerics.groups import GroupsBy
from epsgrid.selection.load import code_changes, code_now, read_experiment
from epsgrid.stages import export as stage
from epsgrid.stages.experiment import find_run

_PredictedOption = Annotated[
    bool, typer.Option("--predicted", help="The bounds that `probe --vary KEY=LIST --predict N` predicted last.")
]


def export_bounds(
    to: Annotated[str, typer.Option(metavar="TOOL", help="optuna, ray, wandb, hydra or json.")],
    run: RunArgument = None,
    space: Annotated[Kind, typer.Option(help="The range between the bounds, or its decades.")] = "log-uniform",
    bounds: Annotated[
        BoundsChoice | None,
        typer.Option(help="Without entries that are only rounding noise, or as published.  [spec: sweep.bounds]"),
    ] = None,
    predicted: _PredictedOption = False,
    framework: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Whose ε: keras, optax, fairseq, or an optimizer that `epsgrid convert` knows.  [default: torch]",
        ),
    ] = None,
    epsilon_name: Annotated[
        str, typer.Option(metavar="NAME", help="Name of ε in your training, as in optimizer.eps.")
    ] = "eps",
    lr_name: Annotated[
        str, typer.Option(metavar="NAME", help="Name of the learning rate there, as in optimizer.lr.")
    ] = "lr",
    out: OutOption = None,
    runs: RunsOption = RUNS,
    quiet: QuietOption = False,
) -> None:
    """Write the measured bounds of ε as the search space of another tool.

    It holds ε between the bounds, in the optimizer's own ε or in that of another framework, and the learning rates of
    the spec; a comment on top says where the numbers come from.
    """
    folder = find_run(run or out, runs)
    found, text, usage = stage.export_bounds(
        folder,
        to,
        space,
        bounds=bounds,
        predicted=predicted,
        framework=framework,
        names=(epsilon_name, lr_name),
    )
    sys.stdout.write(text)
    for sentence in code_changes(folder, code_now(folder, read_experiment(folder))):
        note(sentence)
    trust = found.measured["reliability"]
    if trust is not None and trust["verdict"] != "high":
        note(f"the reliability of these bounds is {trust['verdict']}: {trust['reasons'][0]}")
    if not quiet:
        hint(f"Next: {usage}")


def export_groups(
    run: RunArgument = None,
    by: Annotated[GroupsBy, typer.Option(help="An ε for each kind of layer, or for each layer.")] = "kind",
    predicted: _PredictedOption = False,
    epsilon: Annotated[
        float | None,
        typer.Option(
            metavar="EPS",
            callback=positive,
            help="The ε that all layers have now.  [default: the spec's default_epsilon]",
        ),
    ] = None,
    out: OutOption = None,
    runs: RunsOption = RUNS,
    quiet: QuietOption = False,
) -> None:
    """Write an ε for each group of layers, as a Python module with ready parameter groups.

    Each group gets the largest ε, a power of ten, that does not shorten its steps; comments say what that changes.
    """
    _, text = stage.export_groups(find_run(run or out, runs), by, epsilon, predicted=predicted)
    sys.stdout.write(text)
    if not quiet:
        hint("Next: save it as groups.py and call torch.optim.Adam(groups.param_groups(model), lr=...)")
