"""Ray Tune: a Python module with the `param_space` of a Tuner."""

from __future__ import annotations

from epsgrid.exporters._space import Dimension, Space

USAGE = "save it as a module and give PARAM_SPACE to tune.Tuner"


def export(space: Space) -> str:
    """Return the module."""
    grid = space.kind == "grid"
    lines = "".join(f'    "{each.name}": {_domain(each, grid=grid)},\n' for each in space.dimensions)
    return f"{space.comment}\nfrom ray import tune\n\nPARAM_SPACE = {{\n{lines}}}\n"


def _domain(dimension: Dimension, *, grid: bool) -> str:
    if grid:
        return f"tune.grid_search({list(dimension.values)!r})"
    if dimension.is_fixed:  # Tune refuses a range without extent
        return repr(dimension.low)
    return f"tune.loguniform({dimension.low!r}, {dimension.high!r})"
