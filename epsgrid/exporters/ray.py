"""Ray Tune: a Python module with the `param_space` of a Tuner."""

from __future__ import annotations

from epsgrid.exporters._space import Dimension, Space

USAGE = "save it as a module and give PARAM_SPACE to tune.Tuner"

_MODULE = """{comment}
from ray import tune

PARAM_SPACE = {{
{dimensions}}}

# tuner = tune.Tuner(train, param_space=PARAM_SPACE, tune_config=tune.TuneConfig(num_samples={samples}))
# results = tuner.fit()
"""


def export(space: Space) -> str:
    """Return the module."""
    grid = space.kind == "grid"
    dimensions = "".join(f'    "{each.name}": {_domain(each, grid=grid)},\n' for each in space.dimensions)
    # A grid is visited whole for each sample.
    return _MODULE.format(comment=space.comment, dimensions=dimensions, samples=1 if grid else 30)


def _domain(dimension: Dimension, *, grid: bool) -> str:
    if grid:
        return f"tune.grid_search({list(dimension.values)!r})"
    if dimension.is_fixed:  # Tune refuses a range without extent
        return repr(dimension.low)
    return f"tune.loguniform({dimension.low!r}, {dimension.high!r})"
