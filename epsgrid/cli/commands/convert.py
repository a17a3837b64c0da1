"""`epsgrid convert EPSILON --from NAME [--to NAME]`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from epsgrid.cli.options import JsonOption
from epsgrid.errors import SpecError

if TYPE_CHECKING:
    from epsgrid.numerics.placement import Placement


class Weighed(NamedTuple):
    """An optimizer's name, where it puts ε, and the ε; None where it needs a step, or no float can hold it."""

    name: str
    placement: Placement
    epsilon: float | None


def convert(
    epsilon: Annotated[float, typer.Argument(help="ε as the one optimizer takes it, such as 1e-8.")],
    source: Annotated[
        str, typer.Option("--from", metavar="NAME", help="The optimizer it is for: ours, or such as keras-adam.")
    ],
    target: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="NAME", help="The optimizer to convert it for.  [default: all]", show_default=False
        ),
    ] = None,
    beta2: Annotated[
        float | None,
        typer.Option("--beta2", help="Decay of v in both.  [default: each optimizer's own]", show_default=False),
    ] = None,
    step: Annotated[
        int | None,
        typer.Option("--step", min=1, help="Step at which to convert.  [default: the long run]", show_default=False),
    ] = None,
    dtype: Annotated[
        str, typer.Option("--dtype", help="Type of the optimizer's state; an ε too small for it is warned of.")
    ] = "float32",
    json: JsonOption = False,
) -> None:
    """Convert an ε between optimizers and frameworks.

    Optimizers add ε at different places: outside the root, inside it, into v at every step, before or after the bias
    correction. The ε printed stands in the same proportion to the gradients. Where a bias correction matters that
    depends on the step; in the long run it does not.
    """
    from epsgrid.cli.console import err, print_json
    from epsgrid.optimizers._conversion import convertible, placement_of

    at = math.inf if step is None else float(step)
    given = Weighed(source, placement_of(source, beta2, at), epsilon)
    wanted = [(name, placement_of(name, beta2, at)) for name in ([target] if target else convertible())]
    found = [Weighed(name, place, _converted(given, place, single=bool(target))) for name, place in wanted]
    warnings = _warnings([given, *found], dtype)
    if json:
        print_json(_document(given, found, beta2, step, warnings))
        return
    if target:
        print(f"{found[0].epsilon:.6g}")
        err().print(_explanation(given, found[0], step), style="dim")
    else:
        _print_all(found)
    for line in warnings:
        err().print(f"warning: {line}")


def _converted(given: Weighed, target: Placement, *, single: bool) -> float | None:
    """Convert; among all targets, one that needs a step, or lies outside of double precision, is left open."""
    from epsgrid.numerics.placement import OutOfRangeError, convert

    assert given.epsilon is not None
    if not single and math.isinf(target.per_gradient):
        return None
    try:
        return convert(given.epsilon, given.placement, target)
    except OutOfRangeError as error:
        if not single:
            return None
        raise SpecError(str(error)) from error
    except ValueError as error:
        raise SpecError(f"{error}; give --step" if "step" in str(error) else str(error)) from error


def _warnings(all_weighed: Sequence[Weighed], dtype: str) -> list[str]:
    from epsgrid.numerics.precision import underflow_warning

    values = [weighed.epsilon for weighed in all_weighed if weighed.epsilon is not None]
    try:
        lines = [underflow_warning(value, dtype) for value in values]
    except ValueError as error:
        raise SpecError(f"--dtype: {error}") from error
    return list(dict.fromkeys(line for line in lines if line is not None))


def _explanation(given: Weighed, found: Weighed, step: int | None) -> str:
    """Return the lines that say why the two are the same."""
    lines = ["the same in the long run:" if step is None else f"the same at step {step:,}:"]
    for name, placement, epsilon in (given, found):
        assert epsilon is not None
        weight = f"{placement.compared_with} = {placement.magnitude_from_epsilon(epsilon):.4g}"
        lines.append(f"  {name}: ε = {epsilon:.6g} {placement.description}; weighs as much as {weight}")
    return "\n".join(lines)


def _print_all(found: Sequence[Weighed]) -> None:
    from epsgrid.cli.columns import columns

    rows = [("optimizer", "ε", "where it enters")]
    for name, placement, epsilon in found:
        open_for = "needs --step" if math.isinf(placement.per_gradient) else "out of range"
        rows.append((name, open_for if epsilon is None else f"{epsilon:.6g}", placement.description))
    for line in columns(rows):
        print(line)


def _document(
    given: Weighed, found: Sequence[Weighed], beta2: float | None, step: int | None, warnings: list[str]
) -> dict[str, Any]:
    return {
        "version": 1,
        "epsilon": given.epsilon,
        "from": {"name": given.name, "placement": given.placement.description},
        "to": {each.name: {"epsilon": each.epsilon, "placement": each.placement.description} for each in found},
        "beta2": beta2,
        "step": step,
        "warnings": warnings,
    }
