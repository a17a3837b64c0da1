"""The layers of an optimizer as training goes on: groups are replaced, and parameters are added.

`load_state_dict` puts new parameter groups in place of the old, and `add_param_group` brings more. Layers keep their
places in the list, so that what was counted before still belongs to them; new ones are put at its end.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from epsgrid.observing.adapters import plain
from epsgrid.observing.kinds import kinds_of
from epsgrid.observing.layers import Layer, bare, names_of


class Roster:
    """An optimizer's layers, up to date after each `refresh`.

    Attributes:
        layers: all of them, frozen ones included.
        members: index in `layers`, parameter and group of each that the optimizer holds.
        groups: the optimizer's parameter groups.
        on_cuda: whether one of them lies on a CUDA device.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, layers: Sequence[Layer], model: nn.Module | None) -> None:
        self._optimizer, self._model = optimizer, model
        self.layers = list(layers)
        self.groups: list[dict[str, Any]] = []
        self.members: list[tuple[int, torch.Tensor, dict[str, Any]]] = []
        self.on_cuda = False
        self._ids: list[int] = []
        self.refresh()

    def refresh(self) -> None:
        """Take over what has changed in the optimizer's parameter groups; mostly nothing, and that is told quickly."""
        if not self._has_changed():
            return
        self.groups = list(self._optimizer.param_groups)
        held = {id(parameter): group for group in self.groups for parameter in group["params"]}
        self._list_new_ones(held)
        self.layers = [replace(layer, group=held.get(id(layer.parameter))) for layer in self.layers]
        self.members = [
            (place, layer.parameter, layer.group) for place, layer in enumerate(self.layers) if layer.group is not None
        ]
        self.on_cuda = any(parameter.is_cuda for _, parameter, _ in self.members)
        for group in self.groups:
            plain(group)  # reads betas that lie on a device now, so that no observed step waits for them

    def _has_changed(self) -> bool:
        groups = self._optimizer.param_groups
        if len(groups) != len(self.groups) or not all(map(operator.is_, groups, self.groups)):
            return True
        ids = [id(parameter) for group in groups for parameter in group["params"]]
        if ids == self._ids:
            return False
        self._ids = ids
        return True

    def _list_new_ones(self, held: Mapping[int, dict[str, Any]]) -> None:
        """Give each parameter that is not listed a name and a kind, and a place in the list."""
        known = {id(layer.parameter) for layer in self.layers}
        names = self._names()
        found: dict[str, torch.Tensor] = {}
        for number, group in enumerate(self.groups):
            for position, parameter in enumerate(group["params"]):
                if id(parameter) not in known:
                    found[names.get(id(parameter), f"group {number}, parameter {position}")] = parameter
        kinds = kinds_of(found, self._model) if found else {}
        places = {layer.name: place for place, layer in enumerate(self.layers) if id(layer.parameter) not in held}
        for name, parameter in found.items():
            layer = Layer(name, parameter, None, kinds[name])
            if name in places:  # another tensor has taken the place of the one that had this name
                self.layers[places[name]] = layer
            else:
                self.layers.append(layer)

    def _names(self) -> dict[int, str]:
        """Return the names of all parameters that anything names: the model, else the optimizer's groups."""
        if self._model is not None:
            return {id(parameter): name for name, parameter in names_of(self._optimizer, model=self._model).items()}
        named = [
            (name, id(parameter))
            for group in self.groups
            for name, parameter in zip(group.get("param_names", ()), group["params"], strict=False)
        ]
        return dict(zip([key for _, key in named], bare(name for name, _ in named), strict=True))
