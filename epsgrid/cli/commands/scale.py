"""`epsgrid scale SPEC --batch-size N` and `epsgrid scale --bounds bounds.json --batch-size N`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from epsgrid.cli.options import JsonOption
from epsgrid.errors import SpecError, StoreError

if TYPE_CHECKING:
    from epsgrid.stages.scale import Scaled
    from epsgrid.stages.scale_bounds import CarriedBounds


_COLUMNS = ("magnitude", "epsilon", "decade")


class RuleName(StrEnum):
    """The rules by name; `epsgrid.numerics.scaling` has the same ones."""

    SQRT = "sqrt"
    SQRT_KEEP_EPSILON = "sqrt-keep-epsilon"
    LINEAR = "linear"
    NONE = "none"


def scale(
    batch_size: Annotated[int, typer.Option("--batch-size", metavar="N", min=1, help="The batch size to carry to.")],
    spec: Annotated[
        Path | None, typer.Argument(metavar="[SPEC]", help="YAML spec to scale; or give --bounds.", show_default=False)
    ] = None,
    bounds: Annotated[
        Path | None,
        typer.Option("--bounds", metavar="FILE", help="Carry the bounds in this bounds.json.", show_default=False),
    ] = None,
    rule: Annotated[
        RuleName,
        typer.Option(
            "--rule", help="The square-root rule, the same without ε, the linear rule of SGD, or only the batch size."
        ),
    ] = RuleName.SQRT,
    half_life: Annotated[
        bool, typer.Option("--half-life", help="Scale decays as β^κ, which has no largest κ, and not as 1 − κ·(1 − β).")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="FILE", help="Write the scaled spec there, not on stdout.", show_default=False
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file of -o.")] = False,
    override: Annotated[
        list[str] | None,
        typer.Option("--override", metavar="KEY=VALUE", help="Change a field of the spec before it is scaled."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Carry a spec, or measured bounds of ε, to another batch size.

    By the square-root rule for Adam and its kin (Malladi et al. 2022): with the batch κ times larger, lr·√κ,
    1 − β times κ and ε/√κ, at the same number of epochs; ε inside the root is divided by κ, ε in place stays, and so
    does coupled weight decay, while decoupled weight decay is multiplied by √κ. The scaled spec is printed with a
    comment above each number that moved.
    """
    _check_arguments(spec, bounds, output, override or ())
    if half_life and not rule.value.startswith("sqrt"):
        raise SpecError(f"--half-life is a form of the square-root rule, and --rule {rule.value} leaves decays alone")
    if bounds is not None:
        _scale_bounds(bounds, batch_size, rule, half_life=half_life, json=json)
    else:
        assert spec is not None
        _scale_spec(spec, override or (), batch_size, rule, output, half_life=half_life, force=force, json=json)


def _check_arguments(spec: Path | None, bounds: Path | None, output: Path | None, overrides: Sequence[str]) -> None:
    if (spec is None) == (bounds is None):
        raise SpecError("expected a SPEC to scale or --bounds FILE to carry, one of the two")
    if bounds is not None and (output is not None or overrides):
        raise SpecError("-o and --override are for a SPEC; carried bounds are printed, with --json as a document")
    if output is not None and "=" in output.name:
        raise SpecError(f"-o is the file to write to here, and {str(output)!r} is none; did you mean --override?")


def _scale_spec(
    path: Path,
    overrides: Sequence[str],
    batch_size: int,
    rule: RuleName,
    output: Path | None,
    *,
    half_life: bool,
    force: bool,
    json: bool,
) -> None:
    from epsgrid.cli.console import err, print_json
    from epsgrid.spec import load_spec
    from epsgrid.stages import scale as stage
    from epsgrid.store.atomic import write_text

    if output is not None and output.exists() and not force:
        raise StoreError(f"{output} is there already; --force overwrites it, or choose another name")
    base = load_spec(path, overrides)
    scaled = stage.renamed(stage.scaled_spec(base, batch_size, rule.value, half_life=half_life))
    unknown = stage.unchecked_size(scaled.spec)
    text = stage.annotated_yaml(scaled)
    if output is not None:
        write_text(output, text)
    if json:
        print_json(_document(base.training.batch_size, scaled, unknown))
    elif output is None:
        sys.stdout.write(text)
    if not json:
        for line in _told(scaled, unknown, output):
            err().print(line, style="dim", markup=False)


def _told(scaled: Scaled, unknown: str | None, output: Path | None) -> list[str]:
    """Return what stderr says: where the file is, what moved where nobody has seen the YAML, and the next command."""
    lines = [] if unknown is None else [f"note: {unknown}"]
    if output is None:
        return lines
    lines += [f"{change.path}: {change.before} → {change.after} ({change.why})" for change in scaled.changes]
    lines += [f"note: {note}" for note in scaled.notes]
    return [*lines, f"Written: {output}", f"Next: epsgrid probe {output}"]


def _document(base: int, scaled: Scaled, unknown: str | None) -> dict[str, Any]:
    return {
        "version": 1,
        "rule": scaled.rule,
        "kappa": scaled.kappa,
        "base_batch_size": base,
        "batch_size": scaled.spec.training.batch_size,
        "changes": [asdict(change) for change in scaled.changes],
        "notes": [*scaled.notes, *([] if unknown is None else [unknown])],
        "spec": scaled.spec.model_dump(mode="json"),
    }


def _scale_bounds(path: Path, batch_size: int, rule: RuleName, *, half_life: bool, json: bool) -> None:
    from epsgrid.cli.console import err, print_json
    from epsgrid.stages.scale_bounds import carried_bounds
    from epsgrid.store.records import ProbeRecord

    carried = carried_bounds(ProbeRecord.read(path), batch_size, rule.value, half_life=half_life)
    if json:
        print_json({"version": 1, "rule": rule.value, **asdict(carried)})
        return
    _print_bounds(carried)
    for note in carried.notes:
        err().print(f"note: {note}", style="dim", markup=False)


def _print_bounds(carried: CarriedBounds) -> None:
    from epsgrid.cli.columns import columns

    print(
        f"{carried.optimizer}: batch {carried.base:,} → {carried.batch_size:,}, κ = {carried.kappa:.6g};"
        f" {carried.conversion[0]} becomes {carried.conversion[1]}"
    )
    rows: list[tuple[str, ...]] = [("bound", "√v̂ then", "now", "ε then", "now", "decade then", "now")]
    for name, bound in (("low", carried.low), ("high", carried.high)):
        pairs = ((getattr(end, key) for end in (bound.measured, bound.carried)) for key in _COLUMNS)
        rows.append((name, *(f"{value:.4g}" for pair in pairs for value in pair)))
    for line in columns(rows):
        print(line)
