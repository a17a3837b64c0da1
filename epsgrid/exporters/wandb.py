"""Weights & Biases: the YAML that `wandb sweep FILE` takes."""

from __future__ import annotations

from typing import Any

import yaml

from epsgrid.exporters._space import Dimension, Space

USAGE = "set program in it, then: wandb sweep FILE"


def export(space: Space) -> str:
    """Return the configuration of a sweep; `program` is the user's to change."""
    grid = space.kind == "grid"
    config = {
        "program": "train.py",
        "method": "grid" if grid else "random",
        "parameters": {each.name: _parameter(each, grid=grid) for each in space.dimensions},
    }
    # The library writes 1e-08 as 1.0e-08: without the point, YAML 1.1 would have it a text.
    return space.comment + yaml.safe_dump(config, sort_keys=False)


def _parameter(dimension: Dimension, *, grid: bool) -> dict[str, Any]:
    if grid:
        return {"values": list(dimension.values)}
    if dimension.is_fixed:
        return {"value": dimension.low}
    return {"distribution": "log_uniform_values", "min": dimension.low, "max": dimension.high}
