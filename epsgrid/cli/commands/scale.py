"""`epsgrid scale SPEC --batch-size N`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from epsgrid.cli.console import hint, print_json
from epsgrid.cli.options import HalfLifeOption, JsonOption, OverrideOption, SpecArgument
from epsgrid.errors import SpecError
from epsgrid.numerics.scaling import Rule
from epsgrid.spec.loading import load_spec
from epsgrid.stages import scale as stage


def scale(
    spec: SpecArgument,
    batch_size: Annotated[int, typer.Option(metavar="N", min=1, help="The new batch size.")],
    rule: Annotated[
        Rule,
        typer.Option(help="The square-root rule, the same without ε, the linear rule of SGD, or only the batch size."),
    ] = "sqrt",
    half_life: HalfLifeOption = False,
    override: OverrideOption = None,
    json: JsonOption = False,
) -> None:
    """Scale a spec to another batch size.

    By the square-root rule for Adam and its kin (Malladi et al. 2022): with the batch κ times larger, lr·√κ,
    1 − β times κ and ε/√κ, at the same number of epochs; ε inside the root is divided by κ, ε in place stays, and so
    does coupled weight decay, while decoupled weight decay is multiplied by √κ. AdaBelief's learning rate and ε follow
    the noise of g − m as well, which changes with β₁. The scaled spec is printed below comments that say what changed
    and why.
    """
    if half_life and not rule.startswith("sqrt"):
        raise SpecError(f"--half-life is a form of the square-root rule, and --rule {rule} leaves decays alone")
    base = load_spec(spec, override or ())
    scaled = stage.renamed(stage.scaled_spec(base, batch_size, rule, half_life=half_life))
    unchecked = stage.check_size(scaled.spec)
    if json:
        document = {
            "rule": scaled.rule,
            "kappa": scaled.kappa,
            "base_batch_size": base.training.batch_size,
            "batch_size": scaled.spec.training.batch_size,
            "changes": [asdict(change) for change in scaled.changes],
            "notes": [*scaled.notes, *([] if unchecked is None else [unchecked])],
            "spec": scaled.spec.model_dump(mode="json"),
        }
        print_json(document)
        return
    if unchecked is not None:
        hint(f"note: {unchecked}")
    sys.stdout.write(stage.annotated_yaml(scaled))
