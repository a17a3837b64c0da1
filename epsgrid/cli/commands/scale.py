"""`epsgrid scale SPEC --batch-size N`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from epsgrid.cli.console import hint, print_json
from epsgrid.cli.options import JsonOption, SpecArgument
from epsgrid.errors import SpecError, StoreError
from epsgrid.numerics.scaling import Rule
from epsgrid.spec.loading import load_spec
from epsgrid.stages import scale as stage
from epsgrid.store.atomic import write_text


def scale(
    spec: SpecArgument,
    batch_size: Annotated[int, typer.Option(metavar="N", min=1, help="The new batch size.")],
    rule: Annotated[
        Rule,
        typer.Option(help="The square-root rule, the same without ε, the linear rule of SGD, or only the batch size."),
    ] = "sqrt",
    half_life: Annotated[
        bool, typer.Option("--half-life", help="Scale decays as β^κ, which has no largest κ, and not as 1 − κ·(1 − β).")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write the scaled spec there, not on stdout.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file of -o.")] = False,
    override: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Change a field of the spec before it is scaled.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Scale a spec to another batch size.

    By the square-root rule for Adam and its kin (Malladi et al. 2022): with the batch κ times larger, lr·√κ,
    1 − β times κ and ε/√κ, at the same number of epochs; ε inside the root is divided by κ, ε in place stays, and so
    does coupled weight decay, while decoupled weight decay is multiplied by √κ. The scaled spec is printed with a
    comment above each number that changed.
    """
    if output is not None and "=" in output.name:
        raise SpecError(f"-o is the file to write to here, and {str(output)!r} is none; did you mean --override?")
    if half_life and not rule.startswith("sqrt"):
        raise SpecError(f"--half-life is a form of the square-root rule, and --rule {rule} leaves decays alone")
    if output is not None and output.exists() and not force:
        raise StoreError(f"{output} is there already; --force overwrites it, or choose another name")
    base = load_spec(spec, override or ())
    scaled = stage.renamed(stage.scaled_spec(base, batch_size, rule, half_life=half_life))
    unchecked = stage.check_size(scaled.spec)
    text = stage.annotated_yaml(scaled)
    if output is not None:
        write_text(output, text)
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
    if output is None:
        sys.stdout.write(text)
        return
    for change in scaled.changes:
        hint(f"{change.path}: {change.before} → {change.after} ({change.why})")
    for sentence in scaled.notes:
        hint(f"note: {sentence}")
    hint(f"Written: {output}")
    hint(f"Next: epsgrid probe {output}")
