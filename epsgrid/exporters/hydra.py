"""Hydra: a configuration that makes a run a sweep, of its own sweeper for a grid, of the Optuna plug-in for a range.

The parameters stand under `hydra.sweeper.params`, which sweepers read since Hydra 1.2; the file's package is global, so
that it may lie in any group of the configuration. Hydra's own sweeper knows lists of values alone.
"""

from __future__ import annotations

from typing import Any

import yaml

from epsgrid.exporters._space import Dimension, Space

USAGE = "save it as conf/sweep/epsilon.yaml, then: python train.py +sweep=epsilon"


def export(space: Space) -> str:
    """Return the configuration; a range needs the plug-in hydra-optuna-sweeper."""
    grid = space.kind == "grid"
    config: dict[str, Any] = {} if grid else {"defaults": [{"override /hydra/sweeper": "optuna"}]}
    params = {each.name: _sweep(each, grid=grid) for each in space.dimensions}
    config["hydra"] = {"mode": "MULTIRUN", "sweeper": {"params": params}}
    advice = "" if grid else "# Needs the plug-in: pip install hydra-optuna-sweeper\n"
    return "# @package _global_\n" + space.comment + advice + yaml.safe_dump(config, sort_keys=False, width=1000)


def _sweep(dimension: Dimension, *, grid: bool) -> str | float:
    """Return what Hydra's grammar of overrides has for a dimension."""
    if grid:
        return f"choice({', '.join(map(repr, dimension.values))})"
    if dimension.is_fixed:
        return dimension.low
    return f"tag(log, interval({dimension.low!r}, {dimension.high!r}))"
