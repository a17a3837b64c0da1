"""Adam with an ε for each kind of layer, or each layer, from measured bounds: an optimizer that has no ε to tune.

    optimizer: {name: "adam_by_group:BY_KIND", bounds: runs-claims/claims-digits-adam/bounds.json}

The groups are those of `bounds.epsilon_groups()`: each gets the largest ε that does not shorten its steps.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import torch

from epsgrid.numerics.bounds import EpsilonBounds
from epsgrid.numerics.scaling import NoScaling
from epsgrid.optimizers._shared import AdamOptions


class _ByGroup:
    """The plug-in; the layers of bounds are in the order of the model's parameters."""

    DEFAULT_EPSILON = None
    SCALING = NoScaling("its ε were measured at one batch size")

    class Options(AdamOptions):
        """Adam's options, and a file of bounds as a probe stores them."""

        bounds: str

    def __init__(self, by: Literal["kind", "layer"]) -> None:
        self._by = by

    def build(
        self, parameters: Iterable[torch.nn.Parameter], options: Any, learning_rate: float, epsilon: float | None
    ) -> torch.optim.Optimizer:
        document = json.loads(Path(options.bounds).read_text(encoding="utf-8"))
        bounds = EpsilonBounds.from_json(document.get("bounds_json", document))
        epsilons = {name: group.epsilon for group in bounds.epsilon_groups(by=self._by) for name in group.layers}
        pairs = zip(bounds.layers, parameters, strict=True)
        groups = [{"params": [parameter], "eps": epsilons[layer.name]} for layer, parameter in pairs]
        return torch.optim.Adam(groups, lr=learning_rate, betas=options.betas, weight_decay=options.weight_decay)


BY_KIND, BY_LAYER = _ByGroup("kind"), _ByGroup("layer")
