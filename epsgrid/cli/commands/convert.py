"""`epsgrid convert EPSILON --from NAME [--to NAME]`."""

from __future__ import annotations

import math
from typing import Annotated

import typer

from epsgrid.cli.console import err, hint, print_json
from epsgrid.cli.options import JsonOption
from epsgrid.cli.tables import show, table
from epsgrid.errors import SpecError
from epsgrid.numerics import placement as numerics
from epsgrid.numerics.placement import OutOfRangeError, Placement
from epsgrid.numerics.precision import power, underflow_warning
from epsgrid.optimizers._conversion import convertible, placement_of


def convert(
    epsilon: Annotated[float, typer.Argument(metavar="EPSILON", help="ε of the first optimizer, such as 1e-8.")],
    source: Annotated[
        str, typer.Option("--from", metavar="NAME", help="The optimizer it is for: ours, or such as keras-adam.")
    ],
    target: Annotated[
        str | None, typer.Option("--to", metavar="NAME", help="The optimizer to convert it for.  [default: all]")
    ] = None,
    beta2: Annotated[
        float | None, typer.Option(metavar="BETA", help="Decay of v in both.  [default: each optimizer's own]")
    ] = None,
    step: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Step at which to convert.  [default: the long run]")
    ] = None,
    dtype: Annotated[
        str,
        typer.Option(metavar="TYPE", help="Type of the optimizer's state; an ε too small for it causes a warning."),
    ] = "float32",
    json: JsonOption = False,
) -> None:
    """Convert an ε between optimizers and frameworks.

    Optimizers add ε at different places: outside the root, inside it, into v at every step, before or after the bias
    correction. The ε printed stands in the same proportion to the gradients. Where a bias correction matters that
    depends on the step; in the long run it does not.
    """
    at = math.inf if step is None else float(step)
    place = placement_of(source, beta2, at)
    found: dict[str, tuple[Placement, float | None]] = {}
    for name in [target] if target else convertible():
        there = placement_of(name, beta2, at)
        try:
            found[name] = (there, numerics.convert(epsilon, place, there))
        except ValueError as error:
            is_out_of_range = isinstance(error, OutOfRangeError)
            if target or not (is_out_of_range or math.isinf(there.per_gradient)):
                hint_at = "; give --step" if "step" in str(error) and not is_out_of_range else ""
                raise SpecError(f"{error}{hint_at}") from error
            found[name] = (there, None)
    try:
        values = (epsilon, *(value for _, value in found.values() if value is not None))
        warnings = list(dict.fromkeys(filter(None, (underflow_warning(value, dtype) for value in values))))
    except ValueError as error:
        raise SpecError(f"--dtype: {error}") from error
    if json:
        document = {
            "epsilon": epsilon,
            "from": {"name": source, "placement": place.description},
            "to": {name: {"epsilon": value, "placement": there.description} for name, (there, value) in found.items()},
            "beta2": beta2,
            "step": step,
            "warnings": warnings,
        }
        print_json(document)
        return
    if target:
        there, converted = found[target]
        assert converted is not None
        print(power(converted, 6))
        hint("the same in the long run:" if step is None else f"the same at step {step:,}:")
        for name, placement, value in ((source, place, epsilon), (target, there, converted)):
            hint(f"  {name}: ε = {power(value, 6)} {placement.description}")
    else:
        rows = []
        for name, (there, found_value) in found.items():
            missing = "needs --step" if math.isinf(there.per_gradient) else "out of range"
            rows.append((name, missing if found_value is None else power(found_value, 6), there.description))
        show(table(("optimizer", "ε", "where it enters"), rows, (0, 1, 2)))
    for line in warnings:
        err().print(f"warning: {line}", markup=False)
