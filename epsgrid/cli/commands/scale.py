"""`epsgrid scale SPEC --batch-size N` and `epsgrid scale --bounds bounds.json --batch-size N`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from epsgrid.cli.console import hint, print_json
from epsgrid.cli.options import JsonOption
from epsgrid.cli.tables import show, table
from epsgrid.errors import SpecError, StoreError
from epsgrid.numerics.scaling import Rule
from epsgrid.selection.formatting import power
from epsgrid.spec.loading import load_spec
from epsgrid.stages import scale as stage
from epsgrid.store.atomic import write_text
from epsgrid.store.records import ProbeRecord


def scale(
    batch_size: Annotated[int, typer.Option(metavar="N", min=1, help="The new batch size.")],
    spec: Annotated[Path | None, typer.Argument(metavar="[SPEC]", help="YAML spec to scale; or give --bounds.")] = None,
    bounds: Annotated[Path | None, typer.Option(metavar="FILE", help="Scale the bounds in this bounds.json.")] = None,
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
    """Scale a spec, or measured bounds of ε, to another batch size.

    By the square-root rule for Adam and its kin (Malladi et al. 2022): with the batch κ times larger, lr·√κ,
    1 − β times κ and ε/√κ, at the same number of epochs; ε inside the root is divided by κ, ε in place stays, and so
    does coupled weight decay, while decoupled weight decay is multiplied by √κ. The scaled spec is printed with a
    comment above each number that changed.
    """
    if (spec is None) == (bounds is None):
        raise SpecError("expected a SPEC to scale or --bounds FILE to carry, one of the two")
    if bounds is not None and (output is not None or override):
        raise SpecError("-o and --override are for a SPEC; scaled bounds are printed, with --json as a document")
    if output is not None and "=" in output.name:
        raise SpecError(f"-o is the file to write to here, and {str(output)!r} is none; did you mean --override?")
    if half_life and not rule.startswith("sqrt"):
        raise SpecError(f"--half-life is a form of the square-root rule, and --rule {rule} leaves decays alone")
    if output is not None and output.exists() and not force:
        raise StoreError(f"{output} is there already; --force overwrites it, or choose another name")
    if bounds is not None:
        _scale_bounds(bounds, batch_size, rule, half_life=half_life, json=json)
    else:
        assert spec is not None
        _scale_spec(spec, override or (), batch_size, rule, output, half_life=half_life, json=json)


def _scale_spec(
    path: Path,
    overrides: Sequence[str],
    batch_size: int,
    rule: Rule,
    output: Path | None,
    *,
    half_life: bool,
    json: bool,
) -> None:
    base = load_spec(path, overrides)
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


def _scale_bounds(path: Path, batch_size: int, rule: Rule, *, half_life: bool, json: bool) -> None:
    scaled = stage.scaled_bounds(ProbeRecord.read(path), batch_size, rule, half_life=half_life)
    if json:
        print_json({"rule": rule, **asdict(scaled)})
        return
    show(
        f"{scaled.optimizer}: batch {scaled.base:,} → {scaled.batch_size:,}, κ = {scaled.kappa:.6g};"
        f" {scaled.conversion[0]} becomes {scaled.conversion[1]}"
    )
    rows = []
    for name, bound in (("low", scaled.low), ("high", scaled.high)):
        old, new = bound["measured"], bound["carried"]
        values = (old.magnitude, new.magnitude, old.epsilon, new.epsilon, old.decade, new.decade)
        rows.append((name, *map(power, values)))
    show(table(("bound", "√v̂ then", "now", "ε then", "now", "decade then", "now"), rows))
    for sentence in scaled.notes:
        hint(f"note: {sentence}")
